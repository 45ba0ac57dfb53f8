"""What every engine does, whatever happens to its workers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwbench.errors import DeviceError, MissingRows
from search.engine import Engine
from search.engines import local
from search.task import Task


def tasks(n: int) -> list[Task]:
    """Small ones."""
    return [Task(kind="double", args={"i": i}) for i in range(n)]


def drawn(engine: Engine, asked: list[Task]) -> dict[str, list[float]]:
    """What each task drew, by its key."""
    return {done.task.key: done.result.arrays["x"].tolist() for done in engine.run(asked)}


class EngineContract:
    """For test classes with a fixture `engine` of two workers, and the plugins of tests/search/outside."""

    def test_many_workers_give_the_results_of_none(self, engine: Engine) -> None:
        """Randomness comes from the task's key, not from who runs it."""
        with local.open(local.Options(workers=0)) as here:
            assert drawn(here, tasks(7)) == drawn(engine, tasks(7))

    def test_work_is_spread_over_processes_with_one_thread_each(self, engine: Engine) -> None:
        """Both workers compute, each with one thread."""
        slow = [Task(kind="double", args={"i": i, "sleep_s": 0.3}) for i in range(6)]
        done = list(engine.run(slow))
        assert 2 <= len({d.worker for d in done})
        assert {"1"} == {d.result.values["threads"] for d in done}
        assert all(d.seconds >= 0.3 for d in done)

    def test_the_task_of_a_killed_worker_is_run_again(self, engine: Engine, tmp_path: Path) -> None:
        """Kill -9 of a worker loses nothing."""
        asked = [*tasks(3), Task(kind="double", args={"die_until": 2, "marks": str(tmp_path / "marks")})]
        assert {t.key for t in asked} == set(drawn(engine, asked))

    def test_a_task_that_always_kills_its_worker_is_given_up(self, engine: Engine, tmp_path: Path) -> None:
        """After three deaths one line names the task, how the last one ended, and the way out."""
        asked = [Task(kind="double", args={"die_until": 99, "marks": str(tmp_path / "marks")})]
        with pytest.raises(DeviceError, match=r"task double \w+: its worker died 3 times \(last: \w+.*\).*resume"):
            list(engine.run(asked))

    def test_an_error_in_a_worker_is_the_error_here(self, engine: Engine) -> None:
        """A project error keeps its class, message and attributes; the worker's traceback is its cause."""
        with pytest.raises(MissingRows, match="1 block has no row") as caught:
            list(engine.run([Task(kind="double", args={"fail": "rows"})]))
        assert caught.value.keys == ("conv:3",)
        assert "search_double.py" in str(caught.value.__cause__)

    @pytest.mark.parametrize(
        ("fail", "kind", "text"), [("value", ValueError, "not a number"), ("unpicklable", RuntimeError, "odd")]
    )
    def test_an_unexpected_error_arrives_too(self, engine: Engine, fail: str, kind: type[Exception], text: str) -> None:
        """Even one that cannot be pickled."""
        with pytest.raises(kind, match=text):
            list(engine.run([Task(kind="double", args={"fail": fail})]))

    def test_the_engine_works_on_after_an_error(self, engine: Engine) -> None:
        """No late answer of the failed batch gets into the next one."""
        with pytest.raises(MissingRows):
            list(engine.run([Task(kind="double", args={"fail": "rows"}), Task(kind="double", args={"sleep_s": 0.3})]))
        asked = tasks(3)
        assert {t.key for t in asked} == set(drawn(engine, asked))

    def test_results_keep_their_bytes_on_the_way(self, engine: Engine) -> None:
        """An array arrives with its dtype."""
        (done,) = engine.run(tasks(1))
        assert np.float64 == done.result.arrays["x"].dtype
