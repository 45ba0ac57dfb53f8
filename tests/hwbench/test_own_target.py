"""A board of one's own is described by one that it is like."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwbench import command
from hwbench.cli import hwbench
from hwbench.errors import ConfigError
from hwbench.own_target import add_target, keep_calibrated
from hwbench.setting import Setting
from hwbench.target import Calibration, Simulation
from hwbench.target_file import find_target

BASE = """
schema = 1
name = "base"
title = "a board that ships"
[[link]]
kind = "ssh"
host = "base.local"
user = "maker"
root = "none"
[[link]]
kind = "adb"
[[backend]]
kind = "onnxruntime"
units = ["cpu"]
precisions = ["fp32"]
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one target."""
    (tmp_path / "here" / "targets").mkdir(parents=True)
    (tmp_path / "here" / "targets" / "base.toml").write_text(BASE)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_it_is_the_base_reached_elsewhere() -> None:
    """The other options of its link stay, and everything else follows the base."""
    file = add_target("mine", "base", host="pi@10.0.0.7:2222")
    assert Path("targets/mine.toml") == file
    mine = find_target("mine")
    assert ("mine", "a board that ships") == (mine.name, mine.title)
    (link,) = mine.link
    assert {"kind": "ssh", "host": "10.0.0.7", "user": "pi", "port": 2222, "root": "none"} == {
        "kind": link.kind,
        **link.options,
    }
    assert 'extends = "base"' in file.read_text() and "[[link]]" in file.read_text()


def test_a_serial_number_goes_to_the_link_of_adb() -> None:
    """Of a base with both."""
    add_target("phone", "base", serial="RZ8N 'x'")
    (link,) = find_target("phone").link
    assert ("adb", "RZ8N 'x'") == (link.kind, link.options["serial"])


def test_a_key_file_is_kept_absolute(here: Path) -> None:
    """Whoever measures may stand elsewhere."""
    (here / "key").write_text("")
    add_target("mine", "base", host="10.0.0.7", key_file=Path("key"))
    assert str(here / "key") == find_target("mine").link[0].options["key_file"]


def test_a_file_that_is_there_is_never_written_over() -> None:
    """It may hold somebody's work."""
    add_target("mine", "base", host="10.0.0.7")
    before = Path("targets/mine.toml").read_text()
    with pytest.raises(ConfigError, match="already"):
        add_target("mine", "base", host="10.0.0.8")
    assert before == Path("targets/mine.toml").read_text()


@pytest.mark.parametrize("name", ["", "My Board", "../up", "-x", "a/b", "uplinks", "é"])
def test_a_name_that_cannot_be_one_is_refused(name: str) -> None:
    """Before anything is written."""
    with pytest.raises(ConfigError, match="cannot name"):
        add_target(name, "base", host="10.0.0.7")
    assert ["base.toml"] == [file.name for file in Path("targets").iterdir()]


