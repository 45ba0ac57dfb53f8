"""A fixed clock is recorded, never set."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from hwbench.clock import Clock
from hwbench.clocks import fixed
from hwbench.errors import PermanentDeviceError
from hwbench.links import local
from tests.contracts.clock import ClockContract


def _open(**options: object) -> fixed.Fixed:
    return fixed.open(fixed.Options.model_validate({"name": "cpu", **options}), local.open(local.Options()))


class TestFixed(ClockContract):
    """The contract, with the one speed that the clock has."""

    @pytest.fixture
    def clock(self, tmp_path: Path) -> Clock:
        (tmp_path / "cur").write_text("1500000\n")
        return _open(read=f"file:{tmp_path}/cur", unit="khz", grid_mhz=[1500])


class TestUntold(ClockContract):
    """The contract, where nothing is known."""

    @pytest.fixture
    def clock(self) -> Clock:
        return _open()


def test_present_speed_is_read_where_it_stands(tmp_path: Path) -> None:
    """A probe only when the file is there: an agent must not be asked for what is not."""
    (tmp_path / "cur").write_text("1500000\n")
    probe = _open(read=f"file:{tmp_path}/cur", unit="khz").probe()
    assert probe is not None
    assert (probe.name, probe.unit) == ("clock.cpu", "khz")
    assert _open(read=f"file:{tmp_path}/none").probe() is None


def test_setting_it_says_why_not() -> None:
    """The message tells what it does offer."""
    with pytest.raises(PermanentDeviceError, match="runs at 1500 MHz only"):
        _open(grid_mhz=[1500]).set(600.0)
    with pytest.raises(PermanentDeviceError, match="left to the board"):
        _open().set(600.0)


def test_two_speeds_are_no_fixed_clock() -> None:
    """Then something could set it."""
    with pytest.raises(ValidationError, match="at most 1 item"):
        fixed.Options(name="cpu", grid_mhz=(600.0, 1500.0))
