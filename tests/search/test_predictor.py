"""A predictor learns ranks, says how sure it is, and repeats itself."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr
from threadpoolctl import threadpool_limits

from models.space import load_space
from search.predictor import Learned, Predictor

SPACE = load_space("digits")


def accuracy(genes: np.ndarray) -> np.ndarray:
    """Grows with depth and width, less and less; a few train badly."""
    share = genes / (np.array(SPACE.sizes) - 1)
    good = 1 - np.exp(-share @ np.linspace(0.2, 0.6, share.shape[1]))
    return np.where(genes[:, 0] + genes[:, 4] == 0, good - 50, good)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """Trained on 120 backbones."""
    genes = SPACE.sample(120, np.random.default_rng(0))
    found = Predictor(SPACE)
    found.fit(genes, accuracy(genes))
    return found


def test_it_ranks_what_it_never_saw(predictor: Predictor) -> None:
    """Although a few failures lie far below everything else."""
    genes = SPACE.sample(200, np.random.default_rng(1))
    mean, deviation = predictor.predict(genes)
    assert spearmanr(mean, accuracy(genes)).statistic > 0.9
    np.testing.assert_allclose(mean, predictor.score(genes))
    assert (deviation > 0).all()


def test_only_the_order_counts(predictor: Predictor) -> None:
    """Any growing function of the accuracies teaches the same."""
    genes = SPACE.sample(120, np.random.default_rng(0))
    other = Predictor(SPACE)
    other.fit(genes, accuracy(genes) ** 3 * 7)
    some = SPACE.sample(20, np.random.default_rng(2))
    np.testing.assert_array_equal(predictor.score(some), other.score(some))


def test_it_is_surer_where_it_has_learned(predictor: Predictor) -> None:
    """Of the backbones that it knows than of others."""
    known = predictor.predict(SPACE.sample(120, np.random.default_rng(0)))[1]
    others = predictor.predict(SPACE.sample(120, np.random.default_rng(3)))[1]
    assert known.mean() < others.mean()


def test_threads_change_no_bit() -> None:
    """What a search replays must not depend on how many there are."""
    genes, some = (SPACE.sample(60, np.random.default_rng(seed)) for seed in (0, 1))
    told = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            one = Predictor(SPACE)
            one.fit(genes, accuracy(genes))
            told.append(np.stack(one.predict(some)))
    np.testing.assert_array_equal(*told)


def test_a_rank_correlation_needs_something_to_rank() -> None:
    """Unknown is None, not 0."""
    ranks = np.array([1.0, 2.0, 3.0])
    assert 1.0 == pytest.approx(Learned.of(9, ranks, ranks**2).rank_correlation)
    assert -1.0 == pytest.approx(Learned.of(9, ranks, -ranks).rank_correlation)
    for predicted, measured in ((ranks[:2], ranks[:2]), (ranks * 0, ranks), (ranks, ranks * 0)):
        assert Learned.of(9, predicted, measured).rank_correlation is None
