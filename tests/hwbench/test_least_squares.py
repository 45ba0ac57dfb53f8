"""Many small least squares at once."""

from __future__ import annotations

import numpy as np

from hwbench.least_squares import minimise


def test_every_problem_finds_its_own_parameters(rng: np.random.Generator) -> None:
    """A hundred exponentials with other rates and heights each, from one start."""
    at = np.linspace(0, 2, 9)
    truth = np.stack([rng.uniform(0.5, 3, 100), rng.uniform(0.2, 2, 100)], axis=1)
    seen = truth[:, :1] * np.exp(-truth[:, 1:] * at)

    def residuals(theta: np.ndarray, which: np.ndarray) -> np.ndarray:
        return np.asarray(theta[:, :1] * np.exp(-theta[:, 1:] * at) - seen[which])

    found, cost = minimise(residuals, np.ones((100, 2)), np.full(2, -10.0), np.full(2, 10.0))
    np.testing.assert_allclose(found, truth, rtol=1e-5)
    assert cost.max() < 1e-10


def test_a_bound_holds_and_the_rest_is_the_best_beside_it() -> None:
    """The nearest line with a slope of at most 1 to one of slope 3 has slope 1, and meets it in the middle."""
    at = np.array([0.0, 1.0, 2.0])

    def residuals(theta: np.ndarray, _: np.ndarray) -> np.ndarray:
        return np.asarray(theta[:, :1] + theta[:, 1:] * at - 3 * at)

    found, _ = minimise(residuals, np.array([[5.0, 0.0]]), np.array([-9.0, -9.0]), np.array([9.0, 1.0]))
    np.testing.assert_allclose(found, [[2.0, 1.0]], atol=1e-6)


def test_a_parameter_that_changes_nothing_does_no_harm() -> None:
    """Its column of derivatives is 0, and the others are still found."""

    def residuals(theta: np.ndarray, _: np.ndarray) -> np.ndarray:
        return np.stack([theta[:, 0] - 2.0, 0 * theta[:, 1]], axis=1)

    found, _ = minimise(residuals, np.array([[0.0, 0.5]]), np.full(2, -9.0), np.full(2, 9.0))
    np.testing.assert_allclose(found, [[2.0, 0.5]], atol=1e-6)
