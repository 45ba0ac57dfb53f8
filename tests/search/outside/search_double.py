"""A kind of task from outside the project, found by its entry point: small work, and every way for work to go wrong."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np

from hwbench.errors import MissingRows
from hwbench.store import Json, Result
from search.task import Task

version = 1


class Unpicklable(Exception):
    """Carries something that cannot leave its process."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.thing = lambda: text


def run(task: Task, rng: np.random.Generator) -> Result:
    """Draw a number; before that die, fail or sleep as asked."""
    asked = task.args
    if "die_until" in asked:
        # Each attempt leaves a mark, so that a later one can do better.
        marks = Path(asked["marks"])
        marks.mkdir(exist_ok=True)
        if len(list(marks.iterdir())) < asked["die_until"]:
            (marks / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
    if asked.get("fail") == "rows":
        raise MissingRows("digits: 1 block has no row", ("conv:3",))
    if asked.get("fail") == "value":
        raise ValueError("not a number")
    if asked.get("fail") == "unpicklable":
        raise Unpicklable("odd")
    time.sleep(asked.get("sleep_s", 0.0))
    if "genes" in asked:
        return _answers(asked, rng)
    return Result(
        values={"pid": os.getpid(), "threads": os.environ.get("OMP_NUM_THREADS")}, arrays={"x": rng.random(3)}
    )


def _answers(asked: Json, rng: np.random.Generator) -> Result:
    """What a backbone might answer: the more it costs, the harder the samples it gets right."""
    ability = np.array([0.3, 0.5, 0.7, 1.0] if asked["exits"] else [1.0]) * (0.5 + asked["cost"])
    label = np.arange(200, dtype=np.int16) % 10
    margin = ability - rng.random((200, 1)) + 0.1 * rng.standard_normal((200, len(ability)))
    answer = np.where(margin > 0, label[:, None], (label[:, None] + 1) % 10).astype(np.int16)
    score = (1 / (1 + np.exp(-4 * np.abs(margin)))).astype(np.float32)
    accuracy = float(np.mean(answer[:, -1] == label))
    return Result(values={"accuracy": accuracy}, arrays={"answer": answer, "score": score, "label": label})
