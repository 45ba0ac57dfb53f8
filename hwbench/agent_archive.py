"""Packs the agent into one file that Python runs; equal sources give equal bytes, so a board gets each version once."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

from platformdirs import user_cache_path

_AGENT = Path(__file__).resolve().parent / "agent"
_START = b"import sys\nfrom hwbench.agent.__main__ import main\nsys.exit(main())\n"
_PACKAGE = b'"""The part of hwbench that travels."""\n'


def build(folder: Path | None = None) -> Path:
    """Write the agent as `agent-<sha256>.pyz` and return it; nothing is done when that file is there already.

    folder: None = the user's cache.  Python's own `zipapp` keeps the files' times, which would make the agent of each
    checkout another file; so the archive is written here, every file dated alike.
    """
    folder = folder or user_cache_path("hwbench") / "agent"
    files = {"__main__.py": _START, "hwbench/__init__.py": _PACKAGE}
    for source in sorted(_AGENT.rglob("*.py")):
        files[f"hwbench/agent/{source.relative_to(_AGENT).as_posix()}"] = source.read_bytes()
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    archive = folder / f"agent-{digest.hexdigest()[:16]}.pyz"
    if archive.is_file():
        return archive
    folder.mkdir(parents=True, exist_ok=True)
    part = archive.with_suffix(f".{os.getpid()}.part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in sorted(files.items()):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            out.writestr(entry, data)
    part.replace(archive)
    return archive
