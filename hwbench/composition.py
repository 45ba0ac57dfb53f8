"""How rows add up to a network, fitted on a few whole networks and honest about networks they never saw.

A block alone is slower than inside a network, for two reasons that can be counted: each call of the runtime costs
something once, and at the end of a graph the result is put into the plain layout that callers read, while inside it
stays in the layout that the kernels like (ONNX Runtime: blocks of channels). So a segment that runs in one call costs

    call + scale · Σ(row − call) + layout · (elements it returns − Σ elements its blocks return)

and a network is the sum of its segments; block-wise, segment-wise and whole runs share one table. All of it is linear
in the blocks: each adds its `addend`, each segment its call and what it returns.

With several threads standing alone costs a block something else than a call costs a network: most blocks wake the other
threads once a run and tiny ones never do. Then `call + scale · Σ row − alone · K + layout · …` is fitted, where it
predicts networks left out clearly better.

What remains is each block's own: its weights stay in the nearest cache while it runs alone, its neighbours may push
them out. So every block has a factor near 1 on its row, told by the networks it stands in (a Gaussian prior around 1
keeps a block at its row where few networks tell), kept only where networks left out are predicted better with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hwbench import statistics
from hwbench.errors import ConfigError
from hwbench.setting import Setting

MINIMUM_NETWORKS = 4  # two coefficients, and a left-out network must leave enough to fit them
_LAYOUT_NETWORKS = 8  # three coefficients
_ALONE_NETWORKS = 20  # four, with nothing to hold them: a dozen networks fit noise with them
_CLEARLY = 0.8  # the form with one more coefficient must bring the left-out error down to this share

_BETTER = 0.95  # the same for the factors
# How far blocks stray from their rows inside a network, and how far a whole network's own value is off: both relative.
_STRAY, _NOISE = 0.03, 0.01

_Law = tuple[float, float, float, float]  # call, scale, alone, layout


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
    layout: cost of each element that a graph returns, 0 where it was not fitted.
    alone: what a row pays for standing alone; None = scale · call.
    factor: by block key, what the row is multiplied by inside a network; 1 where it is not named.
    error: by leaving one network out at a time.  fitted_on: number of whole networks and segments.
    """

    metric: str
    setting: Setting
    call: float
    scale: float
    layout: float = 0.0
    alone: float | None = None
    factor: Mapping[str, float] = field(default_factory=dict)
    error: Error
    valid: Range
    fitted_on: int

    def factors(self, keys: Sequence[str]) -> np.ndarray:
        """(K,) what the rows of these blocks are to be multiplied by before they are added."""
        return np.array([self.factor.get(key, 1.0) for key in keys])

    def segment(self, rows: np.ndarray, elements: np.ndarray | float = 0.0) -> np.ndarray:
        """Cost of segments from (..., K) rows that run in one call; a single row is its own segment.

        elements: (...,) that each segment returns, less those that its blocks return.
        """
        if rows.shape[-1] == 1:
            return rows[..., 0]
        return self.from_sums(rows.sum(axis=-1), rows.shape[-1], elements)

    def from_sums(self, sums: np.ndarray, counts: np.ndarray | int, elements: np.ndarray | float = 0.0) -> np.ndarray:
        """The same from sums (...,) of rows times their factors, and the number of rows in each."""
        rows = self.scale * sums - np.asarray(counts) * self._alone
        return np.asarray(self.call + rows + self.layout * np.asarray(elements))

    def addend(self, rows: np.ndarray, elements: np.ndarray | float) -> np.ndarray:
        """What blocks add to the segment they run in: (...,) rows times factors, and the elements each returns."""
        return np.asarray(self.scale * rows - self._alone - self.layout * np.asarray(elements))

    @property
    def _alone(self) -> float:
        return self.scale * self.call if self.alone is None else self.alone


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blocks:
    """Which blocks whole networks execute: keys and rows (K,), and how often each of n networks runs them, (n, K)."""

    keys: Sequence[str]
    rows: np.ndarray
    counts: np.ndarray


