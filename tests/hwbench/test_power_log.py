"""Lines of numbers become times and powers, or are named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwbench.errors import PermanentDeviceError
from hwbench.power_log import check, parse


@given(st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1e6)), min_size=1, max_size=20), st.booleans())
def test_lines_are_read_as_they_were_printed(rows: list[tuple[float, float]], header: bool) -> None:
    """Any numbers, with or without a header, and a last line that was cut short."""
    text = ("t_s,power_mw\n" if header else "") + "".join(f"{t!r},{p!r}\n" for t, p in rows) + "12.5,3"
    t_s, power_mw = parse(text)
    assert sorted(rows) == list(zip(t_s.tolist(), power_mw.tolist(), strict=True))


def test_line_that_is_no_reading_is_named() -> None:
    """The number of the line and its text."""
    with pytest.raises(PermanentDeviceError, match="line 2 is 'volts'"):
        parse("1,2\nvolts\n")
    with pytest.raises(PermanentDeviceError, match="there was no"):
        parse("t_s,power_mw\n")


def test_columns_say_what_a_meter_prints() -> None:
    """Volts times amperes, milliseconds, and what does not matter."""
    t_s, power_mw = parse("1500,5.1,ok,0.4\n1600,5.0,ok,0.5\n", ("t_ms", "volt_v", "_", "amp_a"))
    assert t_s.tolist() == [1.5, 1.6]
    assert power_mw.tolist() == pytest.approx([2040.0, 2500.0])
    assert parse("1,2\n", ("t_s", "power_w"))[1].tolist() == [2000.0]


def test_a_lost_byte_now_and_then_is_no_other_format() -> None:
    """One unreadable line among hundreds is left out; nan and inf are unreadable; many are refused."""
    lines = [f"{i},5" for i in range(300)]
    lines[100], lines[200] = "10�,5", "200,nan"
    t_s, _ = parse("\n".join(lines) + "\n")
    assert t_s.size == 298
    lines[201:210] = ["x"] * 9
    with pytest.raises(PermanentDeviceError, match="line 101"):
        parse("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (("t_s",), "a time, and a power"),
        (("t_s", "t_ms", "power_w"), "each once"),
        (("t_s", "volt_v"), "volts and amperes"),
        (("t_s", "power_w", "amp_a", "volt_v"), "each once"),
        (("t_s", "watts"), "unknown column 'watts'"),
    ],
)
def test_columns_that_tell_no_power_are_refused(columns: tuple[str, ...], said: str) -> None:
    """Or tell it twice."""
    with pytest.raises(ValueError, match=said):
        check(columns)
