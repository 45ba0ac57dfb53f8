"""Formats of other tools that `hwbench table import` reads; one module a format."""
