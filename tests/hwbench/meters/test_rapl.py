"""The `rapl` meter finds the zones that do not overlap and unwraps their counters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from hwbench.errors import PermanentDeviceError
from hwbench.links import local
from hwbench.measurement import Trace
from hwbench.meter import Meter
from hwbench.meters import rapl
from tests.contracts.meter import MeterContract

_RANGE_UJ = 262_143_328_850


def _zone(root: Path, folder: str, name: str) -> None:
    zone = root / folder
    zone.mkdir(parents=True)
    (zone / "name").write_text(name + "\n")
    (zone / "energy_uj").write_text("123456\n")
    (zone / "max_energy_range_uj").write_text(f"{_RANGE_UJ}\n")


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    """Two sockets as the kernel shows them, with all that counts the same energy again."""
    root = tmp_path / "powercap"
    _zone(root, "intel-rapl:0", "package-0")
    _zone(root, "intel-rapl:0:0", "core")
    _zone(root, "intel-rapl:0:1", "dram")
    _zone(root, "intel-rapl:1", "package-1")
    _zone(root, "intel-rapl:2", "psys")
    _zone(root, "intel-rapl-mmio:0", "package-0")
    (root / "intel-rapl").mkdir()
    return root


def _open(root: Path, **options: object) -> rapl.Rapl:
    return rapl.open(rapl.Options.model_validate({"root": str(root), **options}), local.open(local.Options()))


class TestRapl(MeterContract):
    """The contract, with counters that wrap in the middle."""

    @pytest.fixture
    def meter(self, powercap: Path) -> Meter:
        return _open(powercap)

    @pytest.fixture
    def truth_mw(self) -> float:
        return 3 * 20_000.0

    @pytest.fixture
    def traces(self, meter: Meter) -> Mapping[str, Trace]:
        t_ns = np.arange(0, 4_000_000_000, 20_000_000)
        # 20 W are 20 uJ a microsecond; each counter begins elsewhere and wraps at another time.
        return {
            p.name: Trace(
                t_ns=t_ns, value=np.mod(_RANGE_UJ - 4e7 * (n + 0.5) + t_ns / 1e3 * 20, _RANGE_UJ), unit=p.unit
            )
            for n, p in enumerate(meter.probes())
        }


def test_packages_and_memory_are_added_and_nothing_twice(powercap: Path) -> None:
    """Not core (inside its package), not psys (all of it), not the mmio copy."""
    names = [probe.name for probe in _open(powercap).probes()]
    assert names == ["intel-rapl:0", "intel-rapl:0:1", "intel-rapl:1"]


def test_zones_can_be_chosen(powercap: Path) -> None:
    """psys alone is a total too."""
    assert [p.name for p in _open(powercap, zones=["psys"]).probes()] == ["intel-rapl:2"]


def test_counter_that_wraps_twice_goes_on(powercap: Path) -> None:
    """Each fall adds the range once."""
    meter = _open(powercap, zones=["psys"])
    value = np.array([_RANGE_UJ - 5.0, 10, _RANGE_UJ - 1, 4])
    total = meter.total({"intel-rapl:2": Trace(t_ns=np.arange(4), value=value, unit="uj")})
    assert np.diff(total.value).tolist() == [15.0, _RANGE_UJ - 11, 5.0]


def test_machine_without_counters_is_told_so(tmp_path: Path) -> None:
    """A virtual machine has none, or not even the folder."""
    with pytest.raises(PermanentDeviceError, match="no energy counter under"):
        _open(tmp_path / "none")
    (tmp_path / "dtpm").mkdir()
    with pytest.raises(PermanentDeviceError, match="no energy counter under"):
        _open(tmp_path)


def test_counter_that_may_not_be_read_says_what_to_do(powercap: Path) -> None:
    """Since 2020 the counters are root's; a folder in its place cannot be read even by root, as in this test."""
    counter = powercap / "intel-rapl:0" / "energy_uj"
    counter.unlink()
    counter.mkdir()
    with pytest.raises(PermanentDeviceError, match="run as root"):
        _open(powercap)
