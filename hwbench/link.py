"""How bytes and commands reach one board: the contract of `links/`.

Every call has a deadline; a lost link is a TransientDeviceError; argv is a list, and quoting is the link's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A finished command on the board."""

    returncode: int
    stdout: bytes
    stderr: bytes


class LinePipe(Protocol):
    """Lines to and from a running process on the board."""

    def send(self, line: bytes) -> None:
        """Write one line (without its newline); TransientDeviceError when the process is gone."""

    def receive(self, timeout_s: float) -> bytes:
        """The next line without its newline, waiting asleep; b"" at end of input.

        Raises TransientDeviceError after `timeout_s`, when a line exceeds 1 MiB or was cut by the end of the process,
        and when the link was lost.
        """

    def stderr_tail(self) -> str:
        """The last lines the process wrote to its error stream, for messages."""

    def close(self, timeout_s: float = 5.0) -> int | None:
        """End input, wait, then kill; returns the exit status where one is known."""


class Link(Protocol):
    """One way to one board (local, ssh, adb); a context manager.

    python: the board's interpreter that has the runtimes and runs the agent.
    What was lost is found again: a call after a TransientDeviceError connects anew, and what a lost connection left
    running on the board is ended before anything else is started there.
    """

    name: str

    @property
    def python(self) -> str:
        """Path or name of that interpreter; a link over a network may connect to learn it."""

    def __enter__(self) -> Link: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", root: bool = False, timeout_s: float) -> Completed:
        """Run a command to its end; a non-zero status is returned, not raised."""

    def read(self, path: str, *, max_bytes: int = 1 << 20, timeout_s: float = 10.0) -> bytes:
        """A file's content; FileNotFoundError when absent, PermanentDeviceError when larger than `max_bytes`."""

    def write(self, path: str, data: bytes, *, root: bool = False, timeout_s: float = 10.0) -> None:
        """Replace a file's content (sysfs files too, so no rename)."""

    def push(self, file: Path, *, timeout_s: float = 60.0) -> str:
        """Content-addressed path on the board; equal content is not sent twice."""

    def pull(self, path: str, file: Path, *, timeout_s: float = 60.0) -> None:
        """Copy a file from the board."""

    def workdir(self) -> str:
        """A folder on the board that is ours: agent, pushed files, lock and restore record."""

    def spawn(self, argv: Sequence[str], *, env: Mapping[str, str]) -> LinePipe:
        """A line pipe to a process; PermanentDeviceError where the program does not exist."""
