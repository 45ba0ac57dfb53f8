"""Installs the stand-in for `benchmark_model` as a program of its own, with the accidents that a test wants."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

_DOUBLE = Path(__file__).with_name("benchmark_model.py")


def install_benchmark_model(file: Path, misbehave: str = "", *, rail: Path | None = None) -> Path:
    """Make `file` the tool; misbehave: words as the double's docstring lists them.  rail: a file that tells power."""
    call = shlex.join([sys.executable, str(_DOUBLE)])
    file.parent.mkdir(parents=True, exist_ok=True)
    told = f"export MISBEHAVE={shlex.quote(misbehave)} RAIL={shlex.quote(str(rail or ''))}"
    file.write_text(f'#!/bin/sh\n{told}\nexec {call} "$@"\n', encoding="utf-8")
    file.chmod(0o755)
    return file
