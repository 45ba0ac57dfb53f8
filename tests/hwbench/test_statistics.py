"""Statistics agree with their references, and the interval covers what it promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hwbench import statistics

_FINITE = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40)
_POSITIVE = st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=40)


@given(_FINITE, st.floats(-1e3, 1e3), st.floats(0.01, 100))
def test_location_and_spread_follow_shift_and_scale(values, shift: float, scale: float) -> None:
    """median(a·x + b) = a·median(x) + b, and the MAD only scales."""
    moved = np.array(values) * scale + shift
    assert math.isclose(statistics.median(values) * scale + shift, statistics.median(moved), abs_tol=1e-6, rel_tol=1e-9)
    assert math.isclose(statistics.mad(values) * scale, statistics.mad(moved), abs_tol=1e-4, rel_tol=1e-9)


@given(_FINITE)
def test_interval_holds_the_median(values) -> None:
    """For any numbers, tied, skewed or few, low <= median <= high."""
    interval = statistics.median_interval(values)
    if len(values) < 2:
        assert interval is None
    else:
        low, high = interval
        assert low <= statistics.median(values) + 1e-6
        assert high >= statistics.median(values) - 1e-6


@pytest.mark.parametrize("sessions", [3, 5, 6, 8, 12])
@pytest.mark.parametrize("kind", ["normal", "skewed", "outliers"])
def test_interval_covers_the_true_median(sessions: int, kind: str) -> None:
    """Over 2,000 simulated campaigns 95 % intervals hold the truth in 92.5 to 98 % of them, whatever the noise."""
    rng = np.random.default_rng(sessions)
    shape = (2000, sessions)
    if kind == "normal":
        truth, values = 1.0, rng.normal(1, 0.01, shape)
    elif kind == "skewed":
        truth, values = 1 + 0.02 * math.log(2), 1 + rng.exponential(0.02, shape)
    else:
        values = rng.normal(1, 0.01, shape) * np.where(rng.random(shape) < 0.15, 1.3, 1)
        # The median of that mixture: 0.85·Φ(z) = 0.5, as the slow ones all lie above.
        truth = 1 + 0.01 * float(stats.norm.ppf(0.5 / 0.85))
    inside = [low <= truth <= high for low, high in map(statistics.median_interval, values)]
    assert 0.925 <= float(np.mean(inside)) <= 0.98


@pytest.mark.parametrize(("sessions", "plain", "wider"), [(8, 0.80, 0.86), (25, 0.80, 0.92)])
def test_values_that_resemble_their_neighbours_widen_an_interval(sessions: int, plain: float, wider: float) -> None:
    """Sessions of a machine that drifts (correlation 0.6): intervals of independent ones hold the truth too seldom."""
    values = np.empty((2000, sessions))
    rng = np.random.default_rng(sessions)
    values[:, 0] = rng.normal(0, 1, 2000)
    for at in range(1, sessions):
        values[:, at] = 0.6 * values[:, at - 1] + rng.normal(0, 0.8, 2000)
    found = [(statistics.median_interval(v), statistics.widening(v), np.median(v)) for v in values]
    ends = np.array([[low - middle, high - middle, wide, middle] for (low, high), wide, middle in found]).T
    low, high, wide, middle = ends
    assert np.mean((middle + low <= 0) & (middle + high >= 0)) < plain
    assert wider < np.mean((middle + wide * low <= 0) & (middle + wide * high >= 0)) < 0.98


@pytest.mark.parametrize("sessions", [5, 8, 25])
def test_independent_values_hardly_widen_it(sessions: int) -> None:
    """By little at the median, and never narrower; of fewer than five or equal values nothing is known."""
    values = np.random.default_rng(sessions).normal(1, 0.01, (2000, sessions))
    found = [statistics.widening(v) for v in values]
    assert 1 == min(found) and np.median(found) < 1.25
    assert [1.0, 1.0] == [statistics.widening(v) for v in ([1.0, 2.0, 3.0, 4.0], [7.0] * 9)]


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 30])
@pytest.mark.parametrize("probability", [0.025, 0.5, 0.9, 0.995])
def test_t_quantile_equals_scipy(probability: float, freedom: int) -> None:
    """The series gives scipy's quantile."""
    assert math.isclose(stats.t.ppf(probability, freedom), statistics.t_quantile(probability, freedom), abs_tol=1e-9)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=30))
def test_spearman_equals_scipy_with_ties(pairs) -> None:
    """Ties share their mean rank; a constant side is NaN."""
    a, b = zip(*pairs, strict=True)
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert math.isnan(statistics.spearman(a, b))
    else:
        assert math.isclose(stats.spearmanr(a, b)[0], statistics.spearman(a, b), abs_tol=1e-9)


@given(_POSITIVE, st.floats(0.1, 3))
def test_constant_factor_is_its_own_error(measured, factor: float) -> None:
    """Predicting f·x is off by |f − 1|, with that sign."""
    predicted = np.array(measured) * factor
    assert math.isclose(abs(factor - 1) * 100, statistics.mape(predicted, measured), abs_tol=1e-6)
    assert math.isclose((factor - 1) * 100, statistics.bias(predicted, measured), abs_tol=1e-6)


@pytest.mark.parametrize("function", [statistics.median, statistics.mad, statistics.median_interval])
def test_statistic_of_nothing_is_refused(function) -> None:
    """Unknown is never 0."""
    with pytest.raises(ValueError, match="no values"):
        function([])


def test_lists_of_unequal_length_are_refused() -> None:
    """Predictions belong to measurements one by one."""
    with pytest.raises(ValueError, match="3 and 2"):
        statistics.mape([1, 2, 3], [1, 2])


def test_drift_is_last_quarter_over_first() -> None:
    """A ramp from 1 to 2 drifts by its quarters' medians; too few values say nothing."""
    assert math.isclose((1.875 - 1.125) / 1.125, statistics.drift(np.linspace(1, 2, 4001)), rel_tol=1e-3)
    assert math.isnan(statistics.drift([1, 2, 3]))
