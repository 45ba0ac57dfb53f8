"""The `battery` meter knows discharging from charging, and units that cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from hwbench.errors import Inconclusive, PermanentDeviceError
from hwbench.links import local
from hwbench.measurement import Trace
from hwbench.meter import Meter
from hwbench.meters import battery
from tests.contracts.meter import MeterContract


def _gauge(folder: Path, status: str = "Discharging", current: str = "-400000", voltage: str = "4000000") -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in {"status": status, "current_now": current, "voltage_now": voltage}.items():
        (folder / name).write_text(content + "\n")
    return folder


def _open(folder: Path, **options: object) -> battery.Battery:
    given = battery.Options.model_validate({"root": str(folder), **options})
    return battery.open(given, local.open(local.Options()))


def _traces(current: float, voltage: float = 4e6) -> dict[str, Trace]:
    t_ns = np.arange(0, 4_000_000_000, 100_000_000)
    return {
        "battery.current": Trace(t_ns=t_ns, value=np.full(t_ns.size, current), unit="raw"),
        "battery.voltage": Trace(t_ns=t_ns + 1000, value=np.full(t_ns.size, voltage), unit="raw"),
    }


class TestBattery(MeterContract):
    """The contract, with the sign that most phones give."""

    @pytest.fixture
    def meter(self, tmp_path: Path) -> Meter:
        return _open(_gauge(tmp_path / "battery"))

    @pytest.fixture
    def truth_mw(self) -> float:
        return 1600.0

    @pytest.fixture
    def traces(self) -> Mapping[str, Trace]:
        return _traces(-400_000)


@pytest.mark.parametrize(
    ("current", "options", "read", "power_mw"),
    [
        ("-400000", {}, -400_000, 1600),
        ("400000", {}, 400_000, 1600),
        ("-400", {"current": "ma"}, -400, 1600),
        ("0", {"discharging": "positive"}, 250_000, 1000),
        ("7", {"discharging": "negative"}, -250_000, 1000),
    ],
)
def test_sign_and_unit_of_every_phone(
    tmp_path: Path, current: str, options: dict[str, object], read: float, power_mw: float
) -> None:
    """As the options say, else as the gauge says while the phone discharges."""
    meter = _open(_gauge(tmp_path / "battery", current=current), **options)
    assert np.allclose(meter.total(_traces(read)).value, power_mw)


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging", ""])
def test_board_on_a_charger_is_refused(tmp_path: Path, status: str) -> None:
    """Over USB it would be the cable's power that is missing."""
    with pytest.raises(PermanentDeviceError, match="unplug the board"):
        _open(_gauge(tmp_path / "battery", status=status))


def test_charger_plugged_in_meanwhile_is_no_energy(tmp_path: Path) -> None:
    """The sign turns."""
    meter = _open(_gauge(tmp_path / "battery"))
    with pytest.raises(Inconclusive, match="was charged meanwhile"):
        meter.total(_traces(300_000))


@pytest.mark.parametrize(("read", "unit"), [(-400, "'ma'"), (-400_000_000, "'ua'")])
def test_power_that_no_phone_draws_names_the_unit(tmp_path: Path, read: float, unit: str) -> None:
    """A factor of a thousand shows."""
    with pytest.raises(Inconclusive, match=f"which no such device draws.*{unit}"):
        _open(_gauge(tmp_path / "battery")).total(_traces(read))


def test_gauge_that_tells_nothing_is_named(tmp_path: Path) -> None:
    """No battery, no current, or none that has a sign."""
    with pytest.raises(PermanentDeviceError, match="status cannot be read"):
        _open(tmp_path / "none")
    with pytest.raises(PermanentDeviceError, match="no current or no voltage"):
        _open(_gauge(tmp_path / "battery", current="unknown"))
    with pytest.raises(PermanentDeviceError, match="name the sign"):
        _open(_gauge(tmp_path / "battery", current="0"))
