"""From power samples to millijoules per run: the one place with the trapezoid, the baseline and the refusals.

Energy of an inference is what the window drew above idle, divided by its runs; both parts are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwbench.errors import Inconclusive
from hwbench.measurement import Trace
from hwbench.target import DeclaredPower
from hwbench.workload import Workload

MIN_SAMPLES = 20
# A window repeats the same work, so a short hole hides nothing; one longer than this share of it might.
_MAX_GAP = 0.2
# A bend of the curve this many times the usual one is where the work begins or ends.
_JUMP = 3.0
_BYTES = {"fp32": 4, "fp16": 2, "int8": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Energy of one run: net = gross - idle.  None = unknown (no idle baseline)."""

    net_mj: float | None
    gross_mj: float | None
    idle_mj: float | None


def integrate(power: Trace, start_ns: int, end_ns: int, idle_mw: float | None, runs: int) -> Energy:
    """Energy of each of `runs` runs between two instants of the trace's clock.

    power: unit `mw` or `uw`, integrated by trapezoid with interpolated edges; or `uj`, a counter, differenced.
    Either is right to 1 % at 10 Hz in windows of 2 s and more (tests/hwbench/test_energy.py says for which curves).
    idle_mw: the measured baseline; without one net is unknown.
    Raises Inconclusive: under 20 samples in the window, samples that do not cover it, holes, a counter that falls.
    """
    duration_ns, mean_mw = mean_power(power, start_ns, end_ns)
    if runs < 1:
        raise Inconclusive("no runs in the window, so there is no energy per run")
    seconds_per_run = duration_ns / 1e9 / runs
    gross_mj = mean_mw * seconds_per_run
    if idle_mw is None:
        return Energy(net_mj=None, gross_mj=gross_mj, idle_mj=None)
    idle_mj = idle_mw * seconds_per_run
    return Energy(net_mj=gross_mj - idle_mj, gross_mj=gross_mj, idle_mj=idle_mj)


def mean_power(power: Trace, start_ns: int, end_ns: int) -> tuple[int, float]:
    """(duration in ns, mean power in mW) of a window; raises Inconclusive as `integrate` does."""
    known = np.isfinite(power.value)
    t_ns = np.asarray(power.t_ns, dtype=np.int64)[known]
    value = np.asarray(power.value, dtype=np.float64)[known]
    if power.unit not in ("mw", "uw", "uj"):
        raise Inconclusive(f"a trace in {power.unit!r} is neither power nor energy")
    if power.unit == "uj":
        t_ns, value = _changes(t_ns, value)
    _check_cover(t_ns, start_ns, end_ns)
    # Seconds since the window opened: int64 nanoseconds would lose digits as floats.
    t_s = (t_ns - start_ns) / 1e9
    duration_s = (end_ns - start_ns) / 1e9
    energy_mj = _counted_mj if power.unit == "uj" else _area_mj
    # Both are thousandths of what is told in mW and mJ.
    return end_ns - start_ns, energy_mj(t_s, value if power.unit == "mw" else value / 1000, duration_s) / duration_s


def declared(power: DeclaredPower, workload: Workload, precision: str, batch: int, latency_ms: float) -> Energy | None:
    """Energy of one run by a target's declared model: static + per operation + per byte; always of evidence `declared`.

    None where the workload's operations are unknown: latency alone would only be rescaled.
    """
    if not workload.ops or precision not in _BYTES:
        return None
    elements = sum(op.weight_count + batch * (op.read_count + op.write_count) for op in workload.ops)
    net_mj = (
        power.static_mw * latency_ms / 1000
        + power.pj_per_mac * workload.macs * batch / 1e9
        + power.pj_per_byte * elements * _BYTES[precision] / 1e9
    )
    if power.idle_mw is None:
        return Energy(net_mj=net_mj, gross_mj=None, idle_mj=None)
    idle_mj = power.idle_mw * latency_ms / 1000
    return Energy(net_mj=net_mj, gross_mj=net_mj + idle_mj, idle_mj=idle_mj)


def add(traces: list[Trace]) -> Trace:
    """Sum traces of one unit that do not overlap, on the times of the first; alignment errors: the worst."""
    first = traces[0]
    if any(trace.unit != first.unit for trace in traces):
        raise Inconclusive(f"rails in {sorted({trace.unit for trace in traces})} do not add up")
    # int64 nanoseconds exceed what float64 holds exactly, so times are taken from the first sample.
    zero = first.t_ns[0] if first.t_ns.size else 0
    total = np.zeros(first.t_ns.size)
    for trace in traces:
        if trace.t_ns.size == 0:
            raise Inconclusive("a rail gave no samples")
        total = total + np.interp((first.t_ns - zero) / 1e9, (trace.t_ns - zero) / 1e9, trace.value)
    return Trace(
        t_ns=first.t_ns,
        value=total,
        unit=first.unit,
        alignment_error_ms=max(trace.alignment_error_ms for trace in traces),
    )


