"""A composition recovers what it was made from, and says what it cannot know."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from hwbench import composition
from hwbench.errors import ConfigError
from hwbench.setting import Setting

SETTING = Setting(unit="cpu", precision="fp32", threads=1)


def fit(
    sums: ArrayLike, counts: ArrayLike, measured: ArrayLike, smallest_row: float, elements: ArrayLike | None = None
) -> composition.Composition:
    """Fit on plain arrays."""
    return composition.fit(
        "latency_ms",
        SETTING,
        sums=np.asarray(sums),
        counts=np.asarray(counts),
        measured=np.asarray(measured),
        smallest_row=float(smallest_row),
        elements=None if elements is None else np.asarray(elements),
    )


@given(call=st.floats(0.0, 0.02), scale=st.floats(0.5, 1.5), seed=st.integers(0, 2**32 - 1))
def test_fit_recovers_call_and_scale_without_noise(call: float, scale: float, seed: int) -> None:
    """Networks made by the model itself are predicted to rounding, also when left out of the fit."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(5, 40, size=12)
    rows = [rng.uniform(0.03, 0.3, size=n) for n in counts]
    sums = np.array([r.sum() for r in rows])
    measured = call + scale * (sums - counts * call)
    fitted = fit(sums, counts, measured, min(r.min() for r in rows))
    np.testing.assert_allclose(fitted.from_sums(sums, counts), measured, rtol=1e-4)
    assert fitted.error.mape_percent < 0.1
    assert fitted.error.spearman == pytest.approx(1.0)


