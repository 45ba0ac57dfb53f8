"""Designs on `test`: the deployed network's answers, counted sample by sample."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwbench import command
from models import datasets
from models.space import load_space
from models.supernet import create, save
from models.training.exits import answer
from search import export, unseen
from search.cli import group
from search.engines import local
from search.run import Run, read_config, read_designs
from tests.search import priced
from tests.search.conftest import installed

TINY = ["--inner", "12x4"]


def search(*words: str) -> int:
    return command.run(group, "search", words)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished search of one backbone, on a few images that may be opened to the end."""
    folder = tmp_path_factory.mktemp("search")
    with pytest.MonkeyPatch.context() as patch, installed(folder / "site", patch):
        patch.chdir(folder)
        patch.setenv("HWBENCH_TABLES", str(folder / "tables"))
        priced.table(load_space("digits")).write(folder / "tables" / "host" / "onnxruntime-digits")
        save(folder / "digits.safetensors", create(load_space("digits")))
        options = ["--dataset", "few_open", "--checkpoint", "digits.safetensors", "--workers", "0", "--out", "run"]
        assert 0 == search("run", "--objective", "latency", "--backbone", "smallest", *options, *TINY)
        yield folder / "run"


@pytest.fixture
def found(once: Path, tmp_path: Path) -> Path:
    """The run folder, for one test to change."""
    return Path(shutil.copytree(once, tmp_path / "run"))


def test_accuracy_is_that_of_the_exported_network(found: Path) -> None:
    """Walked here exit by exit, in torch."""
    with Run.start(found, read_config(found)) as opened, local.open(local.Options(workers=0)) as engine:
        rows = unseen.unseen(opened, engine)
        state = opened.store.get(str(rows[0].design.answers))
    assert state is not None
    space, split = load_space("digits"), datasets.load("few_open", "test")
    kept = {n: a for n, a in state.arrays.items() if n.startswith(("norm/", "head/"))}
    network = export.network(read_config(found).checkpoint.path, "digits", space.smallest().tolist(), kept)
    told = answer(network, split)
    assert len(rows) == len(read_designs(found)) > 1
    for row in rows:
        open_ = np.ones(len(split), dtype=bool)
        right = np.zeros(len(split), dtype=bool)
        rates = []
        for stage in row.design.stages:
            column = (
                told.answer.shape[1] - 1 if stage.position < 0 else told.slots.index(space.positions[stage.position])
            )
            sure = told.score[:, column] >= (-np.inf if stage.threshold is None else np.float32(stage.threshold))
            right[open_ & sure] = (told.answer[:, column] == split.labels)[open_ & sure]
            rates.append(float((open_ & sure).mean()))
            open_ &= ~sure
        assert right.tolist() == row.right.tolist()
        assert rates == pytest.approx(row.exit_rates)
        assert row.oracle_accuracy >= row.accuracy
        low, high = row.interval()
        assert low <= row.accuracy <= high


def test_the_command_writes_a_row_a_design_and_computes_once(found: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second call reads the store; --json says what test.csv says."""
    assert 0 == search("test", str(found), "--workers", "0")
    first = (found / "test.csv").read_text()
    assert "designs on 160 samples of test" in capsys.readouterr().out
    assert 0 == search("test", str(found), "--workers", "0", "--json")
    out, err = capsys.readouterr()
    rows = list(csv.DictReader(first.splitlines()))
    assert "answering" not in err
    assert first == (found / "test.csv").read_text()
    assert [row["design"] for row in rows] == [row["design"] for row in json.loads(out)]
    assert [float(row["test_accuracy"]) for row in rows] == pytest.approx(
        [row["test_accuracy"] for row in json.loads(out)], abs=1e-6
    )


def test_two_runs_compare_on_test(found: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the accuracy of test.csv; where that is missing or of an older front, with the command that writes it."""
    (found / "test.csv").unlink(missing_ok=True)
    both = (str(found), str(found), "--split", "test")
    assert 2 == search("compare", *both)
    assert f"search test {found}" in capsys.readouterr().err
    assert 0 == search("test", str(found), "--workers", "0")
    capsys.readouterr()
    assert 0 == search("compare", *both, "--json")
    said = json.loads(capsys.readouterr().out)
    written = (found / "test.csv").read_text()
    rows = list(csv.DictReader(written.splitlines()))
    assert max(float(row["test_accuracy"]) for row in rows) == said["scale"]["ideal"]["accuracy"]
    assert min(float(row["latency_ms"]) for row in rows) == said["scale"]["ideal"]["latency_ms"]
    assert "accuracy on test" in said["same"]["data"]
    assert (1.0, 0.0, []) == (said["hypervolume_ratio"], said["dominated"]["a"], said["steps"])
    (found / "test.csv").write_text(written.replace(rows[-1]["design"], "other"))
    assert 2 == search("compare", *both)
    assert f"first {rows[-1]['design']}" in capsys.readouterr().err


def test_an_unknown_cost_is_empty_and_null(found: Path) -> None:
    """Never 0."""
    with Run.start(found, read_config(found)) as opened, local.open(local.Options(workers=0)) as engine:
        rows = [replace(row, metrics={"latency_ms": 1.5}) for row in unseen.unseen(opened, engine)]
        unseen.write(opened, rows)
    written = list(csv.DictReader((found / "test.csv").read_text().splitlines()))
    assert {("1.5", "")} == {(row["latency_ms"], row["energy_mj"]) for row in written}
    assert {None} == {row["energy_mj"] for row in json.loads(unseen.to_json(rows))}


def test_a_search_that_is_not_through_is_named(found: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the command that ends it."""
    (found / "designs.json").unlink()
    assert 2 == search("test", str(found))
    assert f"search resume {found}" in capsys.readouterr().err
