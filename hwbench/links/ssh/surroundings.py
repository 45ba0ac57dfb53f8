"""What every call needs to know of a board; asked once a connection."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass, replace

from hwbench.errors import PermanentDeviceError, TransientDeviceError
from hwbench.links.ssh.connection import Connection
from hwbench.links.ssh.process import Process
from hwbench.links.ssh.scripts import LOOK, MARK, MORE_PATH


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """home, workdir: absolute.  path: the PATH of commands.  has_venv: whether `hwbench setup` made a Python there."""

    home: str
    path: str
    workdir: str
    is_root: bool
    has_venv: bool

    def at(self, path: str) -> str:
        """A path of the options as the board's user means it."""
        return path if path.startswith("/") else f"{self.home}/{path.removeprefix('~/')}"


def look_around(connection: Connection, workdir: str, timeout_s: float) -> Surroundings:
    """Ask it; PermanentDeviceError where the user may not run commands, with what the board says to that."""
    command = ["exec", "sh", "-c", LOOK, "sh", workdir.removeprefix("~/")]
    process = Process(connection.execute(shlex.join(command), timeout_s))
    end = time.monotonic() + timeout_s
    while process.take(max(0.0, end - time.monotonic())):
        pass
    if process.lost or not process.ended:
        raise TransientDeviceError(f"{connection.place}: the connection was lost before its first answer")
    process.close()
    told = bytes(process.output).partition(MARK + b"\n")[2].decode("utf-8", "surrogateescape").splitlines()
    if len(told) < 3:
        said = text_of(process.output + process.errors)[:200]
        raise PermanentDeviceError(f"{connection.place}: commands cannot be run there (it says: {said!r})")
    home, path, user = told[:3]
    found = Surroundings(
        home=home, path=f"{path}:{MORE_PATH}", workdir="", is_root=user == "0", has_venv=told[3:] == ["venv"]
    )
    return replace(found, workdir=found.at(workdir))


def text_of(data: bytes | bytearray) -> str:
    """What a program of the board said, in one line."""
    return " ".join(data.decode("utf-8", "replace").split())