@given(call=st.floats(0.0, 0.02), layout=st.floats(0.0, 1e-6), seed=st.integers(0, 2**32 - 1))
def test_fit_recovers_what_a_returned_element_costs(call: float, layout: float, seed: int) -> None:
    """Elements that blocks return alone and not inside are told apart from calls and from work."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(5, 40, size=20)
    sums = np.array([rng.uniform(0.03, 0.3, size=n).sum() for n in counts])
    elements = -rng.uniform(1e3, 1e4, size=20) * counts
    measured = call + 1.1 * (sums - counts * call) + layout * elements
    kept = measured > 0.1
    fitted = fit(sums[kept], counts[kept], measured[kept], 0.03, elements[kept])
    np.testing.assert_allclose(fitted.from_sums(sums, counts, elements)[kept], measured[kept], rtol=1e-3)


def test_returning_more_never_makes_a_network_faster() -> None:
    """A coefficient below zero would be noise taken for a saving; it is held at zero."""
    rng = np.random.default_rng(4)
    sums, elements = rng.uniform(1, 2, size=30), -rng.uniform(1e3, 1e5, size=30)
    fitted = fit(sums, [10] * 30, 0.9 * sums - 1e-6 * elements, 0.01, elements)
    assert fitted.layout == 0.0


def test_few_networks_tell_no_third_coefficient() -> None:
    """With seven networks the elements are left out of the fit."""
    rng = np.random.default_rng(5)
    sums, elements = rng.uniform(1, 2, size=8), -rng.uniform(1e4, 1e5, size=8)
    measured = sums + 1e-6 * elements
    assert fit(sums[:7], [10] * 7, measured[:7], 0.01, elements[:7]).layout == 0.0
    assert fit(sums, [10] * 8, measured, 0.01, elements).layout == pytest.approx(1e-6, rel=1e-2)


def test_standing_alone_may_cost_something_else_than_a_call() -> None:
    """Several threads: a network wakes them more often than a block alone; networks left out are predicted by that."""
    rng = np.random.default_rng(7)
    counts = rng.integers(5, 18, size=30)
    rows = [rng.uniform(0.012, 0.06, size=n) for n in counts]
    sums = np.array([r.sum() for r in rows])
    measured = 0.022 + 0.85 * sums - 0.008 * counts
    fitted = fit(sums, counts, measured, 0.003)
    assert fitted.alone == pytest.approx(0.008, rel=1e-3)
    assert fitted.call == pytest.approx(0.022, rel=1e-3)
    assert fitted.error.mape_percent < 0.01
    added = fitted.call + fitted.addend(rows[0], np.zeros(counts[0])).sum()
    assert added == pytest.approx(measured[0], rel=1e-3)


def test_one_coefficient_more_is_taken_only_where_it_predicts_clearly_better() -> None:
    """Networks that keep the simpler law, with noise, are fitted by it."""
    rng = np.random.default_rng(8)
    counts = rng.integers(5, 18, size=30)
    sums = np.array([rng.uniform(0.03, 0.3, size=n).sum() for n in counts])
    measured = (0.002 + 1.1 * (sums - 0.002 * counts)) * rng.normal(1.0, 0.02, size=30)
    assert fit(sums, counts, measured, 0.03).alone is None


def test_addends_and_calls_sum_to_the_network() -> None:
    """What each block adds, plus a call and what the network returns, is the network: a search may add blocks alone."""
    rng = np.random.default_rng(6)
    rows, returned = rng.uniform(0.05, 0.2, size=9), rng.integers(100, 5000, size=9)
    sums = rng.uniform(1, 2, size=10)
    elements = -rng.uniform(1e4, 1e5, size=10)
    fitted = fit(sums, [10] * 10, sums + 2e-6 * elements, 0.05, elements)
    whole = fitted.segment(rows, 10.0 - returned.sum())
    added = fitted.call + fitted.addend(rows, returned).sum() + 10.0 * fitted.layout
    assert added == pytest.approx(float(whole))


def test_a_single_row_is_its_own_segment() -> None:
    """A block that runs alone costs its row: nothing is corrected twice."""
    fitted = fit([1.0, 2.0, 3.0, 4.5], [5, 9, 11, 20], [0.9, 1.8, 2.8, 4.1], 0.05)
    np.testing.assert_array_equal(fitted.segment(np.array([[0.25], [0.5]])), [0.25, 0.5])


def test_segments_cost_one_call_more_than_the_whole() -> None:
    """Cutting a network in two adds exactly one call."""
    rng = np.random.default_rng(1)
    rows = rng.uniform(0.05, 0.2, size=(20, 10))
    fitted = fit(rows.sum(1), [10] * 20, 0.01 + 0.9 * (rows.sum(1) - 0.1), rows.min())
    whole = fitted.segment(rows)
    halves = fitted.segment(rows[:, :4]) + fitted.segment(rows[:, 4:])
    np.testing.assert_allclose(halves - whole, fitted.call)


def test_the_error_is_that_of_networks_left_out() -> None:
    """Noise that cannot be predicted shows up in the stated error."""
    rng = np.random.default_rng(2)
    sums = rng.uniform(1, 5, size=40)
    measured = sums * rng.choice([0.9, 1.1], size=40)
    fitted = fit(sums, [10] * 40, measured, 0.02)
    assert 8 < fitted.error.mape_percent < 12
    assert fitted.error.n == 40


def test_too_few_networks_are_refused() -> None:
    """Three networks do not tell two coefficients and their error."""
    with pytest.raises(ConfigError, match="needs 4"):
        fit([1, 2, 3], [1, 2, 3], [1, 2, 3], 0.1)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_a_value_that_is_no_measurement_is_refused(bad: float) -> None:
    """Zero, negative and NaN are unknown values in disguise."""
    with pytest.raises(ConfigError, match="not positive"):
        fit([1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, bad], 0.1)


def test_blocks_that_stray_from_their_rows_are_found_by_the_networks_they_stand_in() -> None:
    """Each block costs up to 5 % more or less inside than alone: factors tell, and networks left out say so."""
    rng = np.random.default_rng(4)
    rows, stray = rng.uniform(0.01, 0.05, 20), 1 + rng.uniform(-0.05, 0.05, 20)
    counts = rng.integers(1, 7, (60, 20)) * (rng.random((60, 20)) < 0.2)
    keys = [f"b{i}" for i in range(20)]
    measured = 0.002 + counts @ (rows * stray - 0.002)
    sums = counts @ rows
    plain = fit(sums, counts.sum(axis=1), measured, rows.min())
    told = composition.fit(
        "latency_ms",
        SETTING,
        sums=sums,
        counts=counts.sum(axis=1),
        measured=measured,
        smallest_row=float(rows.min()),
        blocks=composition.Blocks(keys=keys, rows=rows, counts=counts),
    )
    assert told.error.mape_percent < 0.6 * plain.error.mape_percent
    assert np.corrcoef(told.factors(keys), stray)[0, 1] > 0.9
    assert told.factors(["unseen"]).tolist() == [1.0]
    again = told.from_sums(counts @ (rows * told.factors(keys)), counts.sum(axis=1))
    np.testing.assert_allclose(again, measured, rtol=0.02)


def test_factors_of_noise_are_not_kept() -> None:
    """Networks whose values err at random say nothing of their blocks."""
    rng = np.random.default_rng(5)
    rows, counts = rng.uniform(0.01, 0.05, 20), rng.integers(0, 4, (40, 20))
    measured = (counts @ rows) * rng.normal(1, 0.02, 40)
    fitted = composition.fit(
        "latency_ms",
        SETTING,
        sums=counts @ rows,
        counts=counts.sum(axis=1),
        measured=measured,
        smallest_row=float(rows.min()),
        blocks=composition.Blocks(keys=[f"b{i}" for i in range(20)], rows=rows, counts=counts, weights=np.zeros(20)),
    )
    assert not fitted.factor


def test_weights_that_a_network_fetches_anew_are_told_from_its_rows() -> None:
    """Where each weight costs something in a network and nothing alone, blocks get factors that say so."""
    rng = np.random.default_rng(11)
    rows, weights = rng.uniform(0.05, 0.5, 30), rng.uniform(1e3, 2e5, 30)
    counts = rng.integers(0, 3, (24, 30))
    per_weight_ms = 1e-6
    measured = 0.01 + counts @ (rows - 0.01 + per_weight_ms * weights)
    fitted = composition.fit(
        "latency_ms",
        SETTING,
        sums=counts @ rows,
        counts=counts.sum(axis=1),
        measured=measured,
        smallest_row=float(rows.min()),
        blocks=composition.Blocks(keys=[f"b{i}" for i in range(30)], rows=rows, counts=counts, weights=weights),
    )
    expected = 1 + per_weight_ms * weights / rows
    np.testing.assert_allclose(fitted.factors([f"b{i}" for i in range(30)]), expected, rtol=5e-3)
    assert fitted.error.mape_percent < 0.05


def test_weights_that_cost_nothing_leave_rows_as_they_are() -> None:
    """Noise alone does not make a factor of them."""
    rng = np.random.default_rng(12)
    rows, weights = rng.uniform(0.05, 0.5, 30), rng.uniform(1e3, 2e5, 30)
    counts = rng.integers(0, 3, (24, 30))
    measured = (0.01 + counts @ (rows - 0.01)) * rng.normal(1, 0.005, 24)
    fitted = composition.fit(
        "latency_ms",
        SETTING,
        sums=counts @ rows,
        counts=counts.sum(axis=1),
        measured=measured,
        smallest_row=float(rows.min()),
        blocks=composition.Blocks(keys=[f"b{i}" for i in range(30)], rows=rows, counts=counts, weights=weights),
    )
    assert abs(fitted.factors([f"b{i}" for i in range(30)]) - 1).max() < 0.02
