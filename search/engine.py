"""What runs tasks: the contract of `engines/`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Protocol

from hwbench.store import Result
from search.task import Task


class Engine(Protocol):
    """Runs tasks somewhere; a lost worker's task is simply run again. A context manager."""

    workers: int

    def __enter__(self) -> Engine: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Result]]:
        """Results in any order; the driver commits each, then answers the strategy."""
