"""hwbench.counts: non-negative regression, against its definition."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hwbench.counts import counts_left_out, fit_counts, non_negative
from hwbench.decoder import Reading


@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(8, 30))
def test_the_best_non_negative_coefficients_are_found(seed: int, columns: int, rows: int) -> None:
    """The conditions of Karush, Kuhn and Tucker: no slope where free, none that helps where held at 0."""
    rng = np.random.default_rng(seed)
    matrix, target = rng.normal(size=(rows, columns)), rng.normal(size=rows)
    found = non_negative(matrix, target)
    slope = matrix.T @ (target - matrix @ found)
    assert (found >= 0).all()
    assert (slope <= 1e-7 * np.abs(matrix.T @ target).max()).all()
    assert np.allclose(slope[found > 0], 0, atol=1e-7)


def test_sums_are_recovered_exactly(rng: np.random.Generator) -> None:
    """Networks that are sums of what they execute are predicted to rounding, left out or not."""
    counts = rng.integers(0, 4, size=(60, 5)).astype(float)
    reading = Reading(name="all", ops=tuple("abcde"), counts=counts, places=counts.astype(int), traits=counts)
    measured = 2.0 + counts @ np.array([1.0, 0.5, 0.0, 3.0, 0.25])
    found = fit_counts(reading, measured, measured)
    np.testing.assert_allclose([found.base, *found.cost.values()], [2.0, 1.0, 0.5, 0.0, 3.0, 0.25], atol=1e-9)
    np.testing.assert_allclose(counts_left_out(reading, measured, measured), measured)
