"""An analytic board through the commands of a real one: the same campaign, store and tables, and nothing is reached."""

from __future__ import annotations

import csv
import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from hwbench import command
from hwbench.backends import roofline
from hwbench.board import open_board
from hwbench.check import problems
from hwbench.cli import hwbench
from hwbench.clock import Clock
from hwbench.errors import ConfigError, PermanentDeviceError
from hwbench.measurement import Trace
from hwbench.meter import Meter
from hwbench.setting import Setting
from hwbench.simulated import Nowhere, VirtualClock, VirtualMeter
from hwbench.table import LatencyTable
from hwbench.target import Target
from hwbench.target_file import find_target, known_targets, read_target
from tests.contracts.clock import ClockContract
from tests.contracts.meter import MeterContract
from tests.hwbench.onnx_networks import residual_network

BOARDS = [name for name in known_targets() if name != "host"]


def told(*words: str) -> int:
    return command.run(hwbench, "hwbench", words)


class TestVirtualClock(ClockContract):
    """It is where it was set."""

    @pytest.fixture
    def clock(self) -> Clock:
        return VirtualClock("gpu", (306.0, 408.0))


class TestVirtualMeter(MeterContract):
    """It hands on the simulation's counter."""

    @pytest.fixture
    def meter(self) -> Meter:
        return VirtualMeter()

    @pytest.fixture
    def traces(self) -> Mapping[str, Trace]:
        t_ns = np.linspace(0, 4e9, 41).astype(np.int64)
        return {"virtual": Trace(t_ns=t_ns, value=t_ns * 2.5e-6, unit="uj")}

    @pytest.fixture
    def truth_mw(self) -> float:
        return 2.5


def test_a_link_to_nowhere_holds_nothing(tmp_path: Path) -> None:
    """Commands succeed without doing anything; what would need a board is refused."""
    with Nowhere() as link:
        assert 0 == link.run(["mv", "a", "b"], timeout_s=1).returncode
        link.write("/nowhere/restore.json", b"{}")
        with pytest.raises(FileNotFoundError):
            link.read("/nowhere/restore.json")
        for refused in (lambda: link.push(tmp_path), lambda: link.spawn(["sh"], env={})):
            with pytest.raises(PermanentDeviceError, match="simulated board"):
                refused()


@pytest.mark.parametrize("name", BOARDS)
def test_every_board_that_ships_is_simulated_at_its_own_clocks(name: str) -> None:
    """Each unit and precision names its source, and clocks that the target has."""
    target = find_target(name)
    clocks = {clock.name for clock in target.clock}
    for of_unit in target.simulation.values():
        for simulation in of_unit.values():
            assert simulation.source
            assert {simulation.compute_clock, simulation.memory_clock} - {None} <= clocks
    analytic = target.simulated()
    assert analytic.settings(spec="sample:3")
    with open_board(analytic) as board:
        for setting in analytic.settings(spec="sample:2"):
            assert dict(setting.clocks) == board.apply(setting)
        assert {} == board.switch_ms
        assert "simulated" == board.identity(analytic.settings()[0])["board.model"]


def test_units_of_every_board_are_those_of_its_runtimes() -> None:
    """What can be measured can be simulated; a DLA alone is left out."""
    for name in BOARDS:
        target = find_target(name)
        measured = {unit for section in target.backend for unit in section.units}
        assert measured - {"dla"} == target.simulation.keys(), name


def test_a_target_without_parameters_says_what_is_missing() -> None:
    """Nothing is made up."""
    with pytest.raises(ConfigError, match=r"target host: no \[simulation\.<unit>\.<precision>\]"):
        find_target("host").simulated()


