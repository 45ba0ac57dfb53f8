"""The `odpm` meter finds a Pixel's rails by name and adds their counters."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hwbench.errors import PermanentDeviceError
from hwbench.links import local
from hwbench.measurement import Trace
from hwbench.meter import Meter
from hwbench.meters import odpm
from hwbench.reading import read_probe
from tests.contracts.meter import MeterContract


@pytest.fixture
def iio(root: Path, tmp_path: Path) -> Path:
    """Two power monitors between devices of other kinds."""
    devices = tmp_path / "devices"
    for name in ("iio:device0", "iio:device1", "iio:device2", "trigger0"):
        (devices / name).mkdir(parents=True)
    recordings = root / "tests" / "recordings" / "odpm"
    shutil.copy(recordings / "device0.txt", devices / "iio:device0" / "energy_value")
    shutil.copy(recordings / "device1.txt", devices / "iio:device2" / "energy_value")
    return devices


def _open(iio: Path, *total: str) -> odpm.Odpm:
    return odpm.open(odpm.Options(root=str(iio), total=total), local.open(local.Options()))


class TestOdpm(MeterContract):
    """The contract, over two devices."""

    @pytest.fixture
    def meter(self, iio: Path) -> Meter:
        return _open(iio, "S2M_VDD_CPUCL2", "S2S_VDD_G3D")

    @pytest.fixture
    def truth_mw(self) -> float:
        return 3000.0

    @pytest.fixture
    def traces(self, meter: Meter) -> Mapping[str, Trace]:
        t_ns = np.arange(0, 4_000_000_000, 100_000_000)
        # 1 and 2 W, 1 mW is 1 uJ a millisecond; the second is read a little later.
        return {
            p.name: Trace(
                t_ns=t_ns + n * 1_000_000, value=7e7 * n + 1000 * (n + 1) * (t_ns + n * 1e6) / 1e6, unit=p.unit
            )
            for n, p in enumerate(meter.probes())
        }


def test_rails_are_found_on_the_device_that_counts_them(iio: Path) -> None:
    """And their probes read the counter's own figure."""
    meter = _open(iio, "S10M_VDD_TPU", "VSYS_PWR_WLAN_BT")
    link = local.open(local.Options())
    assert [p.unit for p in meter.probes()] == ["uj", "uj"]
    assert [read_probe(link, p) for p in meter.probes()] == [6443422.0, 1553001.0]


def test_rail_that_this_phone_has_not_is_named(iio: Path) -> None:
    """With the nearest it has."""
    with pytest.raises(PermanentDeviceError, match="did you mean 'S2S_VDD_G3D'"):
        _open(iio, "S2S_VDD_G2D")


def test_phone_without_counters_is_told_so(tmp_path: Path) -> None:
    """No folder, or devices of other kinds only."""
    with pytest.raises(PermanentDeviceError, match="no energy counter under"):
        _open(tmp_path / "none", "X")
    (tmp_path / "iio:device0").mkdir()
    with pytest.raises(PermanentDeviceError, match="name the meter `battery`"):
        _open(tmp_path, "X")


@pytest.mark.parametrize("name", ["device0.txt", "device1.txt"])
def test_every_truncation_is_refused_or_ends_with_a_whole_line(root: Path, name: str) -> None:
    """A name that was cut short names no rail."""
    text = (root / "tests" / "recordings" / "odpm" / name).read_text()
    whole = odpm.parse(text)
    for length in range(len(text)):
        try:
            assert odpm.parse(text[:length]) == whole[: text[:length].count("\n") - 1]
        except PermanentDeviceError:
            continue
        assert text[:length].endswith("\n")


@given(st.text(max_size=80))
def test_any_text_is_rails_or_refused(text: str) -> None:
    """Never another error."""
    try:
        assert odpm.parse(text)
    except PermanentDeviceError as error:
        assert "meter odpm" in str(error)


def test_a_rail_twice_is_refused() -> None:
    """In the TOML and on the phone."""
    with pytest.raises(ValidationError, match="twice"):
        odpm.Options(total=("A", "A"))
    with pytest.raises(PermanentDeviceError, match="rail of its own"):
        odpm.parse("CH0(T=1)[A], 1\nCH1(T=1)[A], 2\n")
