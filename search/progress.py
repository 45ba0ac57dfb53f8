"""Shows how a search gets on: a live line on a terminal, one plain line a batch elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from search.engine import Done
from search.front import Front
from search.strategy import Budget
from search.task import Task

if TYPE_CHECKING:
    from models.training.sandwich import Epoch  # brings torch


class Shown:
    """A watcher that prints; a context manager. Tasks of one sort take about equally long: each has its own mean."""

    def __init__(self, console: Console, budget: Budget, workers: int) -> None:
        searched = budget.outer_generations * budget.survivors
        self._left = {
            "backbones": budget.outer_generations * budget.outer_population,
            "exits": searched,
            "inner searches": searched,
        }
        self._total = sum(self._left.values())
        self._workers = max(workers, 1)
        self._spent: dict[str, list[float]] = {sort: [] for sort in self._left}
        self._count = 0
        self._computed = 0
        self._hypervolume: float | None = None
        self._start = time.monotonic()
        self._console = console
        self._live: Progress | None = None
        self._bar = TaskID(0)
        if console.is_terminal:
            self._live = Progress(
                TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[now]}"), console=console
            )

    def __enter__(self) -> Shown:
        if self._live:
            self._bar = self._live.add_task("search", total=self._total, now="starting")
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def asked(self, n: int, tasks: Sequence[Task], known: int) -> None:
        """Count what the store knows already."""
        for task in tasks:
            self._left[_sort(task)] -= 1
        self._count += known
        if self._live:
            sort = _sort(tasks[0]) if tasks else "nothing"
            text = f"batch {n}, {len(tasks)} × {sort}"
            self._live.update(self._bar, description=text, completed=self._count, now=self._now())

    def answered(self, done: Done) -> None:
        """Count one more."""
        self._count += 1
        self._computed += 1
        self._spent[_sort(done.task)].append(done.seconds)
        if self._live:
            self._live.update(self._bar, completed=self._count, now=self._now())

    def heard(self, n: int, tasks: Sequence[Task], front: Front | None) -> None:
        """A batch is through."""
        self._hypervolume = None if front is None else front.hypervolume()
        if not self._live:
            sort = _sort(tasks[0]) if tasks else "nothing"
            self._console.print(f"batch {n}, {sort}: {self._now()}", highlight=False, soft_wrap=True)

    def remark(self, text: str) -> None:
        """A line of its own, beside the bar."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def _now(self) -> str:
        said = [f"{self._count}/{self._total} evaluations"]
        if self._hypervolume is not None:
            said.append(f"hypervolume {self._hypervolume:.4g}")
        if self._computed:
            said.append(f"{self._computed / (time.monotonic() - self._start):.2g}/s")
        if (left := self._seconds_left()) is not None:
            said.append(f"{_minutes(left)} left")
        return " · ".join(said)

    def _seconds_left(self) -> float | None:
        """From the mean of each sort; None until every sort that is still to come was seen once."""
        seconds = 0.0
        for sort, left in self._left.items():
            if left > 0 and not self._spent[sort]:
                return None
            seconds += max(left, 0) * float(sum(self._spent[sort])) / max(len(self._spent[sort]), 1)
        return seconds / self._workers


def _sort(task: Task) -> str:
    if task.kind == "inner":
        return "inner searches"
    return "exits" if task.args.get("exits") else "backbones"


@contextmanager
def training(console: Console) -> Iterator[Callable[[Epoch], None]]:
    """Shows how a training gets on; gives what to tell each epoch to."""
    columns = (TextColumn("epoch {task.completed:.0f}/{task.total:.0f}"), BarColumn(), TextColumn("{task.fields[now]}"))
    with Progress(*columns, console=console, disable=not console.is_terminal) as live:
        bar = live.add_task("", total=1, now="preparing")

        def told(epoch: Epoch) -> None:
            left = epoch.seconds / epoch.epoch * (epoch.epochs - epoch.epoch)
            now = f"loss {epoch.loss:.3f} · {epoch.seconds:.0f} s · {_minutes(left)} left"
            live.update(bar, total=epoch.epochs, completed=epoch.epoch, now=now)
            if not console.is_terminal:
                console.print(f"epoch {epoch.epoch}/{epoch.epochs}: {now}", highlight=False, soft_wrap=True)

        yield told


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


@contextmanager
def counted(console: Console, what: str) -> Iterator[Callable[[int, int, str], None]]:
    """Shows (done, of all, what runs now): a bar on a terminal, one plain line each elsewhere."""
    if not console.is_terminal:

        def line(done: int, total: int, now: str) -> None:
            console.print(f"{what} {done}/{total} {now}".rstrip(), highlight=False, markup=False)

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[now]}", markup=False))
    # Drawn only when told: while a board answers on this machine, nothing else should run.
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as live:
        bar = live.add_task(what, total=None, now="")

        def step(done: int, total: int, now: str) -> None:
            live.update(bar, completed=done, total=total, now=now, refresh=True)

        yield step
