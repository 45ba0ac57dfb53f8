"""What each operation costs, told by whole networks alone: non-negative regression on how often each is executed.

The coefficients are what a user can read and check; a network costs `base + Σ count · coefficient`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from hwbench.decoder import Reading

_FOLDS = 10
_SETTLED = 1e-10


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """reading: which way of reading architectures it counts in.  cost: of one execution of each operation."""

    reading: str
    base: float
    cost: Mapping[str, float]

    def predict(self, reading: Reading) -> np.ndarray:
        """(n,) of networks read in the same way."""
        return np.asarray(self.base + reading.counts @ np.array([self.cost[op] for op in reading.ops]))


def fit_counts(reading: Reading, measured: np.ndarray, scale: np.ndarray) -> Counts:
    """Fit to (n,) measurements, each error in units of its scale (n,)."""
    seen = np.hstack([np.ones((len(measured), 1)), reading.counts]) / scale[:, None]
    found = non_negative(seen, measured / scale)
    return Counts(
        reading=reading.name, base=float(found[0]), cost=dict(zip(reading.ops, found[1:].tolist(), strict=True))
    )


def counts_left_out(reading: Reading, measured: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """(n,) what is predicted for each network by a fit on nine tenths that it is not in."""
    seen = np.hstack([np.ones((len(measured), 1)), reading.counts])
    predicted = np.empty(len(measured))
    for out in tenths(len(measured)):
        told = non_negative(seen[~out] / scale[~out, None], measured[~out] / scale[~out])
        predicted[out] = seen[out] @ told
    return predicted


def tenths(count: int) -> Iterator[np.ndarray]:
    """(count,) each, which networks are left out: every one once, the same ones in every run."""
    folds = np.random.default_rng(0).permutation(count) % _FOLDS
    for fold in range(min(_FOLDS, count)):
        yield folds == fold


def non_negative(matrix: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The x ≥ 0 that minimises |matrix · x − target|: the active set method of Lawson & Hanson (1974, chapter 23).

    numpy only. Columns that others determine keep 0 where they enter last.
    """
    length = np.sqrt((matrix**2).sum(axis=0))
    used = length > 0
    a = matrix[:, used] / length[used]
    gram, pull = a.T @ a, a.T @ target
    x, free = np.zeros(a.shape[1]), np.zeros(a.shape[1], dtype=bool)
    limit = _SETTLED * max(float(np.abs(pull).max(initial=0)), 1e-300)
    for _ in range(3 * a.shape[1] + 10):
        slope = np.where(free, -np.inf, pull - gram @ x)
        best = int(np.argmax(slope)) if len(slope) else 0
        if not len(slope) or slope[best] <= limit:
            break
        free[best] = True
        while True:
            tried = np.zeros_like(x)
            tried[free] = np.linalg.lstsq(a[:, free], target, rcond=None)[0]
            if (tried[free] > 0).all():
                x = tried
                break
            back = free & (tried <= 0)
            share = float((x[back] / np.maximum(x[back] - tried[back], 1e-300)).min())
            x = x + share * (tried - x)
            free &= x > 1e-15
            x[~free] = 0.0
    result = np.zeros(matrix.shape[1])
    result[used] = x / length[used]
    return result
