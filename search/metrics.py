"""How two sets of designs compare: hypervolume by one stated measure, who dominates whom, what equal accuracy costs.

Costs (n, M) are objectives turned so that smaller is better. Hypervolume and ratio of dominance are those of HADAS'
section V-B and Figure 6 (paper 001).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pymoo.indicators.hv import HV

from search.improvement import front

Floats = npt.NDArray[np.float64]
# Beyond the nadir, so that the ends of a front count, too.
REFERENCE = 1.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measure:
    """What sets of designs are measured by. ideal, nadir: (M,) the best and the worst cost of each objective among all.

    reference: corner of the hypervolume on every axis, where the ideal is 0 and the nadir 1.
    """

    ideal: Floats
    nadir: Floats
    reference: float = REFERENCE

    @classmethod
    def of(cls, costs: Sequence[Floats], reference: float = REFERENCE) -> Measure:
        """The measure that several sets share: ideal and nadir of their union."""
        union = np.concatenate(list(costs))
        return cls(ideal=union.min(axis=0), nadir=union.max(axis=0), reference=reference)

    def scaled(self, costs: Floats) -> Floats:
        """(n, M) from 0 to 1; an objective in which all designs are equal is 0."""
        span = self.nadir - self.ideal
        scaled: Floats = (costs - self.ideal) / np.where(span > 0, span, 1.0)
        return scaled

    def hypervolume(self, costs: Floats) -> float:
        """Share of the box between ideal and reference that the designs dominate, from 0 to 1."""
        if not len(costs):
            return 0.0
        corner = np.full(costs.shape[1], self.reference)
        return float(HV(ref_point=corner)(self.scaled(costs)) / self.reference ** costs.shape[1])


def dominance(a: Floats, b: Floats) -> npt.NDArray[np.bool_]:
    """(n, m) whether each of `a` (n, M) dominates each of `b` (m, M): nowhere worse and somewhere better."""
    worse = np.zeros((len(a), len(b)), dtype=bool)
    better = np.zeros((len(a), len(b)), dtype=bool)
    for mine, theirs in zip(a.T, b.T, strict=True):
        worse |= mine[:, None] > theirs
        better |= mine[:, None] < theirs
    return better & ~worse


def dominating(a: Floats, b: Floats) -> float:
    """Ratio of dominance as HADAS words it: share of `a` that dominates some design of `b`; NaN where `a` is empty."""
    return float(dominance(a, b).any(axis=1).mean()) if len(a) else np.nan


def dominated(a: Floats, b: Floats) -> float:
    """Share of `a` that some design of `b` dominates; NaN where `a` is empty."""
    return float(dominance(b, a).any(axis=0).mean()) if len(a) else np.nan


def cost_at(value: Floats, cost: Floats, levels: Floats) -> Floats:
    """(L,) what a value of at least each level costs, along the front of (n,) values to raise and costs to lower.

    Between two designs of the front linear; below its cheapest design that one's cost; NaN above its best value.
    """
    if not len(value):
        return np.full(len(levels), np.nan)
    kept = front(cost, value)
    found: Floats = np.interp(levels, value[kept], cost[kept], right=np.nan)
    return found


def common_levels(values: Sequence[Floats], count: int) -> Floats:
    """(≤ count,) levels that every set reaches, highest first, close together where designs are.

    They are quantiles of all designs between the best value that all sets reach and the best of their lowest ones.
    """
    low, high = max(v.min() for v in values), min(v.max() for v in values)
    union = np.concatenate(list(values))
    inside = union[(union >= min(low, high)) & (union <= high)]
    levels: Floats = np.unique(np.quantile(inside, np.linspace(0, 1, count)))[::-1]
    return levels
