"""From a cell's windows to its value: the median of the sessions' medians, with an interval over sessions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hwbench import energy
from hwbench.errors import EvidenceError
from hwbench.evidence import DECLARED, Evidence
from hwbench.journal import median_ms
from hwbench.measurement import Interval, Measurement, Window
from hwbench.statistics import median, median_interval, widening
from hwbench.target import DeclaredPower
from hwbench.workload import Workload


def summarise(workload: Workload, windows: Sequence[Window], power: DeclaredPower | None) -> Measurement:
    """The measurement of one cell from its windows, one a session.

    power: the declared model, for boards without a meter; None = energy is measured or unknown.
    """
    latency = over_sessions([median_ms(window.run_ns) for window in windows])
    if len({window.evidence for window in windows}) > 1:
        raise EvidenceError(
            f"{windows[0].cell.block_key}: its windows are of different origin; start over with --fresh"
        )
    evidence: dict[str, Evidence] = {"latency": windows[0].evidence}
    joules = [window.energy_mj for window in windows if window.energy_mj is not None]
    flags = _flags(windows)
    energy_mj: Interval | None = None
    if joules and median(joules) <= 0:
        # The load did not stand out of the idle baseline: that is no energy of 0, it is an unknown one.
        flags = (*flags, "energy_below_idle")
    elif joules:
        energy_mj, evidence["energy"] = over_sessions(joules), windows[0].evidence
    elif power is not None:
        energy_mj = _declared(workload, windows[0], power, latency)
        if energy_mj is not None:
            evidence["energy"] = DECLARED
    peaks = [window.peak_memory_bytes for window in windows if window.peak_memory_bytes is not None]
    return Measurement(
        cell=windows[0].cell,
        windows=tuple(windows),
        latency_ms=latency,
        energy_mj=energy_mj,
        peak_memory_mb=median(peaks) / 1e6 if peaks else None,
        flags=flags,
        evidence=evidence,
    )


def over_sessions(values: Sequence[float]) -> Interval:
    """Median of one value a session, in the order of the sessions, with its 95 % interval; a single session has none.

    Sessions that resemble their neighbours, since the machine drifts, make it wider.  Times and energies end at 0,
    while Student's t of few sessions that disagree reaches below it.
    """
    interval, middle = median_interval(values), median(values)
    if interval is None:
        return Interval(value=middle)
    wider = widening(values)
    low, high = (middle + wider * (end - middle) for end in interval)
    return Interval(value=middle, low=max(low, 0.0), high=high)


def _declared(workload: Workload, window: Window, power: DeclaredPower, latency: Interval) -> Interval | None:
    """The model is exact in its own terms, so its interval is the latency's alone."""

    def of(latency_ms: float | None) -> float | None:
        if latency_ms is None:
            return None
        setting = window.cell.setting
        told = energy.declared(power, workload, setting.precision, setting.batch, latency_ms)
        return None if told is None else told.net_mj

    value = of(latency.value)
    return None if value is None else Interval(value=value, low=of(latency.low), high=of(latency.high))


def _flags(windows: Sequence[Window]) -> tuple[str, ...]:
    """Each flag; `name:2/8` when only some of the sessions have it."""
    count = Counter(flag for window in windows for flag in set(window.flags))
    return tuple(f if n == len(windows) else f"{f}:{n}/{len(windows)}" for f, n in sorted(count.items()))
