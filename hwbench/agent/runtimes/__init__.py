"""Runtimes, board half; one module a kind, each importing only its own runtime."""
