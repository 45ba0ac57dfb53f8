"""Puts a stand-in for a Raspberry Pi's `vcgencmd` into a folder: it prints what stands in `vcgencmd.d/COMMAND.txt`."""

from __future__ import annotations

import shutil
from pathlib import Path

_RECORDINGS = Path(__file__).resolve().parents[1] / "recordings" / "vcgencmd"
_PROGRAM = """#!/bin/sh
said="$(dirname "$0")/vcgencmd.d/$1.txt"
if [ -f "$said" ]; then cat "$said"; else echo 'error=1 error_msg="Command not registered"'; fi
"""


def install(folder: Path) -> Path:
    """The program; the recordings beside it may be changed, or removed for an older firmware."""
    program = folder / "vcgencmd"
    program.write_text(_PROGRAM)
    program.chmod(0o755)
    said = folder / "vcgencmd.d"
    said.mkdir()
    for file in _RECORDINGS.glob("*.txt"):
        shutil.copy(file, said / file.name)
    return program
