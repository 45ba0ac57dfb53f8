"""The local engine runs tasks in processes and survives what happens to them."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator

import pytest

from search.engine import Engine
from search.engines import local
from search.task import Task
from tests.contracts.engine import EngineContract

pytestmark = pytest.mark.usefixtures("outside")


@pytest.fixture
def engine() -> Iterator[Engine]:
    with local.open(local.Options(workers=2)) as opened:
        yield opened


class TestLocal(EngineContract):
    """Processes of this machine."""

    def test_no_task_runs_in_this_process(self, engine: Engine) -> None:
        """So that none can take the driver with it."""
        (done,) = engine.run([Task(kind="double", args={})])
        assert os.getpid() != done.result.values["pid"]


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