def _check_cover(t_ns: np.ndarray, start_ns: int, end_ns: int) -> None:
    """Refuse what cannot be integrated honestly."""
    if end_ns <= start_ns:
        raise Inconclusive("an empty window has no energy")
    seconds = (end_ns - start_ns) / 1e9
    inside = int(np.count_nonzero((t_ns >= start_ns) & (t_ns <= end_ns)))
    if inside < MIN_SAMPLES:
        raise Inconclusive(
            f"{inside} power samples in a window of {seconds:.2f} s, {MIN_SAMPLES} are needed; lengthen the window"
        )
    gaps = np.diff(t_ns)
    if gaps.min() <= 0:
        raise Inconclusive("power samples are not in the order of time")
    near = float(np.median(gaps))
    if t_ns[0] - start_ns > near or end_ns - t_ns[-1] > near:
        raise Inconclusive(
            f"power samples do not cover the window of {seconds:.2f} s: the meter began late or ended early"
        )
    overlap = np.minimum(t_ns[1:], end_ns) - np.maximum(t_ns[:-1], start_ns)
    if overlap.max() > max(_MAX_GAP * (end_ns - start_ns), 2 * near):
        raise Inconclusive(f"a hole of {overlap.max() / 1e6:.0f} ms in the power samples; the meter lost readings")


def _changes(t_ns: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A counter at its new values only: one that is read more often than it is updated tells nothing in between.

    The first sample of such a counter is dropped too: nobody knows for how long it had stood.
    """
    moved = np.diff(value) != 0
    keep = np.concatenate([[bool(moved.all())], moved]) if value.size else np.zeros(0, dtype=bool)
    return t_ns[keep], value[keep]


def _area_mj(t_s: np.ndarray, power_mw: np.ndarray, duration_s: float) -> float:
    """Trapezoid over the samples inside, and over what is left to both edges."""
    first, last = _inside(t_s, duration_s)
    inside_s, inside_mw = t_s[first:last], power_mw[first:last]
    usual = _usual_bend(inside_mw)

    def edge(beyond_s: np.ndarray, beyond_mw: np.ndarray, times_s: np.ndarray, values_mw: np.ndarray) -> float:
        """Power at time 0, before times_s[0]: from the samples around it, if they belong together."""
        if beyond_s.size and abs(beyond_mw[0] - _continued(times_s, values_mw, beyond_s[0])) <= _JUMP * usual:
            return float(np.interp(0.0, [beyond_s[0], times_s[0]], [beyond_mw[0], values_mw[0]]))
        return _continued(times_s, values_mw, 0.0)

    start_mw = edge(t_s[:first][::-1], power_mw[:first][::-1], inside_s, inside_mw)
    # The end is a start with the time turned round.
    end_mw = edge(duration_s - t_s[last:], power_mw[last:], duration_s - inside_s[::-1], inside_mw[::-1])
    times = np.concatenate([[0.0], inside_s, [duration_s]])
    values = np.concatenate([[start_mw], inside_mw, [end_mw]])
    return float(np.sum((values[1:] + values[:-1]) / 2 * np.diff(times)))


def _counted_mj(t_s: np.ndarray, counter_mj: np.ndarray, duration_s: float) -> float:
    """Difference of a counter between the edges; it must be unwrapped already, as only its meter knows its range."""
    if np.any(np.diff(counter_mj) < 0):
        raise Inconclusive("the energy counter fell inside the window; it was reset, or its meter does not unwrap it")
    first, last = _inside(t_s, duration_s)
    inside_s, inside_mj = t_s[first:last], counter_mj[first:last]
    # Mean power between neighbours, as if read in the middle of them.
    power_mw, middle_s = np.diff(inside_mj) / np.diff(inside_s), (inside_s[1:] + inside_s[:-1]) / 2
    usual = _usual_bend(power_mw)

    def missing(gap_s: float, around_mw: float | None, times_s: np.ndarray, values_mw: np.ndarray) -> float:
        """Energy from an edge to the first sample inside; around_mw: mean power from the sample before to that one."""
        expected_mw = _continued(times_s, values_mw, times_s[0] - (times_s[1] - times_s[0] + gap_s) / 2)
        if around_mw is not None and abs(around_mw - expected_mw) <= _JUMP * usual:
            return gap_s * around_mw
        return gap_s * expected_mw

    def around(low: int, high: int) -> float | None:
        known = low >= 0 and high < t_s.size
        return float((counter_mj[high] - counter_mj[low]) / (t_s[high] - t_s[low])) if known else None

    before = missing(float(inside_s[0]), around(first - 1, first), middle_s, power_mw)
    turned_s = duration_s - middle_s[::-1]
    after = missing(float(duration_s - inside_s[-1]), around(last - 1, last), turned_s, power_mw[::-1])
    return float(inside_mj[-1] - inside_mj[0]) + before + after


def _inside(t_s: np.ndarray, duration_s: float) -> tuple[int, int]:
    """Slice of the samples between the edges; one right on an edge may belong to either side, so to neither."""
    return int(np.searchsorted(t_s, 0.0, side="right")), int(np.searchsorted(t_s, duration_s))


def _usual_bend(values: np.ndarray) -> float:
    """How far a sample usually lies from the line through the two before it."""
    return float(np.median(np.abs(np.diff(values, 2))))


def _continued(times_s: np.ndarray, values: np.ndarray, at_s: float) -> float:
    """What the first samples inside say of the time before them: along their common slope, level without one.

    Power jumps where the work begins and ends, so nothing beyond such an edge says anything of the window.
    """
    slopes = np.diff(values[:3]) / np.diff(times_s[:3])
    slope = 0.0 if slopes[0] * slopes[1] <= 0 else float(slopes[np.argmin(np.abs(slopes))])
    return float(values[0] - slope * (times_s[0] - at_s))
