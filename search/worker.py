"""What a worker of any engine does with a task: run it, take the time, and bring an error home in one piece."""

from __future__ import annotations

import pickle
import time
import traceback
from dataclasses import dataclass
from typing import Any

from hwbench.errors import DeviceError
from hwbench.store import Result
from search.task import Task, run

ATTEMPTS = 3
# Read by BLAS and OpenMP when they are loaded, so they must stand in the environment before a worker starts. With one
# thread each, one worker and many give the same bytes.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class WorkerTraceback(Exception):
    """The traceback of an error in a worker, as text: the cause of the error that is raised here."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An exception on its way, in parts: unpickling a whole one would call its __init__ with the wrong arguments."""

    kind: type[BaseException]
    args: tuple[Any, ...]
    state: dict[str, Any]
    text: str

    def error(self) -> BaseException:
        """The exception again, with the worker's traceback as its cause."""
        error = self.kind.__new__(self.kind)
        error.args = self.args
        error.__dict__.update(self.state)
        error.__cause__ = WorkerTraceback(self.text)
        return error


def timed(task: Task) -> tuple[Result, float]:
    """The result of a task and how many seconds it took."""
    start = time.perf_counter()
    result = run(task)
    return result, round(time.perf_counter() - start, 3)


def answer(task: Task) -> tuple[Result, float] | Failure:
    """As `timed`, but an error is an answer, too, and always one that can travel."""
    try:
        return timed(task)
    except Exception as error:
        text = traceback.format_exc()
        state = dict(getattr(error, "__dict__", {}))
        failure = Failure(kind=type(error), args=error.args, state=state, text=text)
        try:
            pickle.dumps(failure)
        except Exception:
            # It carries something that cannot travel: its text can.
            name = f"{type(error).__name__}: {error.args[0] if error.args else ''}"
            return Failure(kind=RuntimeError, args=(name,), state={}, text=text)
        return failure


def died(task: Task, end: str, deaths: dict[int, int]) -> None:
    """Count one more death of this task's worker (deaths: by id of the task); DeviceError at the ATTEMPTS-th."""
    deaths[id(task)] = deaths.get(id(task), 0) + 1
    if deaths[id(task)] >= ATTEMPTS:
        raise DeviceError(
            f"task {task.kind} {task.key}: its worker died {ATTEMPTS} times (last: {end}); "
            "is memory short? try fewer --workers, then `search resume`"
        )
