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

What remains is each block's own, a factor near 1 on its row, from two sources, each kept only where networks left out
are predicted better with it. Its weights stay in a near cache while it runs alone, and in a network that is larger than
that cache they are fetched anew in every run, which costs something for each weight. And every block may stray from its
row in a way that only the networks it stands in can tell (a Gaussian prior keeps it near where few networks tell).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

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

_Law = tuple[float, float, float, float, float]  # call, scale, alone, layout, cost of a weight that is fetched anew


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
    """The coefficients of one metric in one setting, at one operating point.

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
        rows = self.scale * sums - np.asarray(counts) * self.paid_alone
        return np.asarray(self.call + rows + self.layout * np.asarray(elements))

    def addend(self, rows: np.ndarray, elements: np.ndarray | float) -> np.ndarray:
        """What blocks add to the segment they run in: (...,) rows times factors, and the elements each returns."""
        return np.asarray(self.scale * rows - self.paid_alone - self.layout * np.asarray(elements))

    @property
    def paid_alone(self) -> float:
        """What a row pays for standing alone, told or scale · call."""
        return self.scale * self.call if self.alone is None else self.alone


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blocks:
    """Which blocks whole networks execute: keys and rows (K,), and how often each of n networks runs them, (n, K).

    weights: (K,) of each block; None = not all are known.
    """

    keys: Sequence[str]
    rows: np.ndarray
    counts: np.ndarray
    weights: np.ndarray | None = None


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
    blocks: what the networks execute, to find a factor for each; None = all stay 1.
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
    seen = np.stack([np.ones_like(value), total, -number, returned, np.zeros_like(value)], axis=1)
    form: _Form = _one_call(smallest_row)
    left_out = _left_out(form, seen, value)
    if len(value) >= _ALONE_NETWORKS:
        freely = _left_out(_free, seen, value)
        if (
            statistics.mape(freely, value) < _CLEARLY * statistics.mape(left_out, value)
            and min(_free(seen, value)) >= 0
        ):
            form, left_out = _free, freely
    weights = None if blocks is None or len(value) < _LAYOUT_NETWORKS else blocks.weights
    if blocks is not None and weights is not None:
        heavy = np.column_stack([seen[:, :-1], blocks.counts @ weights])
        weighed = _left_out(form, heavy, value)
        if statistics.mape(weighed, value) < _BETTER * statistics.mape(left_out, value):
            seen, left_out = heavy, weighed
    call, scale, alone, layout, weight = law = form(seen, value)
    factors: Mapping[str, float] = {}
    if blocks is not None and len(value) >= _LAYOUT_NETWORKS:
        factor = np.ones_like(blocks.rows)
        if weights is not None:
            factor += weight * weights / (scale * blocks.rows)
        strayed = _left_out_with_factors(form, seen, blocks, value)
        if statistics.mape(strayed, value) < _BETTER * statistics.mape(left_out, value):
            factor, left_out = factor + _strays(law, seen, blocks, value), strayed
        if (factor != 1).any():
            factors = dict(zip(blocks.keys, factor.tolist(), strict=True))
    return Composition(
        metric=metric,
        setting=setting,
        call=call,
        scale=scale,
        layout=layout,
        alone=alone if form is _free else None,
        factor=factors,
        error=Error.of(left_out, value),
        valid=Range(low=float(value.min()), high=float(value.max())),
        fitted_on=len(value),
    )


def fit_as(
    like: Composition,
    setting: Setting,
    *,
    sums: np.ndarray,
    counts: np.ndarray,
    elements: np.ndarray | None,
    measured: np.ndarray,
    blocks: Blocks,
) -> Composition:
    """Fit as `fit` does, in the form of another composition: no networks are left out to choose it, so it takes 1 ms.

    Its error is the other's.
    """
    value = np.asarray(measured, dtype=np.float64)
    returned = np.zeros_like(value) if elements is None else np.asarray(elements, dtype=np.float64)
    seen = np.stack([np.ones_like(value), sums, -counts.astype(np.float64), returned, np.zeros_like(value)], axis=1)
    form: _Form = _one_call(float(blocks.rows.min())) if like.alone is None else _free
    call, scale, alone, layout, _ = law = form(seen, value)
    strays = _strays(law, seen, blocks, value) if like.factor else np.zeros_like(blocks.rows)
    return replace(
        like,
        setting=setting,
        call=call,
        scale=scale,
        layout=layout,
        alone=None if like.alone is None else alone,
        factor=dict(zip(blocks.keys, (1 + strays).tolist(), strict=True)) if like.factor else {},
        valid=Range(low=float(value.min()), high=float(value.max())),
        fitted_on=len(value),
    )


_Form = Callable[[np.ndarray, np.ndarray], _Law]  # of (n, 5) what the law multiplies, and (n,) measured values


def _left_out(form: _Form, seen: np.ndarray, value: np.ndarray) -> np.ndarray:
    """(n,) predictions, each by what was fitted on all others."""
    everyone = np.arange(len(seen))
    return np.array([seen[i] @ form(seen[everyone != i], value[everyone != i]) for i in everyone])


def _left_out_with_factors(form: _Form, seen: np.ndarray, blocks: Blocks, value: np.ndarray) -> np.ndarray:
    """(n,) predictions, each by the law and the strays that all others tell."""
    everyone = np.arange(len(seen))
    predicted = np.empty(len(seen))
    for i in everyone:
        kept = everyone != i
        law = form(seen[kept], value[kept])
        others = replace(blocks, counts=blocks.counts[kept])
        strays = _strays(law, seen[kept], others, value[kept])
        predicted[i] = seen[i] @ law + law[1] * (blocks.counts[i] @ (blocks.rows * strays))
    return predicted


def _strays(law: _Law, seen: np.ndarray, blocks: Blocks, value: np.ndarray) -> np.ndarray:
    """(K,) the most likely strays, when each is of size _STRAY and each network's value is off by _NOISE."""
    spread = _STRAY * law[1] * blocks.counts * blocks.rows
    left = value - seen @ law
    together = spread @ spread.T + np.diag((_NOISE * value) ** 2)
    return np.asarray(_STRAY * (spread.T @ np.linalg.solve(together, left)))


