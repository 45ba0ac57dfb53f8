"""Targets are found, read, and explained when they are wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwbench.errors import ConfigError
from hwbench.setting import Setting
from hwbench.target import Simulation, Target, faults, plugin_options
from hwbench.target_file import find_target, known_targets, read_target

_TEXT = """\
schema = 1
name = "desk"
title = "a board on the desk"
[[link]]
kind = "local"
[[backend]]
kind = "onnxruntime"
units = ["cpu"]
precisions = ["fp32", "int8"]
threads = [1, 2]
[[clock]]
kind = "fixed"
name = "gpu"
grid_mhz = [300.0, 600.5, 900.0]
[[clock]]
kind = "fixed"
name = "emc"
grid_mhz = [800.0, 1600.0]
[[meter]]
kind = "files"
optional = true
[meter.rails]
total = "file:/sys/power"
[power]
static_mw = 100
pj_per_mac = 1
pj_per_byte = 1
source = "a guess"
[simulation.cpu.fp32]
peak_gops = 10
bandwidth_gbps = 5
call_us = 10
static_mw = 100
dynamic_mw = 200
"""


def _read(folder: Path, text: str) -> Target:
    file = folder / "desk.toml"
    file.write_text(text, encoding="utf-8")
    return read_target(file)


def test_target_says_what_its_file_says(tmp_path: Path) -> None:
    """Sections arrive typed; a plugin's own keys stay with it."""
    target = _read(tmp_path, _TEXT)
    assert (target.name, target.backend[0].threads) == ("desk", (1, 2))
    assert target.clock[0].options == {"name": "gpu", "grid_mhz": (300.0, 600.5, 900.0)}
    assert target.meter[0].options == {"rails": {"total": "file:/sys/power"}}
    assert target.meter[0].optional
    assert target.power is not None
    assert target.power.idle_mw is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('title = "', 'titel = "', "'titel' — did you mean 'title'?"),
        ("precisions =", "presicions =", "'backend.0.presicions' — did you mean 'precisions'?"),
        ("static_mw = 100\npj", "statik_mw = 100\npj", "'power.statik_mw' — did you mean 'static_mw'?"),
        ("peak_gops", "peak_gop", "'simulation.cpu.fp32.peak_gop' — did you mean 'peak_gops'?"),
        ('kind = "local"', 'kind = "lokal"', "[[link]] kind 'lokal' is unknown — did you mean 'local'?"),
        ("schema = 1", "schema = 7", "schema is 7, this version reads 1"),
        ("schema = 1\n", "", "schema is None"),
        ('name = "desk"', 'name = "chair"', "name is 'chair', but the file is 'desk'"),
        ("peak_gops = 10", "peak_gops = -1", "simulation.cpu.fp32.peak_gops: Input should be greater than 0"),
        ('title = "a board on the desk"\n', "", "'title' is missing"),
        ('name = "emc"', 'name = "gpu"', "two [[clock]] sections are named 'gpu'"),
        ("[[link]]", "[[link]", "not valid TOML"),
    ],
)
def test_fault_is_named_with_file_key_and_way_out(tmp_path: Path, old: str, new: str, said: str) -> None:
    """One line: the file, where it is wrong, the nearest known name."""
    with pytest.raises(ConfigError) as caught:
        _read(tmp_path, _TEXT.replace(old, new, 1))
    assert said in str(caught.value)
    assert str(tmp_path / "desk.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_target_or_a_config_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Nothing that a file may hold escapes as another error."""
    file = tmp_path_factory.mktemp("t") / "desk.toml"
    file.write_bytes(data)
    with pytest.raises(ConfigError, match=r"desk\.toml"):
        read_target(file)


_LINES = _TEXT.splitlines()


@given(st.lists(st.sampled_from(_LINES), max_size=len(_LINES)))
def test_any_mix_of_known_lines_is_a_target_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    """Sections in a wrong place, keys missing or twice: always one clear line."""
    try:
        _read(tmp_path_factory.mktemp("t"), "\n".join(lines))
    except ConfigError as error:
        assert "\n" not in str(error).strip() or "TOML" in str(error)


def test_options_of_plugins_are_checked_when_asked_for(tmp_path: Path) -> None:
    """The plugin's own typo is named with its section and the nearest key."""
    target = _read(tmp_path, _TEXT.replace("[meter.rails]", "[meter.rials]"))
    (fault,) = [f for f in faults(target) if "meter" in f]
    assert "target desk: [[meter]] files: unknown key 'rials' — did you mean 'rails'?" in fault
    with pytest.raises(ConfigError, match="rials"):
        plugin_options(target, "hwbench.meters", "files", target.meter[0].options)


def test_an_option_given_on_the_way_goes_over_the_files_own(tmp_path: Path) -> None:
    """For that backend alone; the target that was read stays as it is."""
    text = _TEXT.replace(
        "threads = [1, 2]", "threads = [1, 2]\n[backend.options]\nspinning = true\ncores = { cpu = [0] }"
    )
    target = _read(tmp_path, text)
    changed = target.with_options("onnxruntime", spinning=False)
    assert {"spinning": False, "cores": {"cpu": [0]}} == changed.backend_section("onnxruntime").options
    assert target.backend_section("onnxruntime").options["spinning"] is True
    assert faults(target.with_options(None, spining=False))[0].count("'spinning'")
    with pytest.raises(ConfigError, match="tensorflow"):
        target.with_options("tensorflow", spinning=False)


def test_two_values_for_a_fixed_clock_are_a_fault(tmp_path: Path) -> None:
    """A clock that cannot be set has one speed at most."""
    assert len([f for f in faults(_read(tmp_path, _TEXT)) if "[[clock]] fixed" in f]) == 2


def test_earlier_folder_hides_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """./targets, then the user's folder, then what ships."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    own = tmp_path / "config" / "hwbench" / "targets"
    own.mkdir(parents=True)
    (own / "desk.toml").write_text(_TEXT.replace("a board", "mine"))
    (own / "host.toml").write_text(_TEXT.replace('"desk"', '"host"'))
    assert find_target("desk").title == "mine on the desk"
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "desk.toml").write_text(_TEXT)
    (tmp_path / "targets" / "uplinks.toml").write_text("[wifi]\n")
    assert find_target("desk").title == "a board on the desk"
    assert known_targets()["host"] == own / "host.toml"
    assert "uplinks" not in known_targets()


def test_unknown_target_names_the_nearest() -> None:
    """A typo on the command line."""
    with pytest.raises(ConfigError, match="unknown target 'hots' — did you mean 'host'"):
        find_target("hots")


def test_file_is_taken_by_its_path(tmp_path: Path) -> None:
    """A name that ends in .toml is a path."""
    _read(tmp_path, _TEXT)
    assert find_target(str(tmp_path / "desk.toml")).name == "desk"
    with pytest.raises(ConfigError, match="cannot be read"):
        find_target(str(tmp_path / "none.toml"))


def test_every_shipped_target_is_sound(root: Path) -> None:
    """What ships reads without a fault, options of plugins included."""
    files = [f for f in (root / "targets").glob("*.toml") if f.stem != "uplinks"]
    assert files
    for file in files:
        assert faults(read_target(file)) == []


def test_settings_are_the_product_of_what_the_section_names(tmp_path: Path) -> None:
    """Units x precisions x threads, clocks as found."""
    settings = _read(tmp_path, _TEXT).settings()
    assert settings == [Setting(unit="cpu", precision=p, batch=1, threads=t) for p in ("fp32", "int8") for t in (1, 2)]


def test_settings_can_be_chosen(tmp_path: Path) -> None:
    """Threads are free; units and precisions must be the section's."""
    target = _read(tmp_path, _TEXT)
    assert target.settings(precisions=["int8"], threads=[4], batch=2) == [
        Setting(unit="cpu", precision="int8", batch=2, threads=4)
    ]
    with pytest.raises(ConfigError, match="no precision 'int9' — did you mean 'int8'"):
        target.settings(precisions=["int9"])
    with pytest.raises(ConfigError, match="no backend 'onnx' — did you mean 'onnxruntime'"):
        target.settings("onnx")


def test_all_clocks_are_the_whole_grid(tmp_path: Path) -> None:
    """Three times two points, each setting both clocks."""
    points = {s.clocks_text for s in _read(tmp_path, _TEXT).settings(spec="all", precisions=["fp32"], threads=[1])}
    assert len(points) == 6
    assert "emc=1600 gpu=600.5" in points


@pytest.mark.parametrize("count", [1, 4, 5, 6, 99])
def test_sample_of_clocks_has_the_corners_first_and_no_point_twice(tmp_path: Path, count: int) -> None:
    """The same points every time; a sample larger than the grid is the grid."""
    target = _read(tmp_path, _TEXT)
    spec = f"sample:{count}"
    points = [s.clocks_text for s in target.settings(spec=spec, precisions=["fp32"], threads=[1])]
    assert points == [s.clocks_text for s in target.settings(spec=spec, precisions=["fp32"], threads=[1])]
    assert len(points) == len(set(points)) == min(count, 6)
    if count >= 4:
        assert {"emc=800 gpu=300", "emc=800 gpu=900", "emc=1600 gpu=300", "emc=1600 gpu=900"} <= set(points)


def test_points_are_taken_as_written(tmp_path: Path) -> None:
    """Several points are separated by semicolons."""
    settings = _read(tmp_path, _TEXT).settings(spec="gpu=300,emc=800;gpu=900", precisions=["fp32"], threads=[1])
    assert [s.clocks_text for s in settings] == ["emc=800 gpu=300", "gpu=900"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("gpo=300", "no clock 'gpo' — did you mean 'gpu'"),
        ("gpu=301", "clock gpu has no value 301.0 \\(grid: 300, 600.5, 900\\)"),
        ("gpu", "'gpu' is not NAME=VALUE"),
        ("sample:x", "'x' is not a number of points"),
        ("sample:0", "'0' is not a number of points"),
    ],
)
def test_wrong_clocks_are_explained(tmp_path: Path, spec: str, said: str) -> None:
    """Which clock, what it offers."""
    with pytest.raises(ConfigError, match=said):
        _read(tmp_path, _TEXT).settings(spec=spec)


