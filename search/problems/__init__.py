"""Kinds of problems; one module a kind."""
