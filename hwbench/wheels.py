"""Wheels for a board, fetched on this machine: for its Python, its processor and its C library."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from platformdirs import user_cache_path

from hwbench.errors import PermanentDeviceError

# Arguments of a Python that runs pip, here and on the board; a board without internet is to say so soon.
PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input", "--retries", "1", "--timeout", "15")
_FETCH_S = 1800.0


def platforms_of(machine: str, libc: str) -> tuple[str, ...]:
    """Platform tags of wheels that run on a board, best first, from `aarch64` and `glibc 2.31`.

    Source: PEP 600 (manylinux_x_y names the oldest glibc that does), PEP 599 for manylinux2014 = glibc 2.17.
    Raises PermanentDeviceError for a C library that is not glibc.
    """
    name, _, version = libc.partition(" ")
    numbers = version.split(".")
    if name != "glibc" or len(numbers) < 2 or numbers[0] != "2" or not numbers[1].isdigit():
        raise PermanentDeviceError(
            f"the board's C library is {libc or 'unknown'}, and wheels are built for glibc; name [setup] platforms"
        )
    minor = int(numbers[1])
    tags = [f"manylinux_2_{n}_{machine}" for n in range(minor, 4, -1)]
    return (*tags, *([f"manylinux2014_{machine}"] if minor >= 17 else []), f"linux_{machine}")


def fetch(packages: Sequence[str], platforms: Sequence[str], python_version: str) -> list[Path]:
    """Wheels of these packages and of all they need, for a board; kept in the user's cache."""
    asked = json.dumps([list(packages), list(platforms), python_version])
    folder = user_cache_path("hwbench") / "wheels" / hashlib.sha256(asked.encode()).hexdigest()[:16]
    complete = folder / "complete"
    if not complete.exists():
        command = [sys.executable, *PIP, "download", "--quiet", "--dest", str(folder), "--only-binary=:all:"]
        tags = [f"--platform={platform}" for platform in platforms]
        where = ["--implementation=cp", f"--python-version={python_version}"]
        try:
            done = subprocess.run([*command, *where, *tags, *packages], capture_output=True, timeout=_FETCH_S)
        except subprocess.TimeoutExpired as error:
            raise PermanentDeviceError(f"wheels were not fetched within {_FETCH_S:g} s") from error
        if done.returncode != 0:
            raise PermanentDeviceError(
                f"cannot fetch wheels for Python {python_version} on {platforms[-1]} here: {last_words(done.stderr)}"
            )
        complete.write_bytes(b"")
    return sorted(folder.glob("*.whl"))


def last_words(stderr: bytes) -> str:
    """What pip says in the end: its errors, or its last line."""
    lines = [line.strip() for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return " ".join((errors or lines[-1:] or ["it says nothing"])[-2:])[-400:]
