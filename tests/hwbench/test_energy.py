"""Energy from samples is right to 1 %, or it is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwbench.energy import add, declared, integrate, mean_power
from hwbench.errors import Inconclusive
from hwbench.measurement import Trace
from hwbench.target import DeclaredPower
from hwbench.workload import Op, Workload

# A board that has been up for weeks: nanoseconds far beyond what a float holds exactly.
_BOOT_NS = 3_000_000_000_000_000_123


def _trace(t_s: np.ndarray, value: np.ndarray, unit: str = "mw") -> Trace:
    return Trace(t_ns=_BOOT_NS + np.round(t_s * 1e9).astype(np.int64), value=value, unit=unit)


def _ns(t_s: float) -> int:
    return _BOOT_NS + round(t_s * 1e9)


@settings(max_examples=100, deadline=None)
@given(
    length_s=st.floats(2.0, 10.0),
    phase_s=st.floats(0.0, 0.1),
    ramp=st.floats(-0.5, 0.5),
    swing=st.floats(0.0, 0.3),
    period_s=st.floats(1.0, 20.0),
    settling=st.floats(0.0, 0.5),
)
def test_energy_is_right_to_one_percent_at_10_hz(length_s, phase_s, ramp, swing, period_s, settling) -> None:
    """A board's power that climbs, swings and settles: sampled ten times a second, whatever the window's edges."""

    def power_mw(t):
        return 3000 * (1 + ramp * t / length_s + swing * np.sin(2 * np.pi * t / period_s) + settling * np.exp(-t))

    fine = np.linspace(0, length_s, 20_001)
    truth_mj = float(np.sum((power_mw(fine)[1:] + power_mw(fine)[:-1]) / 2) * (fine[1] - fine[0]))
    t_s = np.arange(-0.2, length_s + 0.3, 0.1) + phase_s
    told = integrate(_trace(t_s, power_mw(t_s)), _ns(0), _ns(length_s), 500.0, 100)
    assert told.gross_mj is not None and told.idle_mj is not None and told.net_mj is not None
    assert abs(told.gross_mj * 100 / truth_mj - 1) < 0.01
    assert math.isclose(told.idle_mj, 500 * length_s / 100, rel_tol=1e-6)
    assert math.isclose(told.net_mj, told.gross_mj - told.idle_mj)


@settings(max_examples=300, deadline=None)
@given(
    length_s=st.floats(2.0, 10.0),
    phase_s=st.floats(0.0, 0.1),
    outside=st.floats(0.0, 1.5),
    ramp=st.floats(-0.4, 0.4),
    swing=st.floats(0.0, 0.3),
    period_s=st.floats(1.0, 20.0),
    angle=st.floats(0.0, 6.3),
    settling=st.floats(0.0, 0.5),
    step=st.floats(-0.1, 0.1),
    step_at=st.floats(0.0, 1.0),
    counted=st.booleans(),
)
def test_energy_of_work_between_idle_is_right_to_one_percent(
    length_s, phase_s, outside, ramp, swing, period_s, angle, settling, step, step_at, counted
) -> None:
    """The work begins and ends with the window, so power jumps there; it climbs, swings, settles and steps inside."""

    def power_mw(t):
        wave = ramp * t / length_s + swing * np.sin(2 * np.pi * t / period_s + angle) + settling * np.exp(-t.clip(0))
        work = 3000 * (1 + wave + step * (t > step_at * length_s))
        return np.where((t < 0) | (t > length_s), 3000 * outside, work)

    fine = np.linspace(-0.5, length_s + 0.5, 40_001)
    drawn_mj = np.r_[0.0, np.cumsum((power_mw(fine)[1:] + power_mw(fine)[:-1]) / 2 * (fine[1] - fine[0]))]
    truth_mj = float(np.interp(length_s, fine, drawn_mj) - np.interp(0, fine, drawn_mj))
    t_s = np.arange(-0.3, length_s + 0.3, 0.1) + phase_s
    trace = _trace(t_s, 7e6 + 1000 * np.interp(t_s, fine, drawn_mj), "uj") if counted else _trace(t_s, power_mw(t_s))
    told = integrate(trace, _ns(0), _ns(length_s), None, 1)
    assert told.gross_mj is not None
    assert abs(told.gross_mj / truth_mj - 1) < 0.01


@given(st.floats(100, 1e5), st.floats(3.0, 10.0), st.floats(0.0, 1.0), st.floats(0.0, 0.1))
def test_counter_that_is_read_more_often_than_it_counts_is_taken_at_its_changes(
    power_mw: float, length_s: float, late: float, phase_s: float
) -> None:
    """Ten new values a second, read fifty times a second: plateaus neither lengthen nor shorten the window."""
    t_s = np.arange(-0.3, length_s + 0.3, 0.02) + phase_s / 5
    counted_s = (np.floor(t_s * 10 + late) - late) / 10
    told = integrate(_trace(t_s, 7e9 + counted_s * power_mw * 1000, "uj"), _ns(0), _ns(length_s), None, 1)
    assert told.gross_mj is not None
    assert abs(told.gross_mj / (power_mw * length_s) - 1) < 0.01


@given(st.floats(10, 1e5), st.integers(1, 1000), st.floats(2.0, 100.0))
def test_constant_power_gives_the_same_from_every_kind_of_trace(power_mw: float, runs: int, length_s: float) -> None:
    """mW, uW and a counter in uJ agree."""
    t_s = np.linspace(-0.1, length_s + 0.1, 50)
    for trace in (
        _trace(t_s, np.full(50, power_mw)),
        _trace(t_s, np.full(50, power_mw * 1000), "uw"),
        _trace(t_s, 7e9 + t_s * power_mw * 1000, "uj"),
    ):
        told = integrate(trace, _ns(0), _ns(length_s), None, runs)
        assert told.gross_mj is not None
        assert math.isclose(told.gross_mj, power_mw * length_s / runs, rel_tol=1e-4)


def test_without_a_baseline_net_is_unknown() -> None:
    """Unknown is None: idle is never taken as 0."""
    t_s = np.linspace(0, 2, 50)
    told = integrate(_trace(t_s, np.full(50, 100.0)), _ns(0), _ns(2), None, 1)
    assert told.net_mj is None
    assert told.idle_mj is None


@pytest.mark.parametrize(
    ("t_s", "value", "unit", "said"),
    [
        (np.linspace(0, 2, 19), np.ones(19), "mw", "19 power samples"),
        (np.linspace(0.3, 2, 30), np.ones(30), "mw", "do not cover the window"),
        (np.linspace(0, 1.5, 30), np.ones(30), "mw", "do not cover the window"),
        (np.r_[np.linspace(0, 0.9, 30), np.linspace(1.5, 2, 30)], np.ones(60), "mw", "a hole of 600 ms"),
        (np.linspace(0, 2, 50), np.r_[np.arange(25.0), np.arange(25.0)], "uj", "counter fell"),
        (np.linspace(0, 2, 50), np.full(50, 7.0), "uj", "0 power samples"),
        (np.linspace(0, 2, 200), np.floor(np.linspace(0, 15, 200)), "uj", "1[45] power samples"),
        (np.linspace(0, 2, 50)[::-1], np.ones(50), "mw", "order of time"),
        (np.linspace(0, 2, 50), np.full(50, np.nan), "mw", "0 power samples"),
        (np.linspace(0, 2, 50), np.ones(50), "mv", "neither power nor energy"),
    ],
)
def test_samples_that_prove_nothing_are_refused(t_s: np.ndarray, value: np.ndarray, unit: str, said: str) -> None:
    """Too few, too late, too early, with holes, wrapped, unordered, unread or of another kind."""
    with pytest.raises(Inconclusive, match=said):
        mean_power(_trace(t_s, value, unit), _ns(0), _ns(2))


def test_empty_window_is_refused() -> None:
    """No time, no energy; no runs, no energy per run."""
    trace = _trace(np.linspace(0, 2, 50), np.ones(50))
    with pytest.raises(Inconclusive, match="empty window"):
        integrate(trace, _ns(1), _ns(1), 0.0, 1)
    with pytest.raises(Inconclusive, match="no runs"):
        integrate(trace, _ns(0), _ns(2), 0.0, 0)


def test_lost_readings_are_skipped_not_counted_as_zero() -> None:
    """A NaN among good samples changes nothing."""
    t_s = np.linspace(0, 2, 101)
    value = np.full(101, 100.0)
    value[::7] = np.nan
    assert math.isclose(mean_power(_trace(t_s, value), _ns(0), _ns(2))[1], 100.0)


def test_rails_add_at_the_first_rails_times() -> None:
    """Rails are read one after the other, so the second is taken between its own samples."""
    t_s = np.linspace(0, 2, 41)
    total = add([_trace(t_s, 10 * t_s), _trace(t_s + 0.01, 5 * (t_s + 0.01))])
    assert np.allclose(total.value[1:], 15 * t_s[1:])
    with pytest.raises(Inconclusive, match="do not add up"):
        add([_trace(t_s, t_s), replace(_trace(t_s, t_s), unit="uj")])


_POWER = DeclaredPower(static_mw=1000, pj_per_mac=10, pj_per_byte=100, source="test")


def _workload(macs: int) -> Workload:
    op = Op(kind="conv", macs=macs, weight_count=1000, read_count=2000, write_count=3000)
    return Workload(block_key="b", kind="block", inputs=(), outputs=(), ops=(op,))


def test_declared_energy_is_static_plus_operations_plus_bytes() -> None:
    """Worked by hand: 1 W x 2 ms + 1e9 MAC x 10 pJ + 6000 x 4 B x 100 pJ = 2 + 10 + 0.0024 mJ."""
    told = declared(_POWER, _workload(10**9), "fp32", 1, 2.0)
    assert told is not None and told.net_mj is not None
    assert math.isclose(told.net_mj, 2 + 10 + 0.0024)
    assert told.gross_mj is None


def test_declared_energy_is_not_latency_rescaled() -> None:
    """Two blocks of equal latency and unequal work differ; int8 moves a quarter of the bytes; weights do not batch."""
    little, much = declared(_POWER, _workload(1), "fp32", 1, 1.0), declared(_POWER, _workload(10**9), "fp32", 1, 1.0)
    assert little is not None and much is not None and little.net_mj is not None and much.net_mj is not None
    assert much.net_mj > 5 * little.net_mj
    small = declared(replace_power(pj_per_mac=0), _workload(1), "int8", 4, 0.0)
    assert small is not None and small.net_mj is not None
    assert math.isclose(small.net_mj, (1000 + 4 * 5000) * 100 / 1e9)


def test_declared_gross_adds_idle_where_it_is_known() -> None:
    """Idle is what the board draws anyway."""
    told = declared(replace_power(idle_mw=500), _workload(1), "fp32", 1, 2.0)
    assert told is not None and told.gross_mj is not None and told.net_mj is not None
    assert math.isclose(told.gross_mj - told.net_mj, 1.0)


def test_declared_energy_of_unknown_work_is_unknown() -> None:
    """A graph whose operations nobody counted, or a precision of unknown size, has no declared energy."""
    assert declared(_POWER, replace(_workload(1), ops=()), "fp32", 1, 1.0) is None
    assert declared(_POWER, _workload(1), "int4", 1, 1.0) is None


def replace_power(**changes: float) -> DeclaredPower:
    return _POWER.model_copy(update=changes)