def fit(
    metric: str,
    setting: Setting,
    *,
    sums: Sequence[float] | np.ndarray,
    counts: Sequence[int] | np.ndarray,
    measured: Sequence[float] | np.ndarray,
    smallest_row: float,
    elements: Sequence[float] | np.ndarray | None = None,
    blocks: Blocks | None = None,
) -> Composition:
    """Fit the coefficients by least squares of the relative error.

    sums, counts, measured: (n,) row sum, number of rows and measured value of each whole network or segment.
    elements: (n,) that each returns, less those that its blocks return; None = unknown.
    blocks: what the networks execute, to fit a factor for each; None = all stay 1.
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
    returned = np.zeros_like(value)
    if elements is not None and len(value) >= _LAYOUT_NETWORKS:
        returned = np.asarray(elements, dtype=np.float64)
    seen = np.stack([np.ones_like(value), total, -number, returned], axis=1)

    def one_call(kept: np.ndarray) -> _Law:
        return _one_call(total[kept], number[kept], returned[kept], value[kept], smallest_row)

    def free(kept: np.ndarray) -> _Law:
        return _free(seen[kept] / value[kept, None])

    everyone = np.ones(len(value), dtype=bool)
    form, left_out = one_call, _left_out(one_call, seen)
    if len(value) >= _ALONE_NETWORKS:
        freely = _left_out(free, seen)
        if statistics.mape(freely, value) < _CLEARLY * statistics.mape(left_out, value) and min(free(everyone)) >= 0:
            form, left_out = free, freely
    call, scale, alone, layout = law = form(everyone)
    factors: Mapping[str, float] = {}
    if blocks is not None and len(value) >= _LAYOUT_NETWORKS:
        refined = _left_out_with_factors(form, seen, blocks, value)
        if statistics.mape(refined, value) < _BETTER * statistics.mape(left_out, value):
            found = _factors(law, seen, blocks, value, everyone)
            factors, left_out = dict(zip(blocks.keys, found.tolist(), strict=True)), refined
    return Composition(
        metric=metric,
        setting=setting.without_clocks,
        call=call,
        scale=scale,
        layout=layout,
        alone=None if form is one_call else alone,
        factor=factors,
        error=Error.of(left_out, value),
        valid=Range(low=float(value.min()), high=float(value.max())),
        fitted_on=len(value),
    )


def _left_out(form: Callable[[np.ndarray], _Law], seen: np.ndarray) -> np.ndarray:
    """(n,) predictions, each by what was fitted on all others."""
    everyone = np.arange(len(seen))
    return np.array([seen[i] @ form(everyone != i) for i in everyone])


def _left_out_with_factors(
    form: Callable[[np.ndarray], _Law], seen: np.ndarray, blocks: Blocks, value: np.ndarray
) -> np.ndarray:
    """(n,) predictions, each by the law and the factors that all others tell."""
    everyone = np.arange(len(seen))
    predicted = np.empty(len(seen))
    for i in everyone:
        law = form(everyone != i)
        factors = _factors(law, seen, blocks, value, everyone != i)
        predicted[i] = seen[i] @ law + law[1] * (blocks.counts[i] @ (blocks.rows * (factors - 1)))
    return predicted


def _factors(law: _Law, seen: np.ndarray, blocks: Blocks, value: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """(K,) the most likely factors, when each strays from 1 by _STRAY and each network's value is off by _NOISE."""
    spread = _STRAY * law[1] * blocks.counts[kept] * blocks.rows
    left = value[kept] - seen[kept] @ law
    together = spread @ spread.T + np.diag((_NOISE * value[kept]) ** 2)
    return np.asarray(1 + _STRAY * (spread.T @ np.linalg.solve(together, left)))


def _free(relative: np.ndarray) -> _Law:
    """Four free coefficients, of (n, 4) what they multiply over the measured value; a layout below zero is noise."""
    size = np.linalg.norm(relative, axis=0)
    kept = size > 0
    for _ in range(2):
        found = np.zeros(4)
        columns = relative[:, kept] / size[kept]
        found[kept] = np.linalg.lstsq(columns, np.ones(len(relative)), rcond=None)[0] / size[kept]
        if found[3] >= 0:
            break
        kept[3] = False
    return float(found[0]), float(found[1]), float(found[2]), float(found[3])


def _one_call(
    total: np.ndarray, number: np.ndarray, returned: np.ndarray, value: np.ndarray, smallest_row: float
) -> _Law:
    """The best with alone = scale · call: for each call the others have a closed form, so one dimension is searched."""
    low, high = 0.0, smallest_row
    best = (0.0, 0.0, 0.0)
    for _ in range(4):  # each pass looks 16 times closer around the best: to 1e-5 of the smallest row
        calls = np.linspace(low, high, 33)
        slope = (total - np.outer(calls, number)) / value
        target = 1 - calls[:, None] / value
        scales, layouts = _two_coefficients(slope, returned / value, target)
        error = ((scales[:, None] * slope + layouts[:, None] * (returned / value) - target) ** 2).sum(axis=1)
        i = int(error.argmin())
        best = float(calls[i]), float(scales[i]), float(layouts[i])
        low, high = float(calls[max(i - 1, 0)]), float(calls[min(i + 1, 32)])
    call, scale, layout = best
    return call, scale, scale * call, layout


def _two_coefficients(slope: np.ndarray, extra: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(C,) a and b ≥ 0 that bring a · slope + b · extra nearest to target; slope, target (C, n), extra (n,)."""
    ss, st = (slope * slope).sum(axis=1), (slope * target).sum(axis=1)
    se, et, ee = slope @ extra, target @ extra, float(extra @ extra)
    determinant = ss * ee - se * se
    # Where elements go with the rows (or there are none), the rows alone explain all that can be explained.
    clear = determinant > 1e-9 * ss * max(ee, 1e-300)
    second = np.where(clear, (ss * et - se * st) / np.where(clear, determinant, 1.0), 0.0).clip(min=0.0)
    return (st - second * se) / ss, second
