"""The `pmic` meter adds a Raspberry Pi 5's rails, from one reading, or says what is wrong with it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from hwbench.agent.probes import Probes
from hwbench.errors import PermanentDeviceError
from hwbench.links import local
from hwbench.measurement import Trace
from hwbench.meter import Meter
from hwbench.meters import pmic
from tests.contracts.meter import MeterContract
from tests.doubles import vcgencmd


def _open(program: Path, **options: object) -> pmic.Pmic:
    given = {"command": [str(program), "pmic_read_adc"], **options}
    return pmic.open(pmic.Options.model_validate(given), local.open(local.Options()))


@pytest.fixture
def recording(root: Path) -> str:
    return (root / "tests" / "recordings" / "vcgencmd" / "pmic_read_adc.txt").read_text()


class TestPmic(MeterContract):
    """The contract, with what the agent's probes read of the stand-in."""

    @pytest.fixture
    def meter(self, tmp_path: Path) -> Meter:
        return _open(vcgencmd.install(tmp_path))

    @pytest.fixture
    def truth_mw(self) -> float:
        return 4000.0  # what the recording's twelve rails add up to

    @pytest.fixture
    def traces(self, meter: Meter) -> Mapping[str, Trace]:
        asked = [p.model_dump() for p in meter.probes()]
        with Probes(asked, 10) as probes:
            pass
        told = probes.arrays()
        t_ns = np.arange(0, 4_000_000_000, 100_000_000)
        return {
            p.name: Trace(t_ns=t_ns, value=np.full(t_ns.size, told[f"trace{i}_value"][0]), unit=p.unit)
            for i, p in enumerate(meter.probes())
        }


def test_every_rail_with_both_is_read_and_inputs_are_not(recording: str) -> None:
    """The 5 V input and the clock's battery tell a voltage only."""
    rails = pmic.parse(recording)
    assert len(rails) == 12
    assert rails["VDD_CORE"] == (3.79615351, 0.71976880)
    assert "EXT5V" not in rails
    assert "BATT" not in rails


def test_every_truncation_is_refused(recording: str) -> None:
    """At any byte, also at the end of a line: the channels are numbered without a gap."""
    for length in range(len(recording)):
        text = recording[:length]
        # Without its last line, or two, all rails are there: those are inputs that no sum uses.
        if text.endswith("\n") and text.count("\n") >= 24:
            assert pmic.parse(text) == pmic.parse(recording)
            continue
        with pytest.raises(PermanentDeviceError, match="meter pmic"):
            pmic.parse(text)


def test_of_a_thousand_mutations_none_that_breaks_the_format_passes(recording: str) -> None:
    """What still passes has another digit in a value, or another letter in a name that both its lines still share."""
    rng = random.Random(5)
    passed = 0
    for _ in range(1000):
        at = rng.randrange(len(recording))
        what = rng.choice([chr(rng.randrange(1, 128)), "", recording[at] * 2])
        text = recording[:at] + what + recording[at + 1 :]
        try:
            rails = pmic.parse(text)
        except PermanentDeviceError:
            continue
        if text == recording:
            continue
        passed += 1
        line = recording[recording.rfind("\n", 0, at) + 1 :].partition("\n")[0]
        in_value = recording[at].isdigit() and (what == "" or what.isdigit())
        blanks = recording[at] == " " or what == " "
        assert in_value or blanks or "EXT5V" in line or "BATT" in line, text
        assert len(rails) == 12
    assert passed < 600


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("volt(15)=0.71976880V", "volt(15)=0.71976880A", "no rail's current or voltage"),
        ("VDD_CORE_V volt(15)", "VDD_CORE_V current(15)", "no rail's current or voltage"),
        ("VDD_CORE_V", "VDD_CORF_V", "VDD_CORE has a current and no voltage"),
        ("volt(15)", "volt(14)", "a second time"),
        ("   3V3_SYS_A current(1)=0.08197560A\n", "", "channels are missing"),
    ],
)
def test_figures_that_contradict_each_other_are_refused(recording: str, old: str, new: str, said: str) -> None:
    """Name, kind, unit and number of a channel say the same thing more than once."""
    assert old in recording
    with pytest.raises(PermanentDeviceError, match=said):
        pmic.parse(recording.replace(old, new, 1))


def test_board_that_is_no_pi_5_is_told_so(tmp_path: Path) -> None:
    """An older firmware does not know the command; another board has no such program."""
    program = vcgencmd.install(tmp_path)
    (tmp_path / "vcgencmd.d" / "pmic_read_adc.txt").unlink()
    with pytest.raises(PermanentDeviceError, match="no rail's current or voltage"):
        _open(program)
    with pytest.raises(PermanentDeviceError, match="only a Raspberry Pi 5 has it"):
        _open(tmp_path / "none")


def test_rails_may_be_chosen(tmp_path: Path) -> None:
    """The processor's alone; one that is not there is named with those that are."""
    program = vcgencmd.install(tmp_path)
    meter = _open(program, rails=["VDD_CORE"])
    assert [p.name for p in meter.probes()] == ["rail.VDD_CORE.volt", "rail.VDD_CORE.amp"]
    with pytest.raises(PermanentDeviceError, match=r"no rail 'EXT5V'.*VDD_CORE"):
        _open(program, rails=["EXT5V"])
