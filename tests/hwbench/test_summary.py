"""A cell's value is the median of its sessions' medians, with evidence and what was noticed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hwbench.evidence import DECLARED, MEASURED
from hwbench.measurement import Cell, Window
from hwbench.setting import Setting
from hwbench.summary import over_sessions, summarise
from hwbench.target import DeclaredPower
from hwbench.workload import Op, Workload

_CELL = Cell(block_key="b", setting=Setting(unit="cpu", precision="fp32"))
_WORKLOAD = Workload(
    block_key="b",
    kind="block",
    inputs=(),
    outputs=(),
    ops=(Op(kind="conv", macs=10**6, weight_count=0, read_count=0, write_count=0),),
)
_POWER = DeclaredPower(static_mw=1000, pj_per_mac=1000, pj_per_byte=0, source="test")


def _window(session: int, ms: Sequence[float], **more: object) -> Window:
    run_ns = np.round(np.array(ms) * 1e6).astype(np.int64)
    return Window(cell=_CELL, session=session, order=0, warmup_ns=run_ns, start_ns=run_ns, run_ns=run_ns, **more)


def test_value_is_the_median_of_medians() -> None:
    """Session medians 1, 2 and 10: neither their mean nor the pooled samples' median."""
    windows = [_window(0, [1, 1, 50]), _window(1, [2] * 9), _window(2, [10] * 99)]
    found = summarise(_WORKLOAD, windows, None)
    assert found.latency_ms.value == 2.0
    assert found.latency_ms.low is not None and found.latency_ms.high is not None
    assert found.latency_ms.low < 2.0 < found.latency_ms.high
    assert found.evidence == {"latency": MEASURED}
    assert found.energy_mj is None


def test_single_session_has_no_interval() -> None:
    """Unknown is None."""
    assert (over_sessions([3.0]).low, over_sessions([3.0]).high) == (None, None)


def test_sessions_that_drift_have_a_wider_interval() -> None:
    """The same values: in the order of a slow drift they tell less than in any."""
    drifting, mixed = over_sessions([1, 2, 3, 4, 5, 6, 7, 8]), over_sessions([5, 2, 8, 1, 6, 3, 7, 4])
    assert drifting.value == mixed.value
    assert drifting.high is not None and mixed.high is not None
    assert drifting.high - drifting.value > 1.5 * (mixed.high - mixed.value)


def test_interval_of_sessions_that_disagree_ends_at_zero() -> None:
    """Student's t of 0.1, 0.1 and 0.5 ms reaches below 0; a table with such a bound could not be read back."""
    found = over_sessions([0.1, 0.1, 0.5])
    assert found.low == 0.0
    assert found.high is not None and found.high > 0.5


def test_energy_below_the_idle_baseline_is_unknown() -> None:
    """A load that does not stand out of idle has no energy, measured or declared, and its row says why."""
    found = summarise(_WORKLOAD, [_window(n, [1.0], energy_mj=e) for n, e in enumerate([-0.2, -0.1, 0.1])], _POWER)
    assert found.energy_mj is None
    assert "energy" not in found.evidence
    assert found.flags == ("energy_below_idle",)


def test_measured_energy_counts_where_there_is_one() -> None:
    """Windows without energy are left out, not taken as 0; the declared model stays silent."""
    windows = [_window(n, [1.0], energy_mj=e) for n, e in enumerate([4.0, None, 6.0])]
    found = summarise(_WORKLOAD, windows, _POWER)
    assert found.energy_mj is not None
    assert found.energy_mj.value == 5.0
    assert found.evidence["energy"] == MEASURED


def test_declared_energy_follows_the_latency_and_its_interval() -> None:
    """1 W x 2 ms + 1e6 MAC x 1000 pJ = 2 + 1 mJ, printed as predicted."""
    windows = [_window(n, [ms]) for n, ms in enumerate([1.9, 2.0, 2.1])]
    found = summarise(_WORKLOAD, windows, _POWER)
    assert found.energy_mj is not None and found.latency_ms.low is not None and found.energy_mj.low is not None
    assert math.isclose(found.energy_mj.value, 3.0)
    assert math.isclose(found.energy_mj.low, found.latency_ms.low + 1.0)
    assert found.evidence["energy"] == DECLARED
    assert str(found.evidence["energy"]) == "predicted:declared"


def test_flags_say_how_many_sessions_have_them() -> None:
    """One unsteady session of three is not the same as three."""
    windows = [
        _window(0, [1], flags=("partly_on_cpu", "unsteady")),
        *(_window(n, [1], flags=("partly_on_cpu",)) for n in (1, 2)),
    ]
    assert summarise(_WORKLOAD, windows, None).flags == ("partly_on_cpu", "unsteady:1/3")


def test_peak_memory_is_the_sessions_median() -> None:
    """In MB of 10^6 bytes; unknown where no session knew."""
    windows = [_window(n, [1], peak_memory_bytes=b) for n, b in enumerate([1_000_000, None, 3_000_000])]
    assert summarise(_WORKLOAD, windows, None).peak_memory_mb == 2.0
    assert summarise(_WORKLOAD, [_window(0, [1])], None).peak_memory_mb is None
