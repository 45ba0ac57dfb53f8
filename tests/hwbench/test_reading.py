"""The host reads what the agent would read, and knows when a board slowed down."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from hwbench.errors import TransientDeviceError
from hwbench.link import Link
from hwbench.links import local
from hwbench.reading import read_on_board, read_probe, read_probes, throttled
from hwbench.target import Probe
from tests.doubles import vcgencmd


@pytest.fixture
def link(tmp_path: Path) -> Link:
    return local.open({"workdir": tmp_path / "work"})


def _probe(read: str, unit: str = "raw", name: str = "p") -> Probe:
    return Probe.model_validate({"name": name, "read": read, "unit": unit})


@pytest.mark.parametrize(
    ("read", "unit"),
    [
        ("file:{0}/number", "raw"),
        ("file:{0}/lines#RAIL", "uj"),
        ("file:{0}/none", "raw"),
        ("file:{0}/words", "raw"),
        ("above:{0}/number {0}/less", "flags"),
        ("above:{0}/less {0}/number", "flags"),
        ("above:{0}/less {0}/none", "flags"),
        ("run:{0}/vcgencmd measure_temp", "c"),
        ("run:{0}/vcgencmd get_throttled#throttled", "flags"),
        ("run:{0}/vcgencmd no_such_command", "raw"),
        ("run:{0}/none", "raw"),
    ],
)
def test_host_and_board_read_the_same(link: Link, tmp_path: Path, read: str, unit: str) -> None:
    """One rule in both places, unknown included."""
    for name, text in {
        "number": "42\n",
        "less": "7",
        "words": "not a number\n",
        "lines": "CH0(T=1)[RAIL], 5\n",
    }.items():
        (tmp_path / name).write_text(text)
    vcgencmd.install(tmp_path)
    probe = _probe(read.format(tmp_path), unit)
    here = read_probe(link, probe)
    assert read_on_board(link, [probe]) == [here]
    assert (here is None) == any(word in read for word in ("none", "words", "no_such"))


def test_gpu_of_a_board_without_one_is_unknown(link: Link) -> None:
    """Asked of the board's own Python; no driver, no number."""
    probe = _probe("nvml:power:99", "mw")
    assert read_probe(link, probe) is None


def test_several_are_read_in_one_go_and_in_order(link: Link, tmp_path: Path) -> None:
    """One process on the board for all."""
    for name in ("1", "2"):
        (tmp_path / name).write_text(name)
    probes = [_probe(f"file:{tmp_path}/2"), _probe(f"file:{tmp_path}/none"), _probe(f"file:{tmp_path}/1")]
    assert read_on_board(link, probes) == [2.0, None, 1.0]


def test_sensors_that_take_the_boards_python_share_one(tmp_path: Path) -> None:
    """A process a reading would take longer than the window; files are read as ever."""
    count, python = tmp_path / "count", tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho . >>"{count}"\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "temp").write_text("48000\n")
    link = local.open({"workdir": tmp_path / "work", "python": str(python)})
    sensors = [_probe("nvml:temp:99", "c"), _probe(f"file:{tmp_path}/temp", "mc"), _probe("nvml:power:99", "mw")]
    assert read_probes(link, sensors) == [None, 48_000.0, None]
    assert count.read_text().count(".") == 1


def test_board_whose_python_says_something_else_is_unknown(tmp_path: Path) -> None:
    """Nothing that a board prints is believed by its looks."""
    python = tmp_path / "python"
    for said in ("[1, 2]", "{}", "[true]", "[NaN]", "['x']", "garbage"):
        python.write_text(f"#!/bin/sh\necho '{said}'\n")
        python.chmod(0o755)
        link = local.open({"workdir": tmp_path / "work", "python": str(python)})
        assert read_on_board(link, [_probe("file:/x")]) == [None]


def test_lost_link_is_no_missing_sensor(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is worth another try."""
    monkeypatch.setattr("hwbench.reading._COMMAND_S", 0.2)
    with pytest.raises(TransientDeviceError):
        read_probe(link, _probe("run:sleep 60"))


@pytest.mark.parametrize(
    ("unit", "before", "after", "slowed"),
    [
        ("raw", 17, 17, False),
        ("raw", 17, 18, True),
        ("flags", 0, 0, False),
        ("flags", 0x4, 0x4, True),
        ("flags", 0x50000, 0x50000, False),
        ("flags", 0x10000, 0x50000, True),
        ("flags", 0x1, 0x10001, True),
        ("flags", 0, 0x2, True),
    ],
)
def test_counts_that_move_and_flags_that_are_up_slow_a_board(unit: str, before: int, after: int, slowed: bool) -> None:
    """Sticky bits of an earlier day say nothing of this window; bits that are up now do."""
    sensors = [_probe("file:/t", unit, "throttle.core"), _probe("file:/x", "raw", "fan")]
    told = throttled(sensors, {"throttle.core": before, "fan": 1}, {"throttle.core": after, "fan": 2})
    assert told == (("throttle.core",) if slowed else ())


def test_sensor_that_did_not_answer_before_is_judged_by_what_it_says_now() -> None:
    """A count alone says nothing; a flag does."""
    assert throttled([_probe("file:/t", "raw", "throttle.a")], {}, {"throttle.a": 5}) == ()
    assert throttled([_probe("file:/t", "flags", "throttle.a")], {}, {"throttle.a": 5}) == ("throttle.a",)
    assert throttled([_probe("file:/t", "flags", "throttle.a")], {"throttle.a": 1}, {}) == ()


def test_scheme_that_nobody_reads_is_refused_in_the_toml() -> None:
    """With the schemes there are."""
    with pytest.raises(ValidationError, match=r"file:, run:, above:, nvml:, jtop:"):
        _probe("ftp:x")
