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
    _check_cover(t_ns, start_ns, end_ns)
    # Seconds since the window opened: int64 nanoseconds would lose digits as floats.
    t_s = (t_ns - start_ns) / 1e9
    duration_s = (end_ns - start_ns) / 1e9
    if power.unit == "uj":
        return end_ns - start_ns, _counted_mw(t_s, value, duration_s)
    if power.unit not in ("mw", "uw"):
        raise Inconclusive(f"a trace in {power.unit!r} is neither power nor energy")
    value_mw = value / 1000 if power.unit == "uw" else value
    inside = (t_s > 0) & (t_s < duration_s)
    # np.interp holds the outermost value at an edge that lies up to one sample outside of them.
    edges = np.interp([0.0, duration_s], t_s, value_mw)
    times = np.concatenate([[0.0], t_s[inside], [duration_s]])
    values = np.concatenate([edges[:1], value_mw[inside], edges[1:]])
    area_mj = float(np.sum((values[1:] + values[:-1]) / 2 * np.diff(times)))
    return end_ns - start_ns, area_mj / duration_s


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


def _counted_mw(t_s: np.ndarray, value_uj: np.ndarray, duration_s: float) -> float:
    """Mean power from a counter; it must be unwrapped already, as only its meter knows its range."""
    if np.any(np.diff(value_uj) < 0):
        raise Inconclusive("the energy counter fell inside the window; it was reset, or its meter does not unwrap it")
    low, high = max(t_s[0], 0.0), min(t_s[-1], duration_s)
    first, last = np.interp([low, high], t_s, value_uj)
    return float((last - first) / 1000 / (high - low))
