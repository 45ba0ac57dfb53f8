"""How rows add up to a network, fitted on a few whole networks and honest about networks it never saw.

A block alone is slower than inside a network: each call of the runtime costs something once, and layouts change at a
block's edges. So a segment that runs in one call costs `call + scale · Σ(row − call)`, and a network is the sum of its
segments; block-wise, segment-wise and whole runs share one table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwbench import statistics
from hwbench.errors import ConfigError
from hwbench.setting import Setting

MINIMUM_NETWORKS = 4  # two coefficients, and a left-out network must leave enough to fit them


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """Prediction error on networks that the coefficients were not fitted on."""

    mape_percent: float
    bias_percent: float
    spearman: float
    n: int

    @classmethod
    def of(cls, predicted: np.ndarray, measured: np.ndarray) -> Error:
        """Compare (n,) predictions with (n,) measurements of the same networks."""
        return cls(
            mape_percent=statistics.mape(predicted, measured),
            bias_percent=statistics.bias(predicted, measured),
            spearman=statistics.spearman(predicted, measured),
            n=len(measured),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Smallest and largest value that the coefficients were fitted on, in the metric's unit."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """The coefficients of one metric in one setting (without clocks).

    call: cost of one call of the runtime, in the metric's unit.  scale: a row inside a network over the row alone.
    error: by leaving one network out at a time.  fitted_on: number of whole networks and segments.
    """

    metric: str
    setting: Setting
    call: float
    scale: float
    error: Error
    valid: Range
    fitted_on: int

    def segment(self, rows: np.ndarray) -> np.ndarray:
        """Cost of segments from (..., K) rows that run in one call; a single row is its own segment."""
        if rows.shape[-1] == 1:
            return rows[..., 0]
        return self.from_sums(rows.sum(axis=-1), rows.shape[-1])

    def from_sums(self, sums: np.ndarray, counts: np.ndarray | int) -> np.ndarray:
        """The same from row sums (...,) and the number of rows in each."""
        return np.asarray(self.call + self.scale * (sums - np.asarray(counts) * self.call))


def fit(
    metric: str,
    setting: Setting,
    *,
    sums: Sequence[float],
    counts: Sequence[int],
    measured: Sequence[float],
    smallest_row: float,
) -> Composition:
    """Fit call cost and scale by least squares of the relative error.

    sums, counts, measured: (n,) row sum, number of rows and measured value of each whole network or segment.
    smallest_row: of all rows; a call is part of every row, so it cannot cost more than this.
    Raises ConfigError with fewer than four networks, or where a value is not a positive number.
    """
    total, number, value = (np.asarray(a, dtype=np.float64) for a in (sums, counts, measured))
    if len(value) < MINIMUM_NETWORKS:
        raise ConfigError(
            f"{metric} at {setting}: {len(value)} whole networks measured, a composition needs {MINIMUM_NETWORKS}; "
            "profile with more --networks"
        )
    if not (np.isfinite(total).all() and (total > 0).all() and np.isfinite(value).all() and (value > 0).all()):
        raise ConfigError(f"{metric} at {setting}: a network or its rows are not positive numbers; measure them again")
    call, scale = _solve(total, number, value, smallest_row)
    left_out = np.empty_like(value)
    for i in range(len(value)):
        others = np.arange(len(value)) != i
        c, s = _solve(total[others], number[others], value[others], smallest_row)
        left_out[i] = c + s * (total[i] - number[i] * c)
    return Composition(
        metric=metric,
        setting=setting.without_clocks,
        call=call,
        scale=scale,
        error=Error.of(left_out, value),
        valid=Range(low=float(value.min()), high=float(value.max())),
        fitted_on=len(value),
    )


def _solve(total: np.ndarray, number: np.ndarray, value: np.ndarray, smallest_row: float) -> tuple[float, float]:
    """The best (call, scale): for each call the scale has a closed form, so only one dimension is searched."""
    low, high = 0.0, smallest_row
    call = scale = 0.0
    for _ in range(4):  # each pass looks 16 times closer around the best: to 1e-5 of the smallest row
        calls = np.linspace(low, high, 33)
        slope = (total - np.outer(calls, number)) / value
        target = 1 - calls[:, None] / value
        scales = (slope * target).sum(axis=1) / (slope * slope).sum(axis=1)
        error = ((scales[:, None] * slope - target) ** 2).sum(axis=1)
        best = int(error.argmin())
        call, scale = float(calls[best]), float(scales[best])
        low, high = float(calls[max(best - 1, 0)]), float(calls[min(best + 1, 32)])
    return call, scale
