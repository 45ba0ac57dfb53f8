"""Runtimes, host half; one module a kind."""
