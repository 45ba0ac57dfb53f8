"""The surrogate learns a function from a few of its values and knows how far it is off."""

from __future__ import annotations

import numpy as np
import pytest

from search.surrogate import Surrogate

RNG = np.random.default_rng(7)
SHAPE = RNG.integers(0, 5, (600, 4)).astype(float)
NOISE = RNG.integers(0, 5, (600, 6)).astype(float)
VALUE = 3 * np.sin(SHAPE[:, 0]) + SHAPE[:, 1] * SHAPE[:, 2] / 4 + RNG.normal(0, 0.1, 600)


def test_it_predicts_what_it_was_not_told_and_how_sure_that_is() -> None:
    """With a group of features that tells nothing beside one that tells all."""
    surrogate = Surrogate([SHAPE, NOISE])
    known = RNG.choice(600, 150, replace=False)
    surrogate.fit(known, VALUE[known])
    mean, deviation = surrogate.predict()
    rest = np.setdiff1d(np.arange(600), known)
    off = VALUE[rest] - mean[rest]
    assert off.std() < 0.25 * VALUE[rest].std()
    assert 0.9 <= np.mean(np.abs(off) < 1.96 * deviation[rest]) <= 1
    assert deviation[rest].mean() > deviation[known].mean()


def test_telling_one_more_is_telling_all_at_once() -> None:
    """The rows kept from before change nothing."""
    known = RNG.choice(600, 40, replace=False)
    little, whole = Surrogate([SHAPE]), Surrogate([SHAPE])
    little.fit(known[:30], VALUE[known[:30]])
    for n in range(31, 41):
        little.fit(known[:n], VALUE[known[:n]], tune=False)
    whole.fit(known[:30], VALUE[known[:30]])
    whole.fit(known, VALUE[known], tune=False)
    for one, other in zip(little.predict(), whole.predict(), strict=True):
        assert one == pytest.approx(other, rel=1e-9)


def test_features_that_do_not_vary_tell_nothing() -> None:
    """And equal values give that value."""
    surrogate = Surrogate([np.ones((5, 3))])
    surrogate.fit([0, 1], [2.0, 2.0])
    mean, deviation = surrogate.predict()
    assert mean == pytest.approx([2.0] * 5)
    assert np.isfinite(deviation).all()
