"""How accurate a backbone will be, told from those that were evaluated: a Gaussian process over ranks.

It learns the normal scores of the accuracies' ranks, not the accuracies: a search only asks which of two is better, and
a few failures at the low end must not bend the rest. Genes say what a backbone is; its work and its weights, in
logarithms, how large that makes it. A prediction comes with its uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata, spearmanr
from threadpoolctl import threadpool_limits

from models.space import Space
from search.improvement import Floats
from search.surrogate import Surrogate

# Of fewer there is nothing to learn.
LEAST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """One generation of a predictor. trained_on, asked: backbones it learned from, and that it was then held against.

    rank_correlation: Spearman's, of what was predicted before the evaluation and what was measured; None where fewer
    than three backbones, or equal ones, tell nothing.
    """

    trained_on: int
    asked: int
    rank_correlation: float | None

    @classmethod
    def of(cls, trained_on: int, predicted: Floats, measured: Floats) -> Learned:
        """Hold predictions (n,) against what was measured."""
        told = len(measured) > 2 and np.ptp(predicted) > 0 and np.ptp(measured) > 0
        correlation = float(spearmanr(predicted, measured).statistic) if told else None
        return cls(trained_on=trained_on, asked=len(measured), rank_correlation=correlation)


class Predictor:
    """Ranks backbones of a space; `fit` before anything is asked."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._work = np.array([[b.macs, b.params] for b in space.blocks] + [[0, 0]], np.float64)
        self._counts = np.array([slot.count for slot in space.slots], np.float64)
        self._steps = np.maximum(np.array(space.sizes) - 1, 1)
        self.trained_on = 0

    def fit(self, genes: np.ndarray, accuracy: np.ndarray) -> None:
        """Learn from (k, G) canonical genes and their (k,) accuracies, k ≥ LEAST. The same data give the same bytes."""
        scores = ndtri((rankdata(accuracy) - 0.5) / len(accuracy))
        # One thread: how many there are must not change the last bits, which a resumed search replays.
        with threadpool_limits(1):
            self._surrogate = Surrogate(self._features(genes))
            self._surrogate.fit(np.arange(len(genes)), scores)
        self.trained_on = len(genes)

    def score(self, genes: np.ndarray) -> Floats:
        """(n,) how good (n, G) canonical backbones are, as normal scores among those learned from; higher is better."""
        return self._surrogate.mean_at(self._features(genes))

    def predict(self, genes: np.ndarray) -> tuple[Floats, Floats]:
        """The same with a standard deviation, each (n,)."""
        with threadpool_limits(1):
            return self._surrogate.at(self._features(genes))

    def _features(self, genes: np.ndarray) -> list[Floats]:
        work = self._work[self._space.block_ids(genes)]
        size = np.log(np.einsum("nsf,s->nf", work, self._counts) + 1.0)
        return [genes / self._steps, size]
