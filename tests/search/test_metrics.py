"""Hypervolume against counting, dominance against the definition, and costs along a front."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from search.metrics import Measure, common_levels, cost_at, dominance, dominated, dominating

COSTS = st.integers(1, 3).flatmap(
    lambda m: st.tuples(*[arrays(np.float64, st.tuples(st.integers(1, 6), st.just(m)), elements=st.integers(0, 4))] * 2)
)


@pytest.mark.parametrize("axes", [2, 3])
def test_hypervolume_is_the_share_of_the_box_that_random_points_find_dominated(
    axes: int, rng: np.random.Generator
) -> None:
    """100,000 points of the box; three standard deviations of such counting are half a percent."""
    costs = rng.uniform(3, 9, (20, axes)) * 10.0 ** np.arange(axes)
    measure = Measure.of([costs, costs[:2] * 1.5])
    points = rng.uniform(0, 1.1, (100_000, axes))
    scaled = (costs - measure.ideal) / (measure.nadir - measure.ideal)
    hit = np.zeros(len(points), bool)
    for one in scaled:
        hit |= (points >= one).all(axis=1)
    assert hit.mean() == pytest.approx(measure.hypervolume(costs), abs=0.005)


def test_hypervolume_by_hand_does_not_depend_on_units() -> None:
    """Two designs at the ends and one in the middle: 1.1² − what none dominates."""
    costs = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    by_hand = (1.1 * 0.1 + 0.6 * 0.5 + 0.1 * 0.5) / 1.21
    assert by_hand == pytest.approx(Measure.of([costs]).hypervolume(costs))
    other = costs * [1000.0, 0.01] + [7.0, -3.0]
    assert by_hand == pytest.approx(Measure.of([other]).hypervolume(other))


def test_a_better_front_never_has_less_and_the_ideal_alone_has_all() -> None:
    """Adding a design adds volume, or nothing where it is dominated."""
    ideal, others = np.array([[0.0, 0.0]]), np.array([[0.2, 0.9], [0.9, 0.3]])
    measure = Measure.of([ideal, others])
    assert 1.0 == pytest.approx(measure.hypervolume(ideal))
    assert measure.hypervolume(others[:1]) < measure.hypervolume(others)
    assert measure.hypervolume(np.concatenate([ideal, others])) == pytest.approx(1.0)
    assert 0.0 == measure.hypervolume(others[:0])


def test_an_objective_in_which_all_are_equal_changes_nothing() -> None:
    """It spans no range to divide by."""
    costs = np.array([[0.0, 1.0], [1.0, 0.0]])
    flat = np.column_stack([costs, [5.0, 5.0]])
    assert Measure.of([costs]).hypervolume(costs) == pytest.approx(Measure.of([flat]).hypervolume(flat))


@given(COSTS)
@settings(deadline=None)
def test_dominance_is_its_definition(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """Nowhere worse and somewhere better, one by one; the ratios count it."""
    a, b = pair
    table = np.array([[bool((x <= y).all() and (x < y).any()) for y in b] for x in a])
    np.testing.assert_array_equal(table, dominance(a, b))
    assert np.mean([any(row) for row in table]) == dominating(a, b)
    assert np.mean([any(column) for column in table.T]) == dominated(b, a)
    assert not dominance(a, a).diagonal().any()


def test_ratio_of_dominance_by_hand() -> None:
    """Equal designs dominate nobody; the two readings of the ratio differ."""
    a = np.array([[1.0, 3.0], [2.0, 2.0], [9.0, 9.0]])
    b = np.array([[1.0, 4.0], [2.0, 2.0], [3.0, 3.0]])
    assert (2 / 3, 2 / 3) == (dominating(a, b), dominated(b, a))
    assert (1.0, 1 / 3) == (dominating(b, a), dominated(a, b))
    assert np.isnan(dominating(a[:0], b))


def test_costs_follow_the_front_and_end_with_it() -> None:
    """Linear in between, the cheapest design below, unknown above; what is beaten plays no part."""
    value, cost = np.array([0.9, 0.7, 0.8, 0.75]), np.array([4.0, 1.0, 2.0, 3.0])
    levels = np.array([0.95, 0.9, 0.85, 0.8, 0.75, 0.1])
    np.testing.assert_allclose(cost_at(value, cost, levels), [np.nan, 4.0, 3.0, 2.0, 1.5, 1.0])
    np.testing.assert_array_equal(cost_at(value[:0], cost[:0], levels), np.full(6, np.nan))


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=9), min_size=2, max_size=3), st.integers(1, 7))
def test_common_levels_are_reached_by_all(drawn: list[list[int]], count: int) -> None:
    """From the highest that all reach down; never more than asked, never none."""
    values = [np.array(v, float) for v in drawn]
    levels = common_levels(values, count)
    high = min(v.max() for v in values)
    assert 1 <= len(levels) <= count
    assert (np.diff(levels) < 0).all()
    assert levels[0] <= high
    assert count == 1 or levels[0] == high
    for v in values:
        assert not np.isnan(cost_at(v, v, levels)).any()