def test_host_has_no_clock_to_visit() -> None:
    """Asking for a grid where nothing can be set is an error, not an empty campaign."""
    with pytest.raises(ConfigError, match="no clock has a grid"):
        find_target("host").settings(spec="all")


def test_reading_targets_needs_no_numpy(root: Path) -> None:
    """`hwbench targets` must answer at once."""
    code = "import sys, hwbench.target_file as t; t.find_target('host'); sys.exit('numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, check=False
    )
    assert done.returncode == 0


_CALIBRATED = """
[simulation.cpu.fp32.calibrated]
date = "2026-01-02"
source = "somebody"
evidence = "published"
family = "cells"
fits = ["peak_gops"]
n = 30
held_out = 30
mape_percent = 5.0
spearman = 0.9
[simulation.cpu.fp32.threads.1]
peak_gops = 3
bandwidth_gbps = 5
call_us = 10
static_mw = 100
dynamic_mw = 200
"""


def _extending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str) -> Simulation:
    """The fp32 of a target that extends a calibrated one."""
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "desk.toml").write_text(_TEXT + _CALIBRATED)
    (tmp_path / "targets" / "own.toml").write_text(f'schema = 1\nname = "own"\nextends = "desk"\n{own}')
    monkeypatch.chdir(tmp_path)
    return find_target("own").simulation["cpu"]["fp32"]


def test_a_calibration_is_inherited_with_its_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A board that is reached elsewhere is simulated as well as the one that it is like."""
    found = _extending(tmp_path, monkeypatch, "[limits]\ntemp_c = 60\n")
    assert found.calibrated is not None and "held-out MAPE 5 %" in found.calibrated.line
    assert 3 == found.at(1).peak_gops and 10 == found.at(2).peak_gops == found.at(None).peak_gops


def test_no_calibration_is_claimed_of_other_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are those by threads kept, which belong to the other board."""
    found = _extending(tmp_path, monkeypatch, "[simulation.cpu.fp32]\npeak_gops = 40\n")
    assert (40, 5) == (found.peak_gops, found.bandwidth_gbps)
    assert found.calibrated is None
    assert 40 == found.at(1).peak_gops


def test_parameters_by_threads_leave_the_others_calibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They say nothing of them."""
    found = _extending(tmp_path, monkeypatch, "[simulation.cpu.fp32.threads.1]\npeak_gops = 4\n")
    assert found.calibrated is not None
    assert (4, 5) == (found.at(1).peak_gops, found.at(1).bandwidth_gbps)