def _free(seen: np.ndarray, value: np.ndarray) -> _Law:
    """Free coefficients; a layout or a weight below zero is noise."""
    relative = seen / value[:, None]
    size = np.linalg.norm(relative, axis=0)
    kept = size > 0
    for _ in range(3):
        found = np.zeros(5)
        columns = relative[:, kept] / size[kept]
        found[kept] = np.linalg.lstsq(columns, np.ones(len(relative)), rcond=None)[0] / size[kept]
        worst = 3 + int(found[3:].argmin())
        if found[worst] >= 0:
            break
        kept[worst] = False
    call, scale, alone, layout, weight = (float(x) for x in found)
    return call, scale, alone, layout, weight


def _one_call(smallest_row: float) -> _Form:
    """The best with alone = scale · call, which no row is cheaper than.

    For each call the others have a closed form, so one dimension is searched.
    """

    def form(seen: np.ndarray, value: np.ndarray) -> _Law:
        total, number, extra = seen[:, 1], -seen[:, 2], seen[:, 3:] / value[:, None]
        low, high = 0.0, smallest_row
        best = (0.0, np.zeros(3))
        for _ in range(4):  # each pass looks 16 times closer around the best: to 1e-5 of the smallest row
            calls = np.linspace(low, high, 33)
            slope = (total - np.outer(calls, number)) / value
            found, error = _above_zero(slope, extra, 1 - calls[:, None] / value)
            i = int(error.argmin())
            best = float(calls[i]), found[i]
            low, high = float(calls[max(i - 1, 0)]), float(calls[min(i + 1, 32)])
        call, (scale, layout, weight) = best[0], (float(x) for x in best[1])
        return call, scale, scale * call, layout, weight

    return form


def _above_zero(slope: np.ndarray, extra: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (C, 1 + E) of slope and of E extras that come nearest to target, those of extras ≥ 0, and their
    squared errors (C,).  slope, target: (C, n); extra: (n, E).

    With two extras every choice of those that take part is tried: the best without a negative one is the answer.
    """
    best = np.zeros((len(slope), 1 + extra.shape[1]))
    least = np.full(len(slope), np.inf)
    size = np.linalg.norm(extra, axis=0)
    present = np.flatnonzero(size > 0)
    for part in (list(p) for k in range(len(present) + 1) for p in itertools.combinations(present, k)):
        columns = np.concatenate(
            [slope[:, :, None], np.broadcast_to(extra[:, part] / size[part], (*slope.shape, len(part)))], axis=2
        )
        across = columns.transpose(0, 2, 1)
        # The pseudo-inverse: extras that go with the rows share what the rows alone would explain.
        inverse = np.linalg.pinv(across @ columns, rcond=1e-9, hermitian=True)
        found = (inverse @ (across @ target[:, :, None]))[:, :, 0]
        error = ((columns @ found[:, :, None])[:, :, 0] - target) ** 2
        better = (found[:, 1:] >= 0).all(axis=1) & (error.sum(axis=1) < least)
        least[better] = error.sum(axis=1)[better]
        best[better] = 0.0
        best[np.ix_(better, np.array([0, *(1 + p for p in part)]))] = (found / np.append(1.0, size[part]))[better]
    return best, least
