"""`hwbench calibrate`: from a file of networks to a target's TOML, and from there into every simulated table."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from hwbench import command
from hwbench.cli import hwbench
from hwbench.networks_file import Networks
from hwbench.setting import Setting
from hwbench.table import LatencyTable
from hwbench.target_file import find_target
from tests.hwbench.onnx_networks import residual_network
from tests.hwbench.test_calibrate import measured

BOARD = """\
# My own board.
schema = 1
name = "mine"
title = "a board on my desk"
link = [{ kind = "local" }]

[[backend]]
kind = "onnxruntime"
units = ["cpu"]
precisions = ["fp32", "int8"]

[[clock]]
kind = "cpufreq"
name = "cpu"
policy = 0
grid_mhz = [600, 1500, 1800]

[simulation.cpu.fp32]  # as the shop says
peak_gops = 16  # at most
bandwidth_gbps = 4.5
call_us = 20
op_us = 4
idle_mw = 2700
static_mw = 400
dynamic_mw = 2900
compute_clock = "cpu"
source = "a leaflet"

[simulation.cpu.int8]
peak_gops = 32
bandwidth_gbps = 4.5
call_us = 20
static_mw = 400
dynamic_mw = 2900
source = "a leaflet"
"""


def told(*words: str | Path) -> int:
    return command.run(hwbench, "hwbench", [str(word) for word in words])


def written(file: Path, *runs: tuple[Networks, dict[str, str]]) -> Path:
    """As CSV; each run's networks with columns that say how they were run."""
    said = sorted({name for _, columns in runs for name in columns})
    with file.open("w", encoding="utf-8", newline="") as out:
        lines = csv.writer(out)
        lines.writerow(["family", "arch", *said, "latency_ms", "energy_mj"])
        for networks, columns in runs:
            for i, arch in enumerate(networks.archs):
                values = [networks.values[metric][i] for metric in ("latency_ms", "energy_mj")]
                lines.writerow([networks.family, arch, *(columns.get(n, "") for n in said), *values])
    return file


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a target of one's own."""
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "mine.toml").write_text(BOARD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HWBENCH_TABLES", str(tmp_path / "tables"))
    return tmp_path


@pytest.fixture
def cells(here: Path, rng: np.random.Generator) -> Path:
    return written(here / "cells.csv", (measured(220, rng), {}))


def test_a_target_learns_from_measurements(cells: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was fitted is read back as it was printed, with its error; all else of the file stays, comments too."""
    assert 0 == told("calibrate", "--target", "mine", "--networks", cells, "--precision", "fp32", "--json")
    (said,) = json.loads(capsys.readouterr().out)["calibrations"]
    text = Path("targets/mine.toml").read_text()
    for comment in ("# My own board.", "# as the shop says", "# at most"):
        assert comment in text
    target = find_target("mine")
    parameters = target.simulation["cpu"]["fp32"]
    for name, value in said["parameters"].items():
        assert json.loads(json.dumps(getattr(parameters, name))) == value, name
    assert parameters.peak_gops < 10
    assert ("a leaflet", 2700) == (parameters.source, parameters.idle_mw)
    record = parameters.calibrated
    assert record is not None
    assert ("measured", "cells.csv", "nas-bench-201") == (record.evidence, record.source, record.family)
    assert (said["fitted"], said["held_out"]["latency_ms"]["n"]) == (record.n, record.held_out)
    assert record.mape_percent == pytest.approx(said["held_out"]["latency_ms"]["mape"], rel=0.01)
    assert record.energy_mape_percent == pytest.approx(said["held_out"]["energy_mj"]["mape"], rel=0.01)
    assert said["before"]["latency_ms"]["mape"] > 10 * record.mape_percent
    assert target.simulation["cpu"]["int8"].calibrated is None


def test_a_board_that_ships_is_calibrated_beside(
    here: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file extends the target that it hides; a second calibration stands where the first stood."""
    file = written(here / "pi.csv", (measured(220, rng), {}))
    words = ("calibrate", "--target", "jetson-nano", "--networks", file, "--unit", "cpu", "--precision", "fp32")
    assert 0 == told(*words, "--source", "Some et al. 2024")
    first = find_target("jetson-nano").simulation["cpu"]["fp32"]
    assert 0 == told(*words, "--seed", "1")
    again = find_target("jetson-nano").simulation["cpu"]["fp32"]
    assert first.calibrated is not None and again.calibrated is not None
    assert ("published", "Some et al. 2024") == (first.calibrated.evidence, first.calibrated.source)
    assert ("measured", "pi.csv") == (again.calibrated.evidence, again.calibrated.source)
    assert 1 == Path("targets/jetson-nano.toml").read_text().count("[simulation.cpu.fp32.calibrated]")
    assert "held out: MAPE" in capsys.readouterr().out


def test_a_file_may_tell_of_several_ways_to_run(here: Path, rng: np.random.Generator) -> None:
    """Each gets its parameters; those of a number of threads are used at that number alone."""
    slow = {"precision": "fp32", "threads": "1", "clocks": "cpu=600"}
    at_600 = Setting(unit="cpu", precision="fp32", threads=1, clocks=(("cpu", 600.0),))
    int8 = Setting(unit="cpu", precision="int8")
    file = written(
        here / "all.csv",
        (measured(220, rng, setting=at_600), slow),
        (measured(220, rng, setting=int8), {"precision": "int8"}),
    )
    assert 0 == told("calibrate", "--target", "mine", "--networks", file)
    target = find_target("mine")
    assert {("fp32", None): False, ("fp32", 1): True, ("int8", None): True} == {
        (setting.precision, setting.threads): simulation.calibrated is not None
        for setting, simulation in target.simulations()
    }
    one = target.parameters(Setting(unit="cpu", precision="fp32", threads=1))
    assert one is not None and one.calibrated is not None
    assert 3 < one.peak_gops < 8
    assert 2700 == one.idle_mw
    assert 16 == target.simulation["cpu"]["fp32"].peak_gops


def test_tables_carry_the_error(cells: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the TOML, on the screen, in JSON and on the page; what nobody calibrated says so."""
    onnx.save(residual_network(), here / "net.onnx")
    profile = ("profile", "--target", "mine", "--simulate", "--model", "net.onnx")
    assert 0 == told(*profile)
    assert "simulated [cpu fp32 batch=1]: not calibrated" in capsys.readouterr().out
    assert 0 == told("calibrate", "--target", "mine", "--networks", cells, "--precision", "fp32")
    assert 0 == told(*profile)
    stem = here / "tables" / "mine" / "roofline-net"
    (section,) = LatencyTable.read(stem).calibrations
    record = find_target("mine").simulation["cpu"]["fp32"].calibrated
    assert record is not None
    assert record.model_dump().items() <= section.model_dump().items()
    assert ("cpu", "fp32") == (section.unit, section.precision)
    capsys.readouterr()
    line = f"calibrated on {record.n} measured networks of nas-bench-201 (cells.csv, {record.date}), held-out MAPE"
    for words in (("table", "show", stem), ("targets", "show", "mine")):
        assert 0 == told(*words)
        out = capsys.readouterr().out
        assert line in out and f"MAPE {record.mape_percent:g} %" in out
        assert "int8" in out and "not calibrated" in out
    assert 0 == told("table", "show", stem, "--json")
    assert json.loads(capsys.readouterr().out)["calibration"][0]["n"] == record.n
    assert 0 == told("report", stem, "--out", "page.html")
    assert line in Path("page.html").read_text(encoding="utf-8")


def test_a_dry_run_writes_nothing(cells: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And says everything."""
    assert 0 == told("calibrate", "--target", "mine", "--networks", cells, "--precision", "fp32", "--dry-run")
    assert BOARD == Path("targets/mine.toml").read_text()
    assert "nothing written" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give --unit and --precision (mine has cpu fp32, cpu int8)"),
        (("--precision", "fp16"), "no precision 'fp16'"),
        (("--precision", "fp32", "--unit", "gpu"), "no unit 'gpu'"),
        (("--precision", "fp32", "--clocks", "cpu=1550"), "clock cpu has no value"),
        (("--precision", "fp32", "--clocks", "all"), "'all' is not NAME=VALUE"),
        (("--precision", "fp32", "--target", "host"), "no [simulation.<unit>.<precision>]"),
        (("--precision", "fp32", "--networks", "nowhere.csv"), "no such file"),
    ],
)
def test_what_cannot_be_calibrated_is_one_line(
    cells: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    """Exit 2, and the target stays as it is."""
    assert 2 == told("calibrate", "--target", "mine", "--networks", cells, *words)
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert BOARD == Path("targets/mine.toml").read_text()


def test_words_against_the_file_are_refused(
    here: Path, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of both is wrong; and two ways that share their parameters are one too many."""
    networks = measured(30, rng)
    file = written(here / "a.csv", (networks, {"precision": "int8"}))
    assert 2 == told("calibrate", "--target", "mine", "--networks", file, "--precision", "fp32")
    assert "says precision int8, --precision says fp32" in capsys.readouterr().err
    two = written(here / "b.csv", *((networks, {"precision": "fp32", "clocks": f"cpu={c}"}) for c in (600, 1800)))
    assert 2 == told("calibrate", "--target", "mine", "--networks", two)
    assert "share parameters; keep the rows of one" in capsys.readouterr().err


def test_a_broken_target_file_is_named(cells: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is wrong with it, nothing is lost."""
    (here / "targets" / "mine.toml").write_text(BOARD + "[simulation.cpu\n")
    assert 2 == told("calibrate", "--target", "mine", "--networks", cells, "--precision", "fp32")
    assert "targets/mine.toml: not valid TOML" in capsys.readouterr().err
