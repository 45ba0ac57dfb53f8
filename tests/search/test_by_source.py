"""Renderings of one image count together."""

from __future__ import annotations

import numpy as np
import pytest

from search import by_source


def test_counts_are_of_each_source() -> None:
    """Three of image 7, one of image 2, in the order of the images."""
    right = np.array([True, False, True, True])
    assert [[1, 1], [2, 3]] == by_source.counts(right, np.array([7, 7, 2, 7])).tolist()
    assert [[1, 1], [0, 1], [1, 1], [1, 1]] == by_source.counts(right, None).tolist()
    assert 0.75 == by_source.accuracy(by_source.counts(right, None))


def test_the_interval_is_that_of_a_binomial_and_wider_where_samples_stick_together() -> None:
    """400 samples of accuracy 0.8: ± 0.039; in groups of ten of one fate ± 0.124."""
    fate = np.arange(400) % 5 > 0
    alone = by_source.resampled(by_source.counts(fate, None), np.random.default_rng(1))
    together = by_source.resampled(by_source.counts(np.sort(fate), np.arange(400) // 10), np.random.default_rng(1))
    assert 0.02 == pytest.approx(alone.std(), rel=0.1)
    assert 0.063 == pytest.approx(together.std(), rel=0.1)


def test_equal_generators_draw_the_same_images() -> None:
    """So that two networks are compared on the same draws."""
    a, b = (by_source.counts(np.arange(50) < n, None) for n in (30, 40))
    gap = by_source.resampled(b, np.random.default_rng(3)) - by_source.resampled(a, np.random.default_rng(3))
    assert (gap >= 0).all()
    assert 0.2 == pytest.approx(gap.mean(), abs=0.01)
