"""This machine over a link that can be cut: a plugin for tests that lose a board and look at what happens.

`cut()` ends all dialogues as a broken cable does: the host's calls fail, while the programs on the board run on and
notice nothing. `mend()` makes the next call work again, as a link makes its connection anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hwbench.errors import TransientDeviceError
from hwbench.link import Completed
from hwbench.links.local import LocalLink, Options, ProcessPipe

__all__ = ["Options", "open"]


class CutLink(LocalLink):
    """See the module.  broken: calls that fail before it mends itself; None = until `mend`."""

    name = "cut"

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.down = False
        self.broken: int | None = None
        self.pipes: list[CutPipe] = []
        self.orphans: list[ProcessPipe] = []

    def cut(self, *, calls: int | None = None) -> None:
        """Lose the link, for so many calls."""
        self.down, self.broken = True, calls
        for pipe in self.pipes:
            self.orphans.append(pipe.inner)
            pipe.lost = True
        self.pipes.clear()

    def mend(self) -> None:
        """Let the next call through."""
        self.down = False

    def end(self) -> None:
        """Let the board notice: the programs of lost dialogues see the end of their input."""
        for pipe in self.orphans:
            pipe.close()
        self.orphans.clear()

    def _cross(self) -> None:
        if self.down and self.broken is not None:
            self.broken -= 1
            self.down = self.broken >= 0
        if self.down:
            raise TransientDeviceError("cut: the link is lost")

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", root: bool = False, timeout_s: float) -> Completed:
        self._cross()
        return super().run(argv, stdin=stdin, root=root, timeout_s=timeout_s)

    def read(self, path: str, *, max_bytes: int = 1 << 20, timeout_s: float = 10.0) -> bytes:
        self._cross()
        return super().read(path, max_bytes=max_bytes, timeout_s=timeout_s)

    def write(self, path: str, data: bytes, *, root: bool = False, timeout_s: float = 10.0) -> None:
        self._cross()
        super().write(path, data, root=root, timeout_s=timeout_s)

    def push(self, file: Path, *, timeout_s: float = 60.0) -> str:
        self._cross()
        return super().push(file, timeout_s=timeout_s)

    def pull(self, path: str, file: Path, *, timeout_s: float = 60.0) -> None:
        self._cross()
        super().pull(path, file, timeout_s=timeout_s)

    def spawn(self, argv: Sequence[str], *, env: Mapping[str, str]) -> CutPipe:
        self._cross()
        inner = super().spawn(argv, env=env)
        assert isinstance(inner, ProcessPipe)
        self.pipes.append(CutPipe(inner))
        return self.pipes[-1]


class CutPipe:
    """A dialogue that may be lost."""

    def __init__(self, inner: ProcessPipe) -> None:
        self.inner = inner
        self.lost = False

    @property
    def pid(self) -> int:
        return self.inner.pid

    def send(self, line: bytes) -> None:
        if self.lost:
            raise TransientDeviceError("cut: the link is lost")
        self.inner.send(line)

    def receive(self, timeout_s: float) -> bytes:
        if self.lost:
            raise TransientDeviceError("cut: the link is lost")
        return self.inner.receive(timeout_s)

    def stderr_tail(self) -> str:
        return "" if self.lost else self.inner.stderr_tail()

    def close(self, timeout_s: float = 5.0) -> int | None:
        return None if self.lost else self.inner.close(timeout_s)


def open(options: Options) -> CutLink:
    """Nothing happens yet."""
    return CutLink(options)
