"""The `nvml` meter takes a GPU's counter, else its power, and is absent where neither is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from hwbench.errors import PermanentDeviceError
from hwbench.link import Link
from hwbench.links import local
from hwbench.measurement import Trace
from hwbench.meter import Meter
from hwbench.meters import nvml
from hwbench.reading import read_on_board
from hwbench.target import Probe
from tests.contracts.meter import MeterContract


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """A library of NVML's name and functions; environment variables say what its GPU 0 tells."""
    folder = tmp_path_factory.mktemp("driver")
    source = root / "tests" / "doubles" / "nvml.c"
    command = ["cc", "-shared", "-fPIC", "-o", str(folder / "libnvidia-ml.so.1"), str(source)]
    subprocess.run(command, check=True, timeout=60)
    return folder


def _link(tmp_path: Path, driver: Path, **gpu: int) -> Link:
    told = " ".join(f"NVML_{name.upper()}={value}" for name, value in gpu.items())
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n{told} LD_LIBRARY_PATH="{driver}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return local.open({"workdir": tmp_path / "work", "python": str(python)})


def _open(link: Link, **options: object) -> nvml.Nvml:
    return nvml.open(nvml.Options.model_validate(options), link)


class TestCounter(MeterContract):
    """The contract, on a GPU that counts its energy."""

    @pytest.fixture
    def meter(self, tmp_path: Path, driver: Path) -> Meter:
        return _open(_link(tmp_path, driver, energy=123_456, power=70_000))

    @pytest.fixture
    def truth_mw(self) -> float:
        return 70_000.0

    @pytest.fixture
    def traces(self) -> Mapping[str, Trace]:
        t_ns = np.arange(0, 4_000_000_000, 100_000_000)
        return {"gpu": Trace(t_ns=t_ns, value=123_456e3 + 70_000 * t_ns / 1e6, unit="uj")}


def test_counter_is_taken_before_power(tmp_path: Path, driver: Path) -> None:
    """Both are told: the counter misses nothing."""
    meter = _open(_link(tmp_path, driver, energy=123_456, power=70_000))
    assert [(p.read, p.unit) for p in meter.probes()] == [("nvml:energy:0", "uj")]


def test_power_is_taken_where_nothing_counts(tmp_path: Path, driver: Path) -> None:
    """GPUs before Volta."""
    meter = _open(_link(tmp_path, driver, power=70_000), rate_hz=50)
    assert [(p.read, p.unit) for p in meter.probes()] == [("nvml:power:0", "mw")]
    assert meter.rate_hz == 50


@pytest.mark.parametrize("gpu", [{}, {"power": 0}, {"power": 0, "energy": 0}])
def test_gpu_that_tells_no_power_has_no_meter(tmp_path: Path, driver: Path, gpu: dict[str, int]) -> None:
    """A Jetson's library starts and says nothing, or 0; that is no measurement of 0 mW."""
    with pytest.raises(PermanentDeviceError, match="name its rails in a meter `files`"):
        _open(_link(tmp_path, driver, **gpu))


def test_gpu_that_is_not_there_has_no_meter(tmp_path: Path, driver: Path) -> None:
    """Another number, or a UUID that nobody has."""
    link = _link(tmp_path, driver, power=70_000)
    for device in ("1", "GPU-00000000"):
        with pytest.raises(PermanentDeviceError, match=f"GPU {device} tells neither"):
            _open(link, device=device)
    assert _open(link, device="GPU-5f3e").probes()[0].read == "nvml:power:GPU-5f3e"


def test_what_a_gpu_tells_is_read_in_our_units(tmp_path: Path, driver: Path) -> None:
    """mJ become uJ; reasons that somebody chose are no throttling."""
    link = _link(tmp_path, driver, energy=5, power=70_000, temp=61, clock=1980, memory_clock=2619, reasons=0x1 | 0x40)
    units = {"energy": "uj", "power": "mw", "temp": "c", "clock": "mhz", "memory_clock": "mhz", "throttle": "flags"}
    probes = [Probe.model_validate({"name": n, "read": f"nvml:{n}:0", "unit": u}) for n, u in units.items()]
    assert read_on_board(link, probes) == [5000.0, 70_000.0, 61.0, 1980.0, 2619.0, float(0x40)]


def test_device_is_a_number_or_a_uuid() -> None:
    """Nothing else reaches the library."""
    with pytest.raises(ValidationError):
        nvml.Options(device="gpu0; true")
