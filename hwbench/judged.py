"""How well whole networks are predicted: errors, ranks, and shares within 5 and 10 %."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwbench import statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """How well n networks were predicted; percent. within: share of networks off by at most so much."""

    mape: float
    rmse: float
    spearman: float
    kendall: float
    within_5: float
    within_10: float
    n: int

    @classmethod
    def of(cls, predicted: np.ndarray, measured: np.ndarray) -> Judged:
        """Compare (n,) predictions with (n,) measurements; rmse in the metric's unit."""
        off = np.abs(predicted - measured) / measured
        return cls(
            mape=statistics.mape(predicted, measured),
            rmse=float(np.sqrt(np.mean((predicted - measured) ** 2))),
            spearman=statistics.spearman(predicted, measured),
            kendall=kendall(predicted, measured),
            within_5=float(np.mean(off <= 0.05)),
            within_10=float(np.mean(off <= 0.10)),
            n=len(measured),
        )

    @classmethod
    def left_out(cls, predicted: np.ndarray, measured: np.ndarray) -> Judged:
        """The same of networks left out, none predicted to cost less than the cheapest measured."""
        return cls.of(np.maximum(predicted, measured.min()), measured)


def kendall(first: np.ndarray, second: np.ndarray) -> float:
    """Kendall's tau-b; NaN where one side is constant. Takes the square of n, in parts."""
    same, ties_a, ties_b = 0.0, 0.0, 0.0
    for i in range(len(first) - 1):
        a, b = np.sign(first[i + 1 :] - first[i]), np.sign(second[i + 1 :] - second[i])
        same, ties_a, ties_b = same + float(a @ b), ties_a + float(a @ a), ties_b + float(b @ b)
    return same / (ties_a * ties_b) ** 0.5 if ties_a and ties_b else float("nan")
