"""A board's /sys and /etc in a folder: real files, so that `ls`, `cat` and an agent see them, and writes that react.

`Tree` holds the files and plays the kernel: a write may be refused, and may move other files, at once or after some
reads. `TreeLink` is a link whose absolute paths lie in a tree. Whole boards are made in `tests/doubles/boards.py`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from hwbench.errors import PermanentDeviceError
from hwbench.link import Completed, LinePipe, Link

React = Callable[[str], None]
_PLACES = ("/sys/", "/etc/", "/proc/device-tree/")
_DENIED = "Permission denied"
_NO_SUDO = "sudo: a password is required"


class Refused(OSError):
    """The kernel's answer to a value that it does not take."""

    def __init__(self) -> None:
        super().__init__(errno.EINVAL, os.strerror(errno.EINVAL))


class Tree:
    """Files of a board under `root`, by the absolute paths that they have there.

    secret: files that root alone may read.  log: (path, text) of each write that was taken.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.secret: set[str] = set()
        self.log: list[tuple[str, str]] = []
        self.programs: dict[str, str] = {}
        self._react: dict[str, React] = {}
        self._later: dict[str, tuple[int, str]] = {}
        self._lies: dict[str, str] = {}

    def file(self, path: str, text: str, *, react: React | None = None, secret: bool = False) -> None:
        """Add a file. react: called with what is written before it is; raises Refused to refuse."""
        real = self.real(path)
        real.parent.mkdir(parents=True, exist_ok=True)
        self.put(path, text)
        if react is not None:
            self._react[path] = react
        if secret:
            self.secret.add(path)

    def real(self, path: str) -> Path:
        """Where that file really lies."""
        return self.root / path.lstrip("/")

    def holds(self, path: str) -> bool:
        """Whether a path of the board is one of the tree's places."""
        return path.startswith(_PLACES)

    def put(self, path: str, text: str, *, after_reads: int = 0) -> None:
        """What the kernel itself changes; `after_reads` lets it be as slow as a board."""
        if after_reads:
            self._later[path] = after_reads, text
            return
        self._later.pop(path, None)
        self.real(path).write_text(f"{self._lies.get(path, text)}\n")

    def get(self, path: str) -> str:
        """A file's text."""
        return self.real(path).read_text().strip()

    def lie(self, path: str, text: str) -> None:
        """From now on that file says this, whatever is written."""
        self._lies[path] = text
        self.put(path, text)

    def looked_at(self, path: str) -> None:
        """Count a read: what was to come later may come now."""
        if path in self._later:
            left, text = self._later.pop(path)
            self.put(path, text, after_reads=left - 1)

    def write(self, path: str, text: str) -> None:
        """What a program writes; OSError as the kernel says."""
        if not self.real(path).is_file():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if path in self._react:
            self._react[path](text)
        else:
            self.put(path, text)
        self.log.append((path, text))


class TreeLink:
    """A link to the board whose files are in `tree`; all else goes through `inner`.

    sudo: whether root is to be had; without it, a board that somebody has not prepared.
    """

    def __init__(self, tree: Tree, inner: Link, *, sudo: bool = True) -> None:
        self.tree, self._inner, self.sudo = tree, inner, sudo
        self.name, self.python = inner.name, inner.python

    def __enter__(self) -> TreeLink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inner.__exit__(kind, error, trace)

    def read(self, path: str, *, max_bytes: int = 1 << 20, timeout_s: float = 10.0) -> bytes:
        """A file, of the tree where it belongs there."""
        if not self.tree.holds(path):
            return self._inner.read(path, max_bytes=max_bytes, timeout_s=timeout_s)
        if path in self.tree.secret:
            raise PermanentDeviceError(f"{self.name}: cannot read {path} ({_DENIED})")
        self.tree.looked_at(path)
        try:
            return self._inner.read(str(self.tree.real(path)), max_bytes=max_bytes, timeout_s=timeout_s)
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error

    def write(self, path: str, data: bytes, *, root: bool = False, timeout_s: float = 10.0) -> None:
        """Write a file; those of the tree are root's."""
        if not self.tree.holds(path):
            self._inner.write(path, data, root=root, timeout_s=timeout_s)
            return
        why = _DENIED if not root else "" if self.sudo else _NO_SUDO
        if not why:
            try:
                self.tree.write(path, data.decode().strip())
            except OSError as error:
                why = f"tee: {path}: {error.strerror}"
        if why:
            raise PermanentDeviceError(f"{self.name}: cannot write {path} ({why})")

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", root: bool = False, timeout_s: float) -> Completed:
        """Run a command: one of the tree's programs, or a real one on the tree's files."""
        if root and not self.sudo:
            return Completed(returncode=1, stdout=b"", stderr=_NO_SUDO.encode())
        inside = [argument for argument in argv if self.tree.holds(argument)]
        if not root and self.tree.secret & set(inside):
            return Completed(returncode=1, stdout=b"", stderr=f"{argv[0]}: {inside[0]}: {_DENIED}".encode())
        for path in inside:
            self.tree.looked_at(path)
        program = self.tree.programs.get(argv[0], argv[0])
        mapped = [program, *(str(self.tree.real(a)) if a in inside else a for a in argv[1:])]
        done = self._inner.run(mapped, stdin=stdin, timeout_s=timeout_s)
        top = str(self.tree.root).encode()
        return Completed(
            returncode=done.returncode,
            stdout=done.stdout.replace(top, b""),
            stderr=done.stderr.replace(top, b""),
        )

    def push(self, file: Path, *, timeout_s: float = 60.0) -> str:
        """As the inner link."""
        return self._inner.push(file, timeout_s=timeout_s)

    def pull(self, path: str, file: Path, *, timeout_s: float = 60.0) -> None:
        """As the inner link."""
        self._inner.pull(path, file, timeout_s=timeout_s)

    def workdir(self) -> str:
        """As the inner link."""
        return self._inner.workdir()

    def spawn(self, argv: Sequence[str], *, env: Mapping[str, str]) -> LinePipe:
        """As the inner link: an agent sees this machine's own files."""
        return self._inner.spawn(argv, env=env)
