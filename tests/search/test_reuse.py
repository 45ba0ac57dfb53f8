"""What another run holds is not computed again."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwbench.errors import ConfigError
from hwbench.store import Store
from search.engines import local
from search.reuse import Reusing
from search.task import Task

pytestmark = pytest.mark.usefixtures("outside")


def tasks(*numbers: int) -> list[Task]:
    return [Task(kind="double", args={"i": i}) for i in numbers]


@pytest.fixture
def earlier(outside: Path, tmp_path: Path) -> Path:
    """A run folder that holds tasks 0 and 1."""
    folder = tmp_path / "earlier"
    folder.mkdir()
    with Store(folder / "store.sqlite") as store, local.open(local.Options(workers=0)) as engine:
        for done in engine.run(tasks(0, 1)):
            store.put(done.task.key, done.task.kind, done.task.args, done.result)
    return folder


def test_only_the_rest_is_computed(earlier: Path) -> None:
    """And results are those of the other run, at no cost, with its name."""
    with local.open(local.Options(workers=0)) as computing, Reusing(computing, [earlier]) as engine:
        done = {d.task.args["i"]: d for d in engine.run(tasks(2, 1, 0))}
    with local.open(local.Options(workers=0)) as computing:
        anew = {d.task.args["i"]: d for d in computing.run(tasks(0, 1, 2))}
    assert {0, 1} == {i for i, d in done.items() if d.worker == "reused from earlier" and d.seconds == 0}
    assert {i: d.result.arrays["x"].tolist() for i, d in anew.items()} == {
        i: d.result.arrays["x"].tolist() for i, d in done.items()
    }


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    """Before anything is computed."""
    with local.open(local.Options(workers=0)) as computing, pytest.raises(ConfigError, match="nothing here holds no"):
        Reusing(computing, [tmp_path / "nothing here"])
