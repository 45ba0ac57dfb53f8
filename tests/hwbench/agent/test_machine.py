"""What a Linux machine says of itself."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from hwbench.agent import machine


def test_peak_memory_counts_what_was_given_back() -> None:
    """64 MiB held for a moment are the peak, though nothing of them is held at the end."""
    peak = machine.PeakMemory()
    np.ones(64 << 20, np.uint8)
    found = peak.added_bytes()
    if found is None:
        pytest.skip("this kernel does not tell memory")
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("this kernel does not forget a peak")
    assert 60 << 20 < found < 90 << 20
    held = peak.held_bytes()
    assert held is not None and held < 30 << 20


def test_a_new_peak_starts_from_what_is_held() -> None:
    """An earlier, higher peak is forgotten."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("this kernel does not forget a peak")
    np.ones(64 << 20, np.uint8)
    found = machine.PeakMemory().added_bytes()
    assert found is not None and found < 8 << 20


def test_an_absent_file_is_none(tmp_path: Path) -> None:
    """Not an empty text, which would be an answer."""
    (tmp_path / "empty").write_text("")
    assert machine.read_text(str(tmp_path / "absent")) is None
    assert "" == machine.read_text(str(tmp_path / "empty"))


def test_the_machine_id_itself_does_not_leave() -> None:
    """Tables are published; only a digest tells machines apart."""
    file = Path("/etc/machine-id")
    if not file.exists() or Path("/proc/device-tree/serial-number").exists():
        pytest.skip("no machine id here, or a serial number instead")
    serial = machine.identity()["serial"]
    assert serial.startswith("machine-")
    assert file.read_text().strip() not in serial


def test_noise_counts_own_switches() -> None:
    """Sleeping gives the processor away at least once each time."""
    noise = machine.Noise()
    for _ in range(5):
        os.sched_yield()
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    assert noise.since()["voluntary_switches"] >= 1
