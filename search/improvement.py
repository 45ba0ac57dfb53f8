"""Two objectives, a value to raise and a cost to lower: the front, its hypervolume, and how much a candidate may add.

The expected improvement of the hypervolume is exact where the cost is known and the value normally distributed: above
each step of the front it is a difference of two one-sided expectations.
Source: M. Emmerich et al., "Hypervolume-based expected improvement", CEC 2011, for one known objective.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

Floats = npt.NDArray[np.float64]


def front(cost: Floats, value: Floats) -> npt.NDArray[np.int64]:
    """Indices of the points that no other one beats, cheapest first; of equals the first."""
    order = np.lexsort((-value, cost))
    best = np.maximum.accumulate(np.append(-np.inf, value[order]))[:-1]
    return order[value[order] > best]


def hypervolume(cost: Floats, value: Floats, corner: tuple[float, float]) -> float:
    """Area that the points dominate; corner: the cost and the value that every counted point is better than."""
    inside = (cost < corner[0]) & (value > corner[1])
    cost, value = cost[inside], value[inside]
    kept = front(cost, value)
    width = np.append(cost[kept][1:], corner[0]) - cost[kept]
    return float((width * (value[kept] - corner[1])).sum())


def expected_improvement(
    cost: Floats, mean: Floats, deviation: Floats, known: tuple[Floats, Floats], corner: tuple[float, float]
) -> Floats:
    """(n,) expected growth of the hypervolume. cost, mean, deviation: of n candidates; known: cost, value of others."""
    kept = front(*known)
    costs, values = known[0][kept], known[1][kept]
    counted = values > corner[1]
    # A value above steps[k] and up to steps[k + 1] is had for widths[k] so far, above the last one for no cost known.
    steps = np.append(corner[1], values[counted])
    widths = np.minimum(np.append(costs[counted], corner[0]), corner[0])
    above = np.stack([_above(mean, deviation, step) for step in steps] + [np.zeros_like(mean)])
    gained: Floats = (np.maximum(widths[:, None] - cost, 0) * (above[:-1] - above[1:])).sum(0)
    return gained


def _above(mean: Floats, deviation: Floats, step: float) -> Floats:
    """Expectation of how far a normal value lies above a step, 0 where below."""
    z = (mean - step) / deviation
    above: Floats = deviation * (z * ndtr(z) + np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi))
    return above
