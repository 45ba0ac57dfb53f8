"""What a number was made with: commit, command, machine, versions. No host name, no user, no secret."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("hwbench-nas", "numpy", "onnx", "onnxruntime", "ai-edge-litert")
_SECRET = re.compile(r"token|passw|secret|credential|api-?key", re.IGNORECASE)


def provenance(argv: Sequence[str] | None = None) -> dict[str, str]:
    """All of it, flat, for a table or a run; what is unknown is left out.

    argv: the command line; None = this process's own.
    """
    parts: dict[str, str | None] = {
        "command": command_line(sys.argv if argv is None else argv),
        "commit": commit(),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **machine(),
        **{f"version.{name}": number for name, number in versions().items()},
    }
    return {name: value for name, value in parts.items() if value}


@lru_cache(maxsize=1)
def commit() -> str | None:
    """The checkout's commit, with `+changes` when tracked files differ from it; None when installed without git."""
    folder = Path(__file__).resolve().parent.parent
    found = checkout(folder) if (folder / ".git").exists() else None
    if found is None:
        return None
    head, changed = found
    return f"{head[:12]}+changes" if changed else head[:12]


def checkout(folder: Path) -> tuple[str, bool] | None:
    """The commit of the checkout that a folder lies in, and whether tracked files differ from it; None without git."""
    try:
        head = _git(folder, "rev-parse", "HEAD")
        return head, bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None


def command_line(argv: Sequence[str]) -> str:
    """The command as one could type it again; the home folder becomes `~`, values of secret options `***`."""
    words: list[str] = []
    hide = False
    for place, word in enumerate(argv):
        if place == 0:
            word = Path(word).name
        name, equals, _ = word.partition("=")
        if hide:
            word, hide = "***", False
        elif name.startswith("-") and _SECRET.search(name):
            word, hide = (f"{name}=***", False) if equals else (word, True)
        words.append(shlex.quote(_without_home(word)))
    return " ".join(words)


@lru_cache(maxsize=1)
def _machine() -> tuple[tuple[str, str], ...]:
    parts = {
        "machine.cpu": _cpu_model(),
        "machine.cores": str(os.cpu_count() or ""),
        "machine.kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "machine.python": platform.python_version(),
    }
    return tuple((name, value) for name, value in parts.items() if value)


def machine() -> Mapping[str, str]:
    """Processor, cores, kernel and Python of this machine."""
    return dict(_machine())


def versions(packages: Sequence[str] = _PACKAGES) -> dict[str, str]:
    """Versions of the installed ones among these packages."""
    found: dict[str, str] = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "Hardware"):
            return value.strip()
    return platform.processor()


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def _without_home(word: str) -> str:
    home = str(Path.home())
    return word.replace(home + os.sep, "~" + os.sep) if len(home) > 1 else word
