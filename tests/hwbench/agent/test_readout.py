"""Text becomes a number by one rule, or is unknown."""

from __future__ import annotations

import math
import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwbench.agent import readout

ODPM = b"t=473123\nCH0(T=473123)[S10M_VDD_TPU], 6443422\nCH1(T=473123)[L2S_VDD_AOC_RET], 77853\n"
THERMAL = b"IsStatusOverride: false\nThermalEventListeners:\n\tcallbacks: 4\nThermal Status: 2\n"
# File, field, unit and what it says, for every recording of vcgencmd.
SAID = [
    ("measure_temp", None, "c", 48.3),
    ("measure_temp", None, "mc", 48_300.0),
    ("measure_clock", None, "hz", 1500398464.0),
    ("measure_volts", None, "mv", 850.0),
    ("get_throttled", None, "flags", float(0x50000)),
    ("pmic_read_adc", "VDD_CORE_A", "ma", 3796.15351),
    ("pmic_read_adc", "EXT5V_V", "mv", 5151.44),
]


def _recording(root: Path, name: str) -> bytes:
    return (root / "tests" / "recordings" / "vcgencmd" / f"{name}.txt").read_bytes()


@pytest.mark.parametrize(("name", "field", "unit", "value"), SAID)
def test_vcgencmd_is_read_in_the_unit_asked_for(
    root: Path, name: str, field: str | None, unit: str, value: float
) -> None:
    """Key and value, hexadecimal flags, degrees, volts and one of many lines."""
    told = readout.number(_recording(root, name), field, unit, whole=False)
    assert told is not None
    assert math.isclose(value, told)


@pytest.mark.parametrize(("name", "field", "unit", "value"), SAID)
def test_every_truncation_is_unknown_or_leaves_the_line_whole(
    root: Path, name: str, field: str | None, unit: str, value: float
) -> None:
    """A number that was cut short is never taken for a smaller one."""
    text = _recording(root, name)
    for length in range(len(text)):
        told = readout.number(text[:length], field, unit, whole=False)
        assert told is None or (math.isclose(told, value) and text[:length].count(b"\n") > 1)


@pytest.mark.parametrize(("name", "field", "unit", "value"), SAID)
def test_of_a_thousand_mutations_none_that_breaks_the_format_passes(
    root: Path, name: str, field: str | None, unit: str, value: float
) -> None:
    """A byte changed, lost or doubled: what is still read has the form of a reading, with the unit it had."""
    rng = random.Random(name)
    text = _recording(root, name)
    start = text.find(field.encode()) if field else 0
    line = range(max(start, 0), text.index(b"\n", max(start, 0)))
    survived = 0
    for _ in range(1000):
        at = rng.choice(line)
        what = rng.choice([bytes([rng.randrange(256)]), b"", text[at : at + 1] * 2])
        changed = text[:at] + what + text[at + 1 :]
        told = readout.number(changed, field, unit, whole=False)
        if told is None or changed == text:
            continue
        survived += 1
        # What may go unseen: a key that is still a word, another digit in the number, a blank at its end.
        read = changed.strip() if field is None else changed[start : changed.index(b"\n", start)]
        before, _, number = read.rpartition(b"=")
        assert re.fullmatch(rb"\w*(\(\d+\))?" if field is None else rb"[^=:,]*", before), changed
        assert re.fullmatch(rb"\s*[-+]?(0[xX][0-9a-fA-F]+|[0-9.]+([eE]\d+)?)\s?('C|[CVAm]*)\s*", number), changed
        assert math.isfinite(told)
    assert survived < 900


def test_a_unit_of_another_quantity_is_unknown() -> None:
    """Volts are no milliamperes, and a unit that nobody knows is no number."""
    assert readout.number(b"volt=0.85V\n", None, "ma", whole=False) is None
    assert readout.number(b"volt=0.85V\n", None, "raw", whole=False) is None
    assert readout.number(b"volt=0.85X\n", None, "mv", whole=False) is None


def test_one_line_of_many_is_chosen_by_its_word() -> None:
    """Counters of a phone's rails, and a status among other text."""
    assert readout.number(ODPM, "S10M_VDD_TPU", "uj", whole=False) == 6443422.0
    assert readout.number(ODPM, "VDD_TPU", "uj", whole=False) is None
    assert readout.number(THERMAL, "Thermal Status", "flags", whole=False) == 2.0
    assert readout.number(ODPM + ODPM, "S10M_VDD_TPU", "uj", whole=False) is None


@pytest.mark.parametrize(
    "text",
    ["", "NC", "1 2", "1,2", "nan", "inf", "1e999", "a=b=1", "=1", "0x", "--1", "1_0", "error=1", "١٢", "1\n2"],
)
def test_what_is_not_one_number_is_unknown(text: str) -> None:
    """Never 0, never a part of it."""
    assert readout.number(f"{text}\n".encode(), None, "raw", whole=False) is None


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e299, max_value=1e299))
def test_plain_numbers_are_read_as_they_were_printed(value: float) -> None:
    """As Python prints them and as C does."""
    assert readout.number(f"{value!r}\n".encode(), None, "raw", whole=False) == value
    assert readout.number(f"{value:.6g}".encode(), None, "raw", whole=True) == float(f"{value:.6g}")


@given(st.binary(max_size=200), st.sampled_from([None, "a", "rail"]), st.sampled_from(["raw", "mv", "flags"]))
def test_any_bytes_give_a_finite_number_or_none(text: bytes, field: str | None, unit: str) -> None:
    """A board may say anything."""
    told = readout.number(text, field, unit, whole=False)
    assert told is None or math.isfinite(told)


@pytest.mark.parametrize(
    ("read", "parts"),
    [
        ("file:/sys/a b", ("file", "/sys/a b", None)),
        ("file:/sys/energy_value#S10M_VDD_TPU", ("file", "/sys/energy_value", "S10M_VDD_TPU")),
        ("run:vcgencmd measure_clock arm", ("run", "vcgencmd measure_clock arm", None)),
        ("above:/a /b", ("above", "/a /b", None)),
        ("nvml:energy:0", ("nvml", "energy:0", None)),
        ("nvml:power:GPU-5f3e1c2a-0000", ("nvml", "power:GPU-5f3e1c2a-0000", None)),
        ("jtop:#VDD_IN", ("jtop", "", "VDD_IN")),
    ],
)
def test_schemes_are_split(read: str, parts: tuple[str, str, str | None]) -> None:
    """Scheme, rest and field."""
    assert parts == readout.split(read)


@pytest.mark.parametrize(
    "read",
    ["/sys/a", "http://x", "file:sys", "file:/a#", "run:", "run:'open", "above:/a", "above:/a b", "above:/a /b#c",
     "nvml:power", "nvml:love:0", "nvml:power:all", "jtop:VDD_IN", "jtop:"],
)  # fmt: skip
def test_what_no_scheme_reads_is_refused(read: str) -> None:
    """At the target's TOML, not in a campaign."""
    with pytest.raises(ValueError):
        readout.split(read)