@pytest.mark.parametrize(
    ("base", "where", "message"),
    [
        ("bas", {"host": "h"}, "did you mean 'base'"),
        ("host", {"host": "h"}, "not by ssh"),
        ("base", {}, "--host"),
        ("base", {"host": "h", "serial": "s"}, "one of them"),
        ("base", {"host": "a b"}, "not a host"),
        ("base", {"host": "-oProxyCommand=x"}, "not a host"),
        ("base", {"serial": "s", "key_file": Path("key")}, "goes with --host"),
        ("base", {"host": "h", "key_file": Path("absent")}, "no such file"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(base: str, where: dict[str, object], message: str) -> None:
    """And nothing is written."""
    with pytest.raises(ConfigError, match=message):
        add_target("mine", base, **where)
    assert not Path("targets/mine.toml").exists()


def test_the_command_names_the_next_one(capsys: pytest.CaptureFixture[str]) -> None:
    """`hwbench targets` stays the list."""
    added = ["targets", "add", "mine", "--from", "base", "--host", "pi@10.0.0.7"]
    assert 0 == command.run(hwbench, "hwbench", added)
    assert "next: hwbench doctor --target mine" in capsys.readouterr().out
    assert 0 == command.run(hwbench, "hwbench", ["targets"])
    assert "mine" in capsys.readouterr().out
    assert 2 == command.run(hwbench, "hwbench", added)


def test_a_target_is_reached_elsewhere_for_one_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`--host` of profile and doctor: what was tried is named."""
    for words in (["profile", "--model", "none.onnx"], ["doctor"]):
        command.run(hwbench, "hwbench", [*words, "--target", "host", "--host", "10.0.0.7"])
        assert "not by ssh" in capsys.readouterr().err


SIMULATED = """
[simulation.cpu.fp32]
peak_gops = 16
bandwidth_gbps = 4
call_us = 20
static_mw = 400
dynamic_mw = 2900
"""
FITTED = Calibration(
    date="2026-01-02", source="somebody", evidence="published", family="cells", fits=("peak_gops", "fused"), n=30,
    held_out=30, mape_percent=5, spearman=0.9,
)  # fmt: skip
ANY, TWO = (Setting(unit="cpu", precision="fp32", threads=threads) for threads in (None, 2))


def fitted(setting: Setting) -> Simulation:
    """What was found for the target `own`, which extends a simulated base."""
    parameters = find_target("own").parameters(setting)
    assert parameters is not None
    return parameters.model_copy(update={"peak_gops": 3.5, "fused": ("add",), "calibrated": FITTED, "threads": {}})


@pytest.mark.parametrize(
    "own",
    [
        "",
        "[limits]\ntemp_c = 70\n",
        "[simulation.cpu.fp32]\npeak_gops = 15 # at most\n[limits]\ntemp_c = 70\n[simulation.cpu.int8]\npeak_gops = 4\n"
        "bandwidth_gbps = 4\ncall_us = 20\nstatic_mw = 4\ndynamic_mw = 9\n",
        "simulation = { cpu = { fp32 = { peak_gops = 15, threads = {} } } }\n",
        "simulation.cpu.fp32.peak_gops = 15\n",
        "[simulation.cpu]\nfp32 = { idle_mw = 1000 } # a nicer supply\n",
    ],
)
@pytest.mark.parametrize("order", [(ANY, ANY), (TWO, ANY), (ANY, TWO)], ids=("again", "threads first", "threads then"))
def test_what_was_fitted_is_added_in_the_style_that_is_there(own: str, order: tuple[Setting, ...]) -> None:
    """Read back as it was found, beside all that stood there; or, where TOML has no way to add it, nothing changes."""
    file = Path("targets/own.toml")
    Path("targets/base.toml").write_text(BASE + SIMULATED)
    file.write_text(text := f'schema = 1\nname = "own"\nextends = "base"\n{own}')
    before = find_target("own")
    for setting in order:
        text, now = file.read_text(), fitted(setting)
        try:
            keep_calibrated(before, {setting: now})
        except ConfigError as error:
            assert own.startswith("simulation.cpu.fp32.") and "in sections of their own" in str(error)
            assert text == file.read_text()
            return
        read = find_target("own").parameters(setting)
        assert read is not None
        assert now == read.model_copy(update={"threads": {}})
    after = find_target("own")
    assert before.limits == after.limits and before.simulation["cpu"].keys() == after.simulation["cpu"].keys()
    assert all(comment in file.read_text() for comment in ("# at most", "# a nicer supply") if comment in own)
    assert {s.calibrated for _, s in after.simulations() if s.calibrated} == {FITTED}


def test_a_target_that_ships_is_extended_by_one_of_its_name() -> None:
    """Beside it; everything that was not fitted follows it."""
    nano = find_target("jetson-nano")
    setting = Setting(unit="cpu", precision="int8")
    parameters = nano.simulation["cpu"]["int8"].model_copy(update={"peak_gops": 3.5, "calibrated": FITTED})
    assert Path("targets/jetson-nano.toml") == keep_calibrated(nano, {setting: parameters})
    assert parameters.model_copy(update={"fused": ()}) == find_target("jetson-nano").simulation["cpu"]["int8"]
    assert nano.clock == find_target("jetson-nano").clock
    assert "bandwidth_gbps" not in Path("targets/jetson-nano.toml").read_text()
