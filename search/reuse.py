"""Results that other runs already hold: an engine that looks there before it lets another one compute.

Equal keys mean equal results, so a front does not depend on what was reused; the store says who computed it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from pathlib import Path
from types import TracebackType

from hwbench.errors import ConfigError
from hwbench.store import Store
from search.engine import Done, Engine
from search.task import Task

_FILE = "store.sqlite"


class Reusing:
    """An engine before another one, with the stores of other run folders; a context manager.

    Raises ConfigError naming the folder that holds no run.
    """

    def __init__(self, engine: Engine, folders: Sequence[Path]) -> None:
        self.workers = engine.workers
        self._engine = engine
        with contextlib.ExitStack() as opened:
            self._stores = {folder.name: opened.enter_context(_store(folder)) for folder in folders}
            self._opened = opened.pop_all()

    def __enter__(self) -> Reusing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def run(self, tasks: Sequence[Task]) -> Generator[Done, None, None]:
        """At once, at no cost, what another run holds; then the rest."""
        missing = []
        for task in tasks:
            done = self._known(task)
            if done is None:
                missing.append(task)
            else:
                yield done
        with contextlib.closing(self._engine.run(missing)) as running:
            yield from running

    def _known(self, task: Task) -> Done | None:
        for name, store in self._stores.items():
            if (result := store.get(task.key)) is not None:
                return Done(task=task, result=result, seconds=0.0, worker=f"reused from {name}")
        return None


def check(folders: Sequence[Path]) -> None:
    """Raises ConfigError naming the first folder that holds no run."""
    for folder in folders:
        if not (folder / _FILE).is_file():
            raise ConfigError(f"{folder} holds no run whose results could be reused (no {_FILE})")


def _store(folder: Path) -> Store:
    check([folder])
    return Store(folder / _FILE, read_only=True)
