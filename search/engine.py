"""What runs tasks: the contract of `engines/`."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from hwbench.store import Result
from search.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A task that was run: its result, how long that took, and who did it."""

    task: Task
    result: Result
    seconds: float
    worker: str


class Engine(Protocol):
    """Runs tasks somewhere; a lost worker's task is simply run again. A context manager."""

    workers: int

    def __enter__(self) -> Engine: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def run(self, tasks: Sequence[Task]) -> Generator[Done, None, None]:
        """Done tasks in any order; the driver commits each, then answers the strategy. Closing it ends what runs."""
