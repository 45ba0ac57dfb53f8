"""Kinds of work that take over a second; each module has `version` and a pure `run(task, rng)`."""
