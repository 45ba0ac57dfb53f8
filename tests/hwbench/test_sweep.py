"""A sweep measures some operating points, models the others, and adds to the table that is there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

import hwbench.clocks
from hwbench import sweep
from hwbench.board import Board
from hwbench.cli import hwbench as cli
from hwbench.clocks import cpufreq
from hwbench.errors import ConfigError
from hwbench.links import local
from hwbench.measurement import Cell
from hwbench.profiling import check_clocks
from hwbench.setting import Setting
from hwbench.table import LatencyTable
from hwbench.target import plugin_options
from hwbench.target_file import find_target
from tests.doubles import boards
from tests.doubles.swept import GRID, MEASURED_AT, PLAIN, at, swept
from tests.doubles.sysfs import TreeLink
from tests.hwbench.onnx_networks import residual_network


def _sweep(tmp_path: Path, *options: str) -> str:
    """Output of a sweep of a simulated board, in this test's own folder."""
    told = ["--simulate", "--sessions", "1", "--networks", "4", "--runs", str(tmp_path / "runs")]
    where = ["--target", "jetson-tx2", "--unit", "gpu", "--precision", "fp16", "--out", str(tmp_path / "table")]
    done = CliRunner().invoke(cli, ["sweep", *where, *told, *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_simulated_board_is_swept_and_answers_everywhere(tmp_path: Path) -> None:
    """Seven points are measured, all 143 are answered, as simulated and derived."""
    output = _sweep(tmp_path, "--sample", "7")
    table = LatencyTable.read(tmp_path / "table")
    points = {s.clocks for s in table.settings}
    assert len(points) == 7
    assert "latency_ms between clocks:" in output
    assert "of whole networks at points left out: mape" in output
    assert "least energy at" in output
    blocks = sorted({r.cell.block_key for r in table.row.values() if r.kind == "block"})
    everywhere = [
        replace(table.settings[0], clocks=(("emc", emc), ("gpu", gpu), ("mode", "MAXN")))
        for emc in (40.8, 204.0, 800.0, 1866.0)
        for gpu in (114.75, 522.75, 930.75, 1300.5)
    ]
    values, evidence = table.rows("latency_ms", blocks, everywhere)
    assert (values > 0).all()
    shown = CliRunner().invoke(cli, ["table", "show", str(tmp_path / "table.csv")], catch_exceptions=False).output
    assert "latency_ms between clocks:" in shown
    assert str(evidence) == "predicted:simulated"
    assert all(table.composition("energy_mj", setting).scale > 0 for setting in everywhere)


def test_a_board_is_swept_through_its_agent_and_left_as_it_was(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real runtime in a real agent, and a clock that is a file: the file is as it was, every row at its clock."""
    folders = [*hwbench.clocks.__path__, str(root / "tests" / "doubles" / "clocks")]
    monkeypatch.setattr(hwbench.clocks, "__path__", folders)
    (tmp_path / "mhz").write_text("777")
    (tmp_path / "desk.toml").write_text(
        f"""
schema = 1
name = "desk"
title = "a board on the desk"
link = [{{ kind = "local", workdir = "{tmp_path}/board" }}]
backend = [{{ kind = "onnxruntime", units = ["cpu"], precisions = ["fp32"], threads = [1] }}]
clock = [{{ kind = "knob", name = "gpu", file = "{tmp_path}/mhz", grid_mhz = [100, 200, 300, 400, 500, 600] }}]
"""
    )
    onnx.save(residual_network(), tmp_path / "net.onnx")
    where = ["--target", str(tmp_path / "desk.toml"), "--model", str(tmp_path / "net.onnx")]
    how = ["--sessions", "1", "--window", "0.002", "--sample", "4", "--runs", str(tmp_path / "runs")]
    done = CliRunner().invoke(cli, ["sweep", *where, *how, "--out", str(tmp_path / "table")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "mhz").read_text() == "777"
    assert "clock gpu switches in" in done.output
    table = LatencyTable.read(tmp_path / "table")
    assert {s.clocks_text for s in table.settings} == {"gpu=100", "gpu=200", "gpu=300", "gpu=600"}
    key = next(r.cell.block_key for r in table.row.values() if r.kind == "block")
    values, evidence = table.rows("latency_ms", [key], [replace(table.settings[0], clocks=(("gpu", 450.0),))])
    assert values[0, 0] > 0
    assert str(evidence) == "predicted:measured"


def test_a_second_sweep_adds_its_points_and_fits_anew(tmp_path: Path) -> None:
    """Models are of all rows, whichever sweep they came from."""
    _sweep(tmp_path, "--sample", "6")
    told = json.loads(_sweep(tmp_path, "--clocks", "gpu=726.75,emc=1600,mode=MAXN", "--json"))
    table = LatencyTable.read(tmp_path / "table")
    assert len({s.clocks for s in table.settings}) == 7
    assert {m.points for m in table.clock_models.values()} == {7}
    assert told["models"] == len(table.clock_models)
    assert told["left_out_mape"]["latency_ms"] > 0


def test_a_plan_measures_nothing(tmp_path: Path) -> None:
    """Twelve points by default."""
    output = _sweep(tmp_path, "--plan", "--json")
    assert len({c["setting"] for c in json.loads(output)["cells"]}) == sweep.DEFAULT_POINTS
    assert not (tmp_path / "table.csv").exists()


def test_a_grid_that_the_board_does_not_have_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    """Not after the hours that the points before it took; clocks that no point names are not asked for."""
    tree = boards.raspberry_pi4(tmp_path / "board")
    link = TreeLink(tree, local.open(local.Options(workdir=tmp_path / "work")))
    clock = cpufreq.open(cpufreq.Options(name="cpu", grid_mhz=(600, 1400)), link)
    target = find_target("rpi4")
    module, options = plugin_options(target, "hwbench.backends", "onnxruntime", {})
    board = Board(target=target, link=link, backend=module.open(options, link), clocks=(clock,))
    with pytest.raises(ConfigError, match="the board has no 1400 MHz; its nearest is 1500 MHz"):
        check_clocks([board], [Setting(unit="cpu", precision="fp32", clocks=(("cpu", 600.0),))])
    check_clocks([board], [Setting(unit="cpu", precision="fp32")])


def test_which_points_are_measured() -> None:
    """A sample that fills the grid, unless something else is said."""
    assert sweep.spec(None, None) == "sample:12"
    assert sweep.spec(None, 5) == sweep.spec("all", 5) == "sample:5"
    assert sweep.spec("all", None) == "all"
    assert sweep.spec("gpu=727", None) == "gpu=727"
    with pytest.raises(ConfigError, match="names the points itself"):
        sweep.spec("gpu=727", 5)
    with pytest.raises(ConfigError, match="hwbench profile"):
        sweep.spec("found", None)


def test_a_table_of_another_runtime_is_replaced_and_that_is_told(tmp_path: Path) -> None:
    """Rows of two runtimes are not of one board's."""
    new = swept(tmp_path, count=0, energy=False)
    other = replace(new, runtime=new.runtime.model_copy(update={"version": "9"}))
    other.write(tmp_path / "table")
    told: list[str] = []
    assert sweep.joined(new, tmp_path / "table", tell=told.append) is new
    assert "different runtime" in told[0]
    (tmp_path / "table.csv").write_text("cut")
    assert sweep.with_points(new, tmp_path / "table", tell=told.append) is new
    assert "first line must name the columns" in told[1]
    assert sweep.joined(new, tmp_path / "none", tell=told.append) is new


def test_a_profile_keeps_what_sweeps_have_measured(tmp_path: Path) -> None:
    """Hours of sweeping are not lost to a profile of clocks as found, and its own rows are all new."""
    there = swept(tmp_path, count=4, energy=False)
    stem = tmp_path / "table"
    there.write(stem)
    found = {
        Cell(block_key=c.block_key, setting=PLAIN): replace(r, cell=Cell(block_key=c.block_key, setting=PLAIN))
        for c, r in there.row.items()
        if c.setting == at(MEASURED_AT[0])
    }
    new = replace(there, row=found, clock_models={}, between=(), compositions=())
    both = sweep.with_points(new, stem)
    assert both.row.keys() == {**there.row, **found}.keys()
    assert {cell: both.row[cell] for cell in found} == found
    assert both.clock_models == there.clock_models
    assert {c.setting for c in both.compositions} == {at(point) for point in MEASURED_AT}
    new.write(stem)
    assert sweep.with_points(there, stem) is there


def test_too_few_points_and_a_point_of_least_energy_are_told(tmp_path: Path) -> None:
    """A model needs more points than it has coefficients; energies of measured points compare without one."""
    few = swept(tmp_path, points=MEASURED_AT[:3], count=0)
    assert sweep.lines(few)[1].startswith("no models between operating points: 3 are too few")
    assert sweep.lines(replace(few, row={}))[1].startswith("no clock has a grid here")
    full = swept(tmp_path)
    least = next(line for line in sweep.lines(full) if "least energy at" in line)
    assert "for " in least
    assert at(GRID[0]).clocks_text not in least.split("less than")[0]
