"""Probes are read beside the work, each source once a sample, and only what they read is told."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hwbench.agent import sources
from hwbench.agent.probes import Probes
from hwbench.agent.protocol import AgentError
from tests.doubles import vcgencmd


def _probe(name: str, read: str, unit: str = "raw") -> dict[str, str]:
    return {"name": name, "read": read, "unit": unit}


def test_numbers_of_one_command_are_of_one_moment(tmp_path: Path) -> None:
    """Current and voltage of a rail come from the same reading, and no command is run more than 10 times a second."""
    program = vcgencmd.install(tmp_path)
    read = f"run:{program} pmic_read_adc"
    rails = [_probe("a", f"{read}#VDD_CORE_A", "ma"), _probe("v", f"{read}#VDD_CORE_V", "mv")]
    probes = Probes([*rails, _probe("f", f"file:{_file(tmp_path)}")], 200)
    with probes:
        time.sleep(0.35)
    arrays = probes.arrays()
    assert arrays["trace0_t_ns"].tolist() == arrays["trace1_t_ns"].tolist()
    assert np.allclose(arrays["trace0_value"], 3796.15351)
    assert np.allclose(arrays["trace1_value"], 719.76880)
    # The last sample, at the window's end, comes when it comes.
    assert np.all(np.diff(arrays["trace0_t_ns"])[:-1] > 0.05e9)
    assert arrays["trace2_t_ns"].size > arrays["trace0_t_ns"].size


def _file(folder: Path, content: str = "42\n") -> Path:
    file = folder / "number"
    file.write_text(content)
    return file


def test_reading_that_fails_is_nan_and_not_zero(tmp_path: Path) -> None:
    """A sensor that says nonsense in the middle of a window."""
    file = _file(tmp_path)
    probes = Probes([_probe("f", f"file:{file}")], 100)
    with probes:
        file.write_text("NC\n")
        time.sleep(0.05)
        file.write_text("7\n")
    value = probes.arrays()["trace0_value"]
    assert value[0] == 42
    assert value[-1] == 7
    assert np.isnan(value[1:-1]).any()
    assert 0 not in value


@pytest.mark.parametrize(
    ("read", "said"),
    [
        ("file:/none/such", "No such file"),
        ("run:no-such-program-here", "gives no number"),
        ("run:true", "gives no number"),
        ("run:sh -c 'echo 1; exit 3'", "gives no number"),
        ("magic:1", "no scheme"),
        ("jtop:#VDD_IN", "jtop"),
        ("nvml:power:0", "libnvidia-ml"),
    ],
)
def test_probe_that_the_board_does_not_have_is_named(read: str, said: str) -> None:
    """When the window is asked for, with its name and why."""
    if read.startswith("nvml") and _has_nvml():
        pytest.skip("this machine has an NVIDIA driver")
    with pytest.raises(AgentError, match=f"probe 'p'.*{said}"):
        Probes([_probe("p", read)], 10)


def _has_nvml() -> bool:
    try:
        sources.open_source("nvml:power:0").close()
    except OSError:
        return False
    return True


def test_trip_point_that_is_reached_is_one(tmp_path: Path) -> None:
    """Equal counts: the hardware acts at the point, not beyond it."""
    temp, trip = tmp_path / "temp", tmp_path / "trip"
    trip.write_text("85000\n")
    told = []
    for content in ("84999\n", "85000\n", "NC\n"):
        temp.write_text(content)
        told += sources.read_once([_probe("t", f"above:{temp} {trip}", "flags")])
    assert told == [0.0, 1.0, None]


def test_words_of_a_command_meet_no_shell(tmp_path: Path) -> None:
    """A semicolon is a semicolon, a dollar a dollar."""
    argv = "printf '%s\\n' '5;touch x' $HOME"
    assert sources.read_once([_probe("p", f"run:{argv}")]) == [None]
    assert sources.run(["printf", "%s\n", "$HOME;"], 100, 2.0) == b"$HOME;\n"


@pytest.mark.parametrize("script", ["while :; do echo 1; done", "echo 1; sleep 60", "sleep 60 & sleep 60"])
def test_command_that_prints_for_ever_or_hangs_is_ended(script: str) -> None:
    """Its whole group, in time, and nothing of it is a reading."""
    begin = time.monotonic()
    assert sources.run(["sh", "-c", script], 1 << 16, 0.3) is None
    assert time.monotonic() - begin < 10


def test_rails_of_jetson_stats_are_read_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rail's own power: not its average, and not the sum of rails that overlap."""
    _fake_jtop(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    probes = [
        _probe("in", "jtop:#VDD_IN", "mw"),
        _probe("off", "jtop:#VDD_OFF", "mw"),
        _probe("tot", "jtop:#tot", "mw"),
    ]
    assert sources.read_once(probes) == [4321.0, None, None]
    both = Probes([probes[0], _probe("soc", "jtop:#VDD_SOC", "mw")], 100)
    with both:
        pass
    assert both.arrays()["trace1_value"].tolist() == [1100.0, 1100.0]
    sys.modules.pop("jtop", None)


def _fake_jtop(folder: Path) -> None:
    (folder / "jtop.py").write_text(
        """
class JtopException(Exception):
    pass


class jtop:
    started = 0

    def start(self):
        jtop.started += 1

    def ok(self):
        return True

    @property
    def power(self):
        rails = {"VDD_IN": {"power": 4321, "avg": 1}, "VDD_SOC": {"power": 1100, "avg": 1}, "VDD_OFF": {}}
        return {"rail": rails, "tot": {"power": 99999}}

    def close(self):
        pass
"""
    )


def test_once_read_by_the_agent_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the host asks of the board's own Python, as JSON; a missing number is null."""
    sources.main(f'[{{"read": "file:{_file(tmp_path)}", "unit": "raw"}}, {{"read": "file:/none", "unit": "raw"}}]')
    assert capsys.readouterr().out == "[42.0, null]\n"
