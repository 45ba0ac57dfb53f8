"""Hypervolume of two objectives and its expected growth, against plain counting and drawing."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pymoo.indicators.hv import HV

from search.improvement import expected_improvement, front, hypervolume

POINTS = arrays(np.float64, st.tuples(st.integers(1, 12), st.just(2)), elements=st.integers(0, 6).map(float))
CORNER = (6.5, -0.5)


@given(POINTS)
def test_the_front_is_what_nothing_beats(points: np.ndarray) -> None:
    """Pair by pair; of equal points one stays."""
    cost, value = points.T
    kept = front(cost, value)
    assert sorted(cost[kept].tolist()) == cost[kept].tolist()
    for i in range(len(points)):
        beaten = any(
            (cost[j] <= cost[i] and value[j] >= value[i]) and (cost[j], value[j]) != (cost[i], value[i])
            for j in range(len(points))
        )
        assert beaten != any((cost[k], value[k]) == (cost[i], value[i]) for k in kept)


@given(POINTS)
def test_the_hypervolume_is_pymoos(points: np.ndarray) -> None:
    """Which minimises both."""
    expected = HV(ref_point=np.array([CORNER[0], -CORNER[1]]))(np.column_stack([points[:, 0], -points[:, 1]]))
    assert expected == pytest.approx(hypervolume(points[:, 0], points[:, 1], CORNER))


@given(POINTS, st.integers(0, 6), st.floats(-2, 8), st.floats(0.05, 3))
def test_expected_growth_is_the_mean_of_drawn_growth(
    points: np.ndarray, cost: int, mean: float, deviation: float
) -> None:
    """Values drawn at equal probabilities, so that the mean is exact to a few per mille."""
    normal = NormalDist(mean, deviation)
    drawn = [normal.inv_cdf((i + 0.5) / 400) for i in range(400)]
    before = hypervolume(points[:, 0], points[:, 1], CORNER)
    growth = [hypervolume(np.append(points[:, 0], cost), np.append(points[:, 1], v), CORNER) - before for v in drawn]
    told = expected_improvement(
        np.array([float(cost)]), np.array([mean]), np.array([deviation]), (points[:, 0], points[:, 1]), CORNER
    )
    assert np.mean(growth) == pytest.approx(told[0], abs=0.02 * deviation * CORNER[0])


def test_nothing_known_everything_gains() -> None:
    """The whole rectangle to the corner."""
    none = np.empty(0)
    told = expected_improvement(np.array([2.0]), np.array([3.0]), np.array([1e-6]), (none, none), (5.0, 1.0))
    assert told[0] == pytest.approx((5 - 2) * (3 - 1), rel=1e-4)
