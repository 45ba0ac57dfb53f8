"""One toy search as a program that tests may kill.

FOLDER WORKERS [BATCH to die at [PAUSE in ms after a result [name of STRATEGIES]]].
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from search.engine import Done
from search.engines import local
from search.front import Front
from search.launch import Learning
from search.run import Config, Journal, Pinned, Run, drive
from search.strategies import evolution, nested
from search.strategy import Budget, Strategy
from search.task import Task
from tests.search.toy import BUDGET, Toy

CONFIG = Config(
    version="0",
    command="toy",
    created="2026-01-01",
    seed=4,
    objectives=("latency",),
    problem="toy",
    strategy="nested",
    space="toy",
    space_sha256="0",
    target="host",
    backend="onnxruntime",
    dataset="toy",
    dataset_sha256="0",
    budget=BUDGET,
    table=Pinned(path=Path("table.csv"), sha256="1"),
    checkpoint=Pinned(path=Path("weights"), sha256="2"),
)

# Those with a predictor must replay its choices to the last bit, too.
STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "nested": lambda: nested.open(nested.Options()),
    "screened": lambda: nested.open(nested.Options(screen=4)),
    "evolution": lambda: evolution.open(evolution.Options(levels=3, generations=10, population=12)),
}


class Killer:
    """Ends the process without a word: at the first result of a batch, or when the strategy has heard it."""

    def __init__(self, batch: int, pause_ms: int) -> None:
        self._batch = batch
        self._pause_ms = pause_ms
        self._now = -1

    def asked(self, n: int, tasks: Sequence[Task], known: int) -> None:
        """A batch begins."""
        self._now = n

    def answered(self, done: Done) -> None:
        """Odd batches end with only one of their results kept."""
        time.sleep(self._pause_ms / 1000)
        if self._now == self._batch and self._batch % 2:
            os.kill(os.getpid(), signal.SIGKILL)

    def heard(self, n: int, tasks: Sequence[Task], front: Front | None) -> None:
        """Even batches end complete."""
        if n == self._batch:
            os.kill(os.getpid(), signal.SIGKILL)


def main(
    folder: Path, workers: int, die_at: int = -1, pause_ms: int = 0, name: str = "nested", budget: Budget = BUDGET
) -> None:
    """Start or resume, search, finish."""
    config = CONFIG.model_copy(update={"strategy": name, "budget": budget})
    with Run.start(folder, config) as run, local.open(local.Options(workers=workers)) as engine:
        with Journal(folder / "evaluations.csv") as journal:
            strategy = STRATEGIES[name]()
            learning = Learning(strategy, folder / "predictor.csv", lambda _: None)
            watchers = [journal, learning, Killer(die_at, pause_ms)]
            rng = np.random.default_rng(config.seed)
            front = drive(Toy(), strategy, budget, engine, run.store, rng, watchers)
        run.finish(front)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:5]), *sys.argv[5:])
