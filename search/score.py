"""HADAS' score of a dynamic network, D of equations 5 to 7 (paper 001): what its exits gain under an ideal mapping.

Shapes: B candidates, X = exits (all stages but the last).

Three readings, where the print leaves a choice. N_i is the share of samples that exit i is the first to answer
rightly, as the ideal mapping of section IV-C sends each sample there. Energy and latency enter as gains, 1 − E_i/E_b:
equation 6 as printed multiplies E_i/E_b, which rewards cost, while the figures of the paper plot the gain. A gain
below 0 counts as 0, or two losses would multiply to a reward.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import ConfigDict

from hwbench.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How exits are scored. baseline: metric -> E_b, L_b, the backbone without exits at the default operating point.

    gamma: weight of the dissimilarity, 0 = none.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    baseline: Mapping[str, float]
    gamma: float

    def __post_init__(self) -> None:
        if not self.baseline or not all(np.isfinite(v) and v > 0 for v in self.baseline.values()):
            raise ConfigError(f"a score compares with what the backbone costs, which must be above 0: {self.baseline}")
        if not (np.isfinite(self.gamma) and self.gamma >= 0):
            raise ConfigError(f"gamma must be 0 or more, not {self.gamma}")

    def of(
        self, placed: np.ndarray, first: np.ndarray, right: np.ndarray, spent: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        """D, (B,), from 0 to 1; 0 without exits, as nothing is gained.

        placed (B, X) bool.  first (B, X): N_i, read where placed.  right (X,): share that exit i alone answers rightly.
        spent: metric -> (B, X), what a sample has cost that leaves at exit i; NaN where unknown, and D with it.
        """
        value = first * self.dissimilarity(placed, right) ** self.gamma
        for metric, whole in self.baseline.items():
            value = value * np.maximum(1 - spent[metric] / whole, 0.0)
        count = np.maximum(placed.sum(axis=1), 1)
        return np.asarray(np.where(placed, value, 0.0).sum(axis=1) / count)

    @staticmethod
    def dissimilarity(placed: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Equation 7, (B, X): one minus the best share that a placed exit before i answers rightly; 1 for the first."""
        best = np.maximum.accumulate(np.where(placed, right, 0.0), axis=1)
        before = np.concatenate([np.zeros((len(placed), 1)), best[:, :-1]], axis=1)[:, : placed.shape[1]]
        return np.asarray(1 - before)
