"""A run survives being killed at any point and ends as if nothing had happened."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwbench.errors import ConfigError
from hwbench.store import Store
from search.engines import local
from search.run import Pinned, Run, drive, read_config, read_designs
from search.strategies import nested
from tests.search.conftest import OUTSIDE
from tests.search.toy import BUDGET, Toy
from tests.search.toy_run import CONFIG, main

BATCHES = 3 * BUDGET.outer_generations


def files(folder: Path) -> dict[str, str]:
    names = ("front.csv", "designs.json", "evaluations.csv", "predictor.csv")
    return {name: (folder / name).read_text() for name in names if (folder / name).exists()}


@pytest.fixture
def whole(outside: Path, tmp_path: Path) -> dict[str, str]:
    """The files of a run that nothing interrupted, in this process."""
    main(tmp_path / "whole", 0)
    return files(tmp_path / "whole")


def program(outside: Path, folder: Path, *arguments: object) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (root, OUTSIDE, outside)))}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.search.toy_run", str(folder), *map(str, arguments)], env=environment
    )


def test_two_workers_write_the_files_of_one(whole: dict[str, str], tmp_path: Path) -> None:
    """Byte for byte, the order of evaluations included."""
    main(tmp_path / "two", 2)
    assert whole == files(tmp_path / "two")


def test_killed_at_every_batch_it_ends_with_the_same_files(
    whole: dict[str, str], outside: Path, tmp_path: Path
) -> None:
    """kill -9 at batch 0, resume, kill -9 at batch 1, and so on to the end."""
    folder = tmp_path / "killed"
    for batch in range(BATCHES):
        assert -signal.SIGKILL == program(outside, folder, 0, batch).wait()
        assert not (folder / "designs.json").exists()
    assert 0 == program(outside, folder, 2).wait()
    assert whole == files(folder)


def kept(folder: Path) -> int:
    """How many results the store of a running search holds; nothing before it is made."""
    try:
        with closing(sqlite3.connect(f"file:{folder / 'store.sqlite'}?mode=ro", uri=True)) as database:
            return int(database.execute("SELECT COUNT(*) FROM facts").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


@pytest.mark.parametrize("name", ["nested", "screened", "evolution"])
def test_killed_at_any_time_it_ends_with_the_same_files(name: str, outside: Path, tmp_path: Path) -> None:
    """With two workers, whose processes die with it; each time somewhere after a new result."""
    main(tmp_path / "whole", 0, name=name)
    folder = tmp_path / "killed"
    delays = random.Random(name)
    for _ in range(2):
        before = kept(folder)
        running = program(outside, folder, 2, -1, 50, name)
        while running.poll() is None and kept(folder) == before:
            time.sleep(0.01)
        time.sleep(delays.uniform(0.0, 0.3))
        running.kill()
        assert -signal.SIGKILL == running.wait()
        assert not (folder / "designs.json").exists()
    assert 0 == program(outside, folder, 2, -1, 0, name).wait()
    assert files(tmp_path / "whole") == files(folder)


@pytest.mark.parametrize("name", ["screened", "evolution"])
def test_a_predictor_makes_the_same_choices_after_a_kill(name: str, outside: Path, tmp_path: Path) -> None:
    """kill -9 before the predictor first chose, in the middle of what it chose, and in the last batch."""
    main(tmp_path / "whole", 0, name=name)
    wanted = files(tmp_path / "whole")
    assert 2 == len(wanted["predictor.csv"].splitlines()) - 1
    for batch in (2, 3, BATCHES - 1):
        assert -signal.SIGKILL == program(outside, tmp_path / "killed", 0, batch, 0, name).wait()
        assert not (tmp_path / "killed" / "designs.json").exists()
    assert 0 == program(outside, tmp_path / "killed", 2, -1, 0, name).wait()
    assert wanted == files(tmp_path / "killed")


@pytest.mark.parametrize("name", ["nested", "screened", "evolution"])
def test_extended_it_is_the_search_of_so_many_generations(name: str, outside: Path, tmp_path: Path) -> None:
    """Whatever chose the backbones: a generation does not know how many follow."""
    main(tmp_path / "whole", 0, name=name)
    short = replace(BUDGET, outer_generations=BUDGET.outer_generations - 1)
    main(tmp_path / "longer", 0, name=name, budget=short)
    assert files(tmp_path / "whole") != files(tmp_path / "longer")
    config = read_config(tmp_path / "longer")
    with Run.start(tmp_path / "longer", config) as run:
        run.replan(config.model_copy(update={"budget": BUDGET}))
    main(tmp_path / "longer", 0, name=name)
    assert files(tmp_path / "whole") == files(tmp_path / "longer")


def test_nothing_is_computed_twice(outside: Path, tmp_path: Path) -> None:
    """A replay of a finished run computes nothing; its facts stay as they were."""
    main(tmp_path / "run", 0)
    with Store(tmp_path / "run" / "store.sqlite") as store:
        before = [(f.key, f.created) for f in store.facts()]
        strategy, rng = nested.open(nested.Options()), np.random.default_rng(CONFIG.seed)
        with local.open(local.Options(workers=0)) as engine:
            drive(Toy(), strategy, BUDGET, engine, store, rng)
        assert before == [(f.key, f.created) for f in store.facts()]
        assert 3 * (6 + 2 + 2) == len(before)
        assert all(f.seconds is not None for f in store.facts())


def test_a_replay_that_asks_something_else_names_batch_and_task(outside: Path, tmp_path: Path) -> None:
    """Another seed draws other backbones after the two anchors."""
    main(tmp_path / "run", 0)
    with Store(tmp_path / "run" / "store.sqlite") as store, local.open(local.Options(workers=0)) as engine:
        strategy, rng = nested.open(nested.Options()), np.random.default_rng(99)
        with pytest.raises(
            ConfigError, match=r"the replay differs at batch 0, task 2: it was double \w+, it is double \w+"
        ):
            drive(Toy(), strategy, BUDGET, engine, store, rng)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"seed": 5}, "seed: 4 → 5"),
        ({"table": Pinned(path=Path("table.csv"), sha256="9")}, "table.sha256: 1 → 9"),
        ({"constraints": {"latency_ms": 1.0}}, "constraints.latency_ms: None → 1.0"),
    ],
)
def test_another_search_does_not_go_into_the_same_folder(tmp_path: Path, change: dict[str, object], text: str) -> None:
    """The message shows what differs; the folder stays as it is."""
    Run.start(tmp_path / "run", CONFIG).store.close()
    before = (tmp_path / "run" / "config.toml").read_bytes()
    with pytest.raises(ConfigError, match=text):
        Run.start(tmp_path / "run", CONFIG.model_copy(update=change))
    assert before == (tmp_path / "run" / "config.toml").read_bytes()


def test_a_config_that_was_changed_by_hand_is_refused(tmp_path: Path) -> None:
    """What differs is shown, and the store is let go; more generations are an extension."""
    folder = tmp_path / "run"
    Run.start(folder, CONFIG).store.close()
    file = folder / "config.toml"
    text = file.read_text()
    file.write_text(text.replace("seed = 4", "seed = 5").replace("survivors = 2", "survivors = 3"))
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"changed since the run began \(budget.survivors: 2 → 3; seed: 4 → 5\)"):
            Run.start(folder, read_config(folder))
    generations = f"outer_generations = {BUDGET.outer_generations}"
    assert generations in text
    file.write_text(text.replace(generations, "outer_generations = 99"))
    Run.start(folder, read_config(folder)).store.close()


def test_a_moved_table_is_still_the_same_table(tmp_path: Path) -> None:
    """Files count by content, the command line not at all."""
    Run.start(tmp_path / "run", CONFIG).store.close()
    moved = CONFIG.model_copy(update={"table": Pinned(path=Path("/else/t.csv"), sha256="1"), "command": "other"})
    Run.start(tmp_path / "run", moved).store.close()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """A second one is told who holds the run."""
    with Run.start(tmp_path / "run", CONFIG), pytest.raises(ConfigError, match=f"in use by process {os.getpid()}"):
        Run.start(tmp_path / "run", CONFIG)


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    """No file of a search among somebody's papers."""
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "a.txt").touch()
    with pytest.raises(ConfigError, match="is no run folder"):
        Run.start(tmp_path / "papers", CONFIG)
    assert ["a.txt"] == [p.name for p in (tmp_path / "papers").iterdir()]


def test_designs_come_back_as_they_were_written(outside: Path, tmp_path: Path) -> None:
    """With the keys that front.csv names them by."""
    main(tmp_path / "run", 0)
    rows = (tmp_path / "run" / "front.csv").read_text().splitlines()[1:]
    assert [r.split(",")[0] for r in rows] == [d.key for d in read_designs(tmp_path / "run")]


@pytest.mark.parametrize(
    ("text", "message"),
    [("seed = ", "config.toml: cannot be read"), ("seed = 1\nsede = 2\n", "config.toml: "), (None, "is no run folder")],
)
def test_a_broken_config_is_one_line(tmp_path: Path, text: str | None, message: str) -> None:
    """Naming the file."""
    if text is not None:
        (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_config(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"designs": 3}', '{"designs": [{"key": "a"}]}'])
def test_broken_designs_are_explained(tmp_path: Path, text: str) -> None:
    """They can be written again from the store."""
    (tmp_path / "designs.json").write_text(text)
    with pytest.raises(ConfigError, match="search resume"):
        read_designs(tmp_path)
