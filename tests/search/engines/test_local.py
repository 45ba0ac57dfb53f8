"""The local engine runs tasks in processes and survives what happens to them."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hwbench.errors import DeviceError, MissingRows
from search.engine import Engine
from search.engines import local
from search.task import Task

pytestmark = pytest.mark.usefixtures("outside")


def tasks(n: int) -> list[Task]:
    return [Task(kind="double", args={"i": i}) for i in range(n)]


@pytest.fixture
def engine() -> Iterator[Engine]:
    with local.open(local.Options(workers=2)) as opened:
        yield opened


def drawn(engine: Engine, asked: list[Task]) -> dict[str, list[float]]:
    return {done.task.key: done.result.arrays["x"].tolist() for done in engine.run(asked)}


def test_many_workers_give_the_results_of_none(engine: Engine) -> None:
    """Randomness comes from the task's key, not from who runs it."""
    with local.open(local.Options(workers=0)) as here:
        assert drawn(here, tasks(7)) == drawn(engine, tasks(7))


def test_work_is_spread_over_processes_with_one_thread_each(engine: Engine) -> None:
    """Both workers compute, each with one thread, and neither is this process."""
    slow = [Task(kind="double", args={"i": i, "sleep_s": 0.2}) for i in range(4)]
    done = list(engine.run(slow))
    assert len({d.worker for d in done}) == 2
    assert os.getpid() not in {d.result.values["pid"] for d in done}
    assert {"1"} == {d.result.values["threads"] for d in done}
    assert all(d.seconds >= 0.2 for d in done)


def test_the_task_of_a_killed_worker_is_run_again(engine: Engine, tmp_path: Path) -> None:
    """kill -9 of a worker loses nothing."""
    asked = [*tasks(3), Task(kind="double", args={"die_until": 2, "marks": str(tmp_path / "marks")})]
    assert {t.key for t in asked} == set(drawn(engine, asked))


def test_a_task_that_always_kills_its_worker_is_given_up(engine: Engine, tmp_path: Path) -> None:
    """After three deaths one line names the task, the signal and the way out."""
    asked = [Task(kind="double", args={"die_until": 99, "marks": str(tmp_path / "marks")})]
    with pytest.raises(DeviceError, match=r"task double \w+: its worker died 3 times \(last: signal 9\)"):
        list(engine.run(asked))


def test_an_error_in_a_worker_is_the_error_here(engine: Engine) -> None:
    """A project error keeps its class, message and attributes; the worker's traceback is its cause."""
    with pytest.raises(MissingRows, match="1 block has no row") as caught:
        list(engine.run([Task(kind="double", args={"fail": "rows"})]))
    assert caught.value.keys == ("conv:3",)
    assert "search_double.py" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("fail", "kind", "text"), [("value", ValueError, "not a number"), ("unpicklable", RuntimeError, "odd")]
)
def test_an_unexpected_error_arrives_too(engine: Engine, fail: str, kind: type[Exception], text: str) -> None:
    """Even one that cannot be pickled."""
    with pytest.raises(kind, match=text):
        list(engine.run([Task(kind="double", args={"fail": fail})]))


def test_the_engine_works_on_after_an_error(engine: Engine) -> None:
    """No late answer of the failed batch gets into the next one."""
    with pytest.raises(MissingRows):
        list(engine.run([Task(kind="double", args={"fail": "rows"}), Task(kind="double", args={"sleep_s": 0.3})]))
    asked = tasks(3)
    assert {t.key for t in asked} == set(drawn(engine, asked))


def test_no_process_is_left_behind() -> None:
    """On exit idle and busy workers end at once, whatever they compute."""
    start = time.monotonic()
    with local.open(local.Options(workers=2)) as engine:
        running = engine.run([Task(kind="double", args={"sleep_s": s}) for s in (0.0, 60.0)])
        next(running)
        assert len(multiprocessing.active_children()) == 2
        running.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []
    assert time.monotonic() - start < 30


def test_results_keep_their_bytes_on_the_way(engine: Engine) -> None:
    """An array arrives with its dtype."""
    (done,) = engine.run(tasks(1))
    assert np.float64 == done.result.arrays["x"].dtype
