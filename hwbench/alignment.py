"""Puts a power curve into the board's clock: a marker load, bursts at times that it knows, is looked for there."""

from __future__ import annotations

import numpy as np

from hwbench.errors import Inconclusive
from hwbench.measurement import Trace

# Below this correlation the bursts are not in the curve: another supply, or a marker too weak to see.
_MIN_CORRELATION = 0.5


def align(t_s: np.ndarray, power_mw: np.ndarray, marker: Trace) -> Trace:
    """Put a curve into the marker's clock.

    The best shift is the one whose correlation between the load and the power at that time is highest; each half of the
    marker is aligned on its own too, and their disagreement plus half a sample is the stated error.
    """
    if marker.t_ns.size < 4 or t_s.size < 8:
        raise Inconclusive("too few bursts or power samples to align the external meter")
    zero = int(marker.t_ns[0])
    edges = (marker.t_ns - zero) / 1e9
    gap_s = float(np.median(np.diff(t_s)))
    shift = _best_shift(t_s, power_mw, edges, marker.value)
    middle = edges.size // 2
    parts = [(edges[: middle + 1], marker.value[: middle + 1]), (edges[middle:], marker.value[middle:])]
    # Near the full answer only: half a marker alone may fit elsewhere too.
    around = [_best_shift(t_s, power_mw, e, v, near=shift) for e, v in parts]
    error_s = max(abs(a - shift) for a in around) + gap_s / 2
    return Trace(
        t_ns=zero + np.round((t_s - shift) * 1e9).astype(np.int64),
        value=power_mw,
        unit="mw",
        alignment_error_ms=error_s * 1000,
    )


def _best_shift(
    t_s: np.ndarray, power_mw: np.ndarray, edges: np.ndarray, load: np.ndarray, near: float | None = None
) -> float:
    """Shift d (s) so that the marker's time x lies at x + d in the meter's clock."""
    gap_s = float(np.median(np.diff(t_s)))
    # Coarser than this and a burst could slip through between two candidates.
    step = float(np.diff(edges).min()) / 6
    if near is None:
        low, high = float(t_s[0] - edges[0]) - gap_s, float(t_s[-1] - edges[-1]) + gap_s
        if high < low:
            raise Inconclusive("the external meter's curve is shorter than the marker; start it before the session")
    else:
        low, high = near - 2 * gap_s, near + 2 * gap_s
        step = min(step, gap_s / 5)
    best, score = _scan(t_s, power_mw, edges, load, np.arange(low, high + step, step))
    while step > gap_s / 20:
        best, score = _scan(t_s, power_mw, edges, load, np.linspace(best - step, best + step, 21))
        step /= 10
    if near is None and score < _MIN_CORRELATION:
        raise Inconclusive(
            f"the marker load does not show in the external meter's curve (correlation {score:.2f}); "
            "is it on this board's supply?"
        )
    return best


def _scan(
    t_s: np.ndarray, power_mw: np.ndarray, edges: np.ndarray, load: np.ndarray, shifts: np.ndarray
) -> tuple[float, float]:
    """(shift, correlation) of the best candidate; between equals the middle one."""
    scores = np.full(shifts.size, -1.0)
    for index, shift in enumerate(shifts):
        # Samples are in the order of time, so those under the marker are one slice.
        first, last = np.searchsorted(t_s, [edges[0] + shift, edges[-1] + shift])
        if last - first < 4:
            continue
        busy = load[np.searchsorted(edges, t_s[first:last] - shift, side="right").clip(1) - 1]
        power = power_mw[first:last]
        if np.ptp(busy) and np.ptp(power):
            scores[index] = np.corrcoef(busy, power)[0, 1]
    top = np.flatnonzero(scores >= scores.max() - 1e-9)
    return float(shifts[top].mean()), float(scores.max())