def test_a_simulated_profile_is_a_table_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Simulated in every row, complete, the same to the byte, and never where a measured one would lie."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HWBENCH_TABLES", str(tmp_path / "tables"))
    onnx.save(residual_network(), tmp_path / "net.onnx")
    words = ["profile", "--target", "rpi4", "--simulate", "--model", "net.onnx"]
    monkeypatch.setattr(sys, "argv", ["hwbench", *words])
    assert 0 == told(*words)
    stem = tmp_path / "tables" / "rpi4" / "roofline-net"
    first = {file.name: file.read_bytes() for file in stem.parent.iterdir()}
    assert {"roofline-net.csv", "roofline-net.parts.csv", "roofline-net.toml"} == set(first)
    table = LatencyTable.read(stem)
    assert {"latency_ms": "simulated", "energy_mj": "simulated"} == {m: str(e) for m, e in table.source.items()}
    with stem.with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    power = [float(row["energy_mj"]) / float(row["latency_ms"]) for row in rows]
    assert 2 * (4 + 1) == len(rows)
    assert max(power) > 1.05 * min(power)
    assert all(row["peak_memory_mb"] for row in rows)
    assert 0 == told(*words)
    assert first == {file.name: file.read_bytes() for file in stem.parent.iterdir()}


@pytest.mark.parametrize("name", BOARDS)
def test_every_board_is_profiled_and_swept(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a link to any of them; one whose clocks nobody sets is swept where it stands."""
    monkeypatch.chdir(tmp_path)
    onnx.save(residual_network(), tmp_path / "net.onnx")
    for verb in ("profile", "sweep"):
        assert 0 == told(verb, "--target", name, "--simulate", "--model", "net.onnx", "--out", verb)
        table = LatencyTable.read(tmp_path / verb)
        assert {"simulated"} == {str(evidence) for evidence in table.source.values()}
        assert {s.unit for s in table.settings} == find_target(name).simulation.keys()


def test_noise_gives_intervals_that_hold_the_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And as many sessions as on a real board."""
    monkeypatch.chdir(tmp_path)
    onnx.save(residual_network(), tmp_path / "net.onnx")
    words = ["--target", "rpi4", "--model", "net.onnx", "--out", "noisy"]
    assert 0 == told("profile", "--simulate", "--noise", "2", *words)
    for row in LatencyTable.read(tmp_path / "noisy").row.values():
        assert row.latency_ms.low is not None and row.latency_ms.high is not None
        assert row.latency_ms.low < row.latency_ms.value < row.latency_ms.high
    assert 2 == told("profile", "--noise", "2", *words)


def test_simulate_is_a_backend_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Naming another beside it is a contradiction."""
    monkeypatch.chdir(tmp_path)
    assert 2 == told("profile", "--target", "rpi4", "--simulate", "--backend", "litert")


def test_a_board_that_is_not_there_is_one_line_with_two_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was tried, what failed, doctor and --simulate; exit 4."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "targets"
    folder.mkdir()
    (folder / "away.toml").write_text(
        'schema = 1\nextends = "rpi4"\nname = "away"\nlink = [{ kind = "ssh", host = "away.invalid", user = "pi" }]\n'
    )
    assert 4 == told("profile", "--target", "away")
    (line,) = capsys.readouterr().err.splitlines()
    assert "pi@away.invalid: cannot connect" in line
    assert "hwbench doctor --target away; without a board: --simulate" in line


def test_a_grid_moves_only_the_clocks_of_its_unit() -> None:
    """A GPU's sweep leaves the processor's clock alone, and a unit without clocks is visited once."""
    tx2 = find_target("jetson-tx2")
    (fp16,) = tx2.settings("tensorrt", "gpu=1300.5,emc=1866", precisions=["fp16"])
    assert fp16 == Setting(unit="gpu", precision="fp16", clocks=(("emc", 1866.0), ("gpu", 1300.5)))
    assert {"emc", "gpu", "mode"} == {name for s in tx2.settings("tensorrt", "all") for name, _ in s.clocks}
    assert 12 * 11 * 4 == len(tx2.settings("onnxruntime", "all"))
    assert [Setting(unit="npu", precision="int8", threads=1)] == find_target("coral").settings("edgetpu", "all")
    analytic = find_target("android").simulated()
    assert {()} == {setting.clocks for setting in analytic.settings(spec="sample:12")}


def test_a_unit_keeps_to_the_precisions_that_it_has() -> None:
    """`only` narrows a section; asking for what nothing runs is an error."""
    android = find_target("android")
    pairs = {(s.unit, s.precision) for s in android.settings()}
    assert {
        ("npu", "fp16"),
        ("npu", "int8"),
        ("gpu", "fp32"),
        ("gpu", "fp16"),
        ("cpu", "fp32"),
        ("cpu", "int8"),
    } == pairs
    with pytest.raises(ConfigError, match="nothing runs on gpu at int8"):
        android.settings(units=["gpu"], precisions=["int8"])


def test_one_simulated_board_has_one_link() -> None:
    """A farm of simulations would say the same twice."""
    rpi4 = find_target("rpi4")
    farm: Target = rpi4.model_copy(update={"link": rpi4.link * 3})
    assert 1 == len(farm.simulated().link)


def shipped(root: Path) -> list[Path]:
    return sorted((root / "latency_tables").glob("*/roofline-digits.toml"))


def test_a_simulated_table_ships_for_every_board(root: Path) -> None:
    """Whole, plausible, made with the parameters that its target has now, and nothing in it claims to be measured."""
    assert BOARDS == sorted(file.parent.name for file in shipped(root))
    for file in shipped(root):
        table = LatencyTable.read(file)
        assert [] == problems(table, max_mape_percent=3.0), table.name
        assert {"simulated"} == {str(evidence) for evidence in table.source.values()}
        options = find_target(table.origin.target).simulated().backend[0].options
        assert table.runtime.version == roofline.open(options).version, f"{table.name} is out of date: make tables"
        assert (
            table.clock_models
            or not any(c.values for c in find_target(table.origin.target).clock)
            or ("coral" == table.origin.target)
        ), table.name


def test_the_readme_tells_evidence_and_error_of_each_shipped_table(root: Path) -> None:
    """The worst of its settings and metrics; tables without clocks have nothing between them."""
    text = (root / "latency_tables" / "README.md").read_text(encoding="utf-8")
    for file in shipped(root):
        table = LatencyTable.read(file)
        composed = max(composition.error.mape_percent for composition in table.compositions)
        between = max((section.mape_percent for section in table.between), default=None)
        (line,) = (line for line in text.splitlines() if line.startswith(f"| `{table.name}` | simulated |"))
        calibrated = [f"{c.unit} {c.precision} {c.mape_percent:.1f} %" for c in table.calibrations]
        assert f"| {', '.join(calibrated) or '–'} |" in line
        assert line.endswith(f"| {composed:.1f} % | {'–' if between is None else f'{between:.1f} %'} |")


def test_a_shipped_table_comes_out_of_its_command(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest with clocks; `make tables` does the same for all. What is fitted may round otherwise elsewhere."""
    stem = root / "latency_tables" / "coral" / "roofline-digits"
    words = shlex.split(LatencyTable.read(stem).origin.command)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HWBENCH_TABLES", str(tmp_path / "tables"))
    monkeypatch.setattr(sys, "argv", words)
    assert 0 == told(*words[1:])
    made = tmp_path / "tables" / "coral" / "roofline-digits"
    for suffix in (".csv", ".parts.csv"):
        shipped_file, made_file = (file.with_name(file.name + suffix) for file in (stem, made))
        assert shipped_file.read_bytes() == made_file.read_bytes()
    ours, theirs = LatencyTable.read(made), LatencyTable.read(stem)
    assert (theirs.origin, theirs.runtime, theirs.returned) == (ours.origin, ours.runtime, ours.returned)
    for one, other in zip(ours.compositions, theirs.compositions, strict=True):
        assert (one.metric, one.setting) == (other.metric, other.setting)
        assert [one.call, one.scale, one.layout] == pytest.approx([other.call, other.scale, other.layout], rel=1e-3)


def test_a_target_of_ones_own_keeps_the_parameters_of_the_one_it_extends(tmp_path: Path) -> None:
    """`hwbench targets add` writes three lines; it can be simulated like the board that it is like."""
    file = tmp_path / "mypi.toml"
    file.write_text('schema = 1\nextends = "rpi4"\nname = "mypi"\n')
    assert read_target(file).simulation == find_target("rpi4").simulation
    assert replace(read_target(file).simulated().settings()[0], batch=2).unit == "cpu"
