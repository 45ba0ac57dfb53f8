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


def fit(sums: ArrayLike, counts: ArrayLike, measured: ArrayLike, smallest_row: float) -> composition.Composition:
    """Fit on plain arrays."""
    return composition.fit(
        "latency_ms",
        SETTING,
        sums=np.asarray(sums),
        counts=np.asarray(counts),
        measured=np.asarray(measured),
        smallest_row=float(smallest_row),
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
