"""Knobs of DVFS; one module a kind."""
