"""The `files` meter reads rails that are files, and adds only what it is told to add."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from hwbench.errors import Inconclusive, PermanentDeviceError
from hwbench.links import local
from hwbench.measurement import Trace
from hwbench.meter import Meter
from hwbench.meters import files
from tests.contracts.meter import MeterContract


def _rail(folder: Path, name: str, content: str = "1000") -> str:
    file = folder / name
    file.write_text(content)
    return f"file:{file}"


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, object]:
    """An INA3221 as JetPack 5 shows it: VDD_IN as millivolts and milliamperes, and one rail inside of it in mW."""
    return {
        "VDD_IN": {"volt": _rail(tmp_path, "in1_input", "5000\n"), "amp": _rail(tmp_path, "curr1_input", "800\n")},
        "VDD_SOC": _rail(tmp_path, "power2", "1500\n"),
    }


def _open(**options: object) -> files.Files:
    return files.open(files.Options.model_validate(options), local.open(local.Options()))


class TestFiles(MeterContract):
    """The contract, on the board's total as a voltage-current pair."""

    @pytest.fixture
    def meter(self, tree: dict[str, object]) -> Meter:
        return _open(rails=tree, total="VDD_IN")

    @pytest.fixture
    def truth_mw(self) -> float:
        return 4000.0

    @pytest.fixture
    def traces(self, meter: Meter) -> Mapping[str, Trace]:
        t_ns = np.arange(0, 4_000_000_000, 50_000_000)
        value = {"rail.VDD_IN.volt": 5000.0, "rail.VDD_IN.amp": 800.0, "rail.VDD_SOC": 1500.0}
        return {
            p.name: Trace(t_ns=t_ns + n * 100_000, value=np.full(t_ns.size, value[p.name]), unit=p.unit)
            for n, p in enumerate(meter.probes())
        }


def test_named_rails_are_added_and_others_left_out(tmp_path: Path) -> None:
    """VDD_IN holds the others; only what `total` names counts."""
    rails = {name: _rail(tmp_path, name) for name in ("cpu", "gpu", "vdd_in")}
    meter = _open(rails=rails, total=["cpu", "gpu"], unit="uw")
    t_ns = np.arange(5) * 1000
    traces = {
        f"rail.{n}": Trace(t_ns=t_ns, value=np.full(5, v), unit="uw")
        for n, v in zip(rails, (1e6, 2e6, 9e6), strict=True)
    }
    total = meter.total(traces)
    assert (total.unit, total.value.tolist()) == ("mw", [3000.0] * 5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rails": {"a": "file:/a", "b": "file:/b"}}, "`total` must name"),
        ({"rails": {"cpu": "file:/a"}, "total": "cpi"}, "did you mean 'cpu'"),
        ({"rails": {"a": "file:/a"}, "total": ["a", "a"]}, "twice"),
        ({"rails": {"a": "file:/a"}, "total": []}, "none"),
        ({"rails": {}}, "at least 1"),
        ({"rails": {"a": "nvml:0"}}, "file:/"),
        ({"rails": {"a": {"volt": "file:/a", "amp": "file:/b"}}, "unit": "uj"}, "cannot stand in one meter"),
    ],
)
def test_options_that_would_add_wrongly_are_refused(options: dict[str, object], said: str) -> None:
    """Overlapping rails are never added by default."""
    with pytest.raises(ValidationError, match=said):
        files.Options.model_validate(options)


def test_absent_or_odd_file_is_named(tmp_path: Path) -> None:
    """The board is asked at once, not in the middle of a campaign."""
    with pytest.raises(PermanentDeviceError, match="none cannot be read"):
        _open(rails={"a": f"file:{tmp_path}/none"})
    with pytest.raises(PermanentDeviceError, match="holds b'NC', not a number"):
        _open(rails={"a": _rail(tmp_path, "nc", "NC")})


def test_rail_without_samples_is_no_zero(tmp_path: Path) -> None:
    """An empty trace has no total."""
    meter = _open(rails={n: _rail(tmp_path, n) for n in ("a", "b")}, total=["a", "b"])
    some = Trace(t_ns=np.arange(3), value=np.ones(3), unit="mw")
    none = Trace(t_ns=np.zeros(0, dtype=np.int64), value=np.zeros(0), unit="mw")
    with pytest.raises(Inconclusive, match="no samples"):
        meter.total({"rail.a": some, "rail.b": none})
