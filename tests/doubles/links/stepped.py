"""Any link, with a word before each thing that crosses it: a plugin for tests that interfere at a certain step.

`at` of the opened link gets the name of the step: `push`, `read NAME`, `write NAME`, `run PROGRAM`, `spawn`, the
operation of each request to the agent (`hello`, `load`, `window`, …), `reply` before each of its answers, and `bye`
before its end.  `loads` counts how often each workload was loaded.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import BaseModel, ConfigDict

from hwbench import plugin
from hwbench.link import Completed, LinePipe, Link


class Options(BaseModel):
    """inner: the kind of the link that is used; all else are its options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    inner: str


class SteppedLink:
    """See the module."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.at: Callable[[str], None] = lambda step: None
        self.loads = Counter[str]()

    @property
    def name(self) -> str:
        return str(self.inner.name)

    @property
    def python(self) -> str:
        return str(self.inner.python)

    def __enter__(self) -> SteppedLink:
        self.inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.inner.__exit__(kind, error, trace)

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", root: bool = False, timeout_s: float) -> Completed:
        self.at(f"run {argv[0]}")
        done: Completed = self.inner.run(argv, stdin=stdin, root=root, timeout_s=timeout_s)
        return done

    def read(self, path: str, *, max_bytes: int = 1 << 20, timeout_s: float = 10.0) -> bytes:
        self.at(f"read {Path(path).name}")
        return bytes(self.inner.read(path, max_bytes=max_bytes, timeout_s=timeout_s))

    def write(self, path: str, data: bytes, *, root: bool = False, timeout_s: float = 10.0) -> None:
        self.at(f"write {Path(path).name}")
        self.inner.write(path, data, root=root, timeout_s=timeout_s)

    def push(self, file: Path, *, timeout_s: float = 60.0) -> str:
        self.at("push")
        return str(self.inner.push(file, timeout_s=timeout_s))

    def pull(self, path: str, file: Path, *, timeout_s: float = 60.0) -> None:
        self.at("pull")
        self.inner.pull(path, file, timeout_s=timeout_s)

    def workdir(self) -> str:
        return str(self.inner.workdir())

    def spawn(self, argv: Sequence[str], *, env: Mapping[str, str]) -> LinePipe:
        agent = argv[0] == self.python
        if agent:
            self.at("spawn")
        pipe: LinePipe = self.inner.spawn(argv, env=env)
        return SteppedPipe(pipe, self) if agent else pipe


class SteppedPipe:
    """The dialogue with an agent."""

    def __init__(self, inner: Any, link: SteppedLink) -> None:
        self.inner, self._link = inner, link
        self._closed = False

    @property
    def pid(self) -> int:
        return int(self.inner.pid)

    def send(self, line: bytes) -> None:
        asked = json.loads(line)
        if asked["op"] == "load":
            self._link.loads[asked["block_key"]] += 1
        self._link.at(asked["op"])
        self.inner.send(line)

    def receive(self, timeout_s: float) -> bytes:
        self._link.at("reply")
        return bytes(self.inner.receive(timeout_s))

    def stderr_tail(self) -> str:
        return str(self.inner.stderr_tail())

    def close(self, timeout_s: float = 5.0) -> int | None:
        if not self._closed:
            self._closed = True
            self._link.at("bye")
        status: int | None = self.inner.close(timeout_s)
        return status


def open(options: Options) -> Link:
    """The inner link, listened to."""
    module = plugin.load("hwbench.links", options.inner)
    return SteppedLink(module.open(options.model_extra or {}))
