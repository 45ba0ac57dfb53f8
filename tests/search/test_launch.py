"""From words to a run: which table is searched, and over which clocks, down to the files of a simulated search."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwbench import command
from hwbench.cli import hwbench
from hwbench.errors import ConfigError
from hwbench.setting import grid_points, parse_clocks
from hwbench.table import LatencyTable
from hwbench.target_file import find_target
from models.space import load_space
from models.supernet import create, save
from search import launch
from search.cli import group
from tests.search import priced
from tests.search.conftest import installed

TINY = ["--outer", "3x1", "--inner", "20x8", "--survivors", "2"]
TX2 = find_target("jetson-tx2")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a simulated table of a TX2 in `tables`, and a search over its energy in `run`."""
    folder = tmp_path_factory.mktemp("simulated")
    with pytest.MonkeyPatch.context() as patch, installed(folder / "site", patch):
        patch.chdir(folder)
        patch.setenv("HWBENCH_TABLES", str(folder / "tables"))
        few = ["--unit", "gpu", "--precision", "fp32", "--sample", "8", "--networks", "8"]
        assert 0 == command.run(hwbench, "hwbench", ["sweep", "--target", "jetson-tx2", "--simulate", *few])
        save(folder / "digits.safetensors", create(load_space("digits")))
        options = ["--dataset", "few_open", "--checkpoint", "digits.safetensors", "--workers", "0", "--out", "run"]
        words = ["run", "--objective", "energy", "--target", "jetson-tx2", *options, *TINY]
        assert 0 == command.run(group, "search", words)
        yield folder


@pytest.fixture
def tables(simulated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where tables are looked for."""
    monkeypatch.chdir(simulated)
    monkeypatch.setenv("HWBENCH_TABLES", str(simulated / "tables"))
    return simulated / "tables"


def test_a_search_uses_all_clocks_of_the_board(simulated: Path) -> None:
    """Each design has an operating point of the grid; evidence says that it was simulated, and derived."""
    with (simulated / "run" / "front.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    grid = grid_points(TX2.grid("gpu"))
    assert 13 * 11 == len(grid)
    assert rows
    assert all(parse_clocks(row["clocks"]) in grid for row in rows)
    assert {"predicted:simulated"} == {row["energy_evidence"] for row in rows}


def test_points_between_the_measured_ones_are_searched(simulated: Path) -> None:
    """Eight were simulated, all are asked for."""
    from search.run import read_config

    config = read_config(simulated / "run")
    assert ("roofline", "gpu") == (config.backend, config.options.get("unit", "gpu"))
    problem = launch.open_problem(config)
    assert len(grid_points(TX2.grid("gpu"))) == len(problem.costs.settings)  # type: ignore[attr-defined]
    measured = LatencyTable.read(config.table.path).settings
    assert 8 == len(measured)


def test_clocks_may_be_left_alone(simulated: Path, tables: Path) -> None:
    """Then all runs where the largest backbone is fastest, at the point that static costs are of."""
    from search.run import read_config

    config = read_config(simulated / "run")
    searched = launch.open_problem(config)
    left = launch.open_problem(config.model_copy(update={"options": {**config.options, "clocks": "default"}}))
    costs = left.costs  # type: ignore[attr-defined]
    largest = left.space.largest()[None]
    assert 1 == len(costs.settings)
    assert "emc=1866 gpu=1300.5 mode=MAXN" == costs.settings[0].clocks_text
    assert searched.static(largest)["energy_mj"] == left.static(largest)["energy_mj"]


def test_a_simulated_search_cannot_be_verified(
    simulated: Path, tables: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that says why, and what to do instead."""
    assert 2 == command.run(group, "search", ["verify", str(simulated / "run")])
    (line,) = capsys.readouterr().err.splitlines()
    assert "no weights that could answer; measure the board (hwbench profile --target jetson-tx2)" in line


def test_the_report_says_that_it_is_simulated(simulated: Path, tables: Path) -> None:
    """Where the measurement would stand."""
    assert 0 == command.run(group, "search", ["report", str(simulated / "run")])
    page = (simulated / "run" / "report.html").read_text("utf-8")
    assert "an analytic board, nothing of this was measured" in page
    assert "calibrated on" in page


def test_the_simulated_table_stands_in_only_where_nobody_measured(
    tables: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told; a backend that was named is not replaced; a measured table comes first."""
    with caplog.at_level(logging.WARNING):
        assert tables / "jetson-tx2" / "roofline-digits.csv" == launch.choose_table(TX2, "digits", None)
    assert "nobody measured jetson-tx2 with tensorrt yet: searching the simulated table" in caplog.text
    with pytest.raises(ConfigError, match=r"hwbench profile --target jetson-tx2 --backend tensorrt"):
        launch.choose_table(TX2, "digits", "tensorrt")
    measured = tables / "jetson-tx2" / "tensorrt-digits.csv"
    measured.write_text("")
    try:
        assert measured == launch.choose_table(TX2, "digits", None)
        assert launch.choose_table(TX2, "digits", "roofline").name == "roofline-digits.csv"
    finally:
        measured.unlink()


def test_without_any_table_both_ways_to_one_are_told(tables: Path) -> None:
    """To measure and to simulate."""
    with pytest.raises(ConfigError, match="--backend tensorrt --space nowhere, or without a board with --simulate"):
        launch.choose_table(TX2, "nowhere", None)


def test_commands_that_are_told_name_the_file_of_a_space(tables: Path) -> None:
    """As the user wrote it: its name alone would be unknown to them."""
    with pytest.raises(ConfigError, match=r"--backend tensorrt --space my/mine\.toml"):
        launch.choose_table(TX2, "mine", "tensorrt", "my/mine.toml")
    with pytest.raises(ConfigError, match=r"search train --space my/mine\.toml"):
        launch.default_checkpoint("mine", "my/mine.toml")


def test_the_boards_first_processor_is_searched_where_nothing_was_said() -> None:
    """In fp32 where it has that, and over a grid only where models answer between its points."""
    settings = [priced.SETTING.__class__(unit=unit, precision="int8") for unit in ("cpu", "gpu")]
    table = priced.table(load_space("digits"), settings)
    assert {"unit": "gpu", "precision": "int8"} == launch.completed({}, TX2, table)
    assert {"unit": "cpu", "precision": "int8"} == launch.completed({"unit": "cpu"}, TX2, table)
    assert {} == launch.completed({}, TX2, priced.table(load_space("digits")))
