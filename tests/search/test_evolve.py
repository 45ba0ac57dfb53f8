"""Evolution under limits: what it returns keeps them, is canonical, and is as good as enumeration finds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from models.space import load_space
from search.evolve import Evolution, evolve
from tests.search.toy import small_space

HOW = Evolution(generations=40, population=30)


def test_it_finds_the_best_of_every_limit() -> None:
    """Of 512 networks all are known; each limit has its own best, and what breaks it is marked."""
    space = small_space(8)
    every = np.array(list(itertools.product(range(8), repeat=3)), np.int16)
    worth = np.random.default_rng(5).permutation(len(every)).astype(float)

    def score(genes: np.ndarray) -> np.ndarray:
        return worth[genes.astype(int) @ [64, 8, 1]]

    def cost(genes: np.ndarray) -> np.ndarray:
        return space.params(genes)[:, None].astype(float)

    limits = np.array([[9.0], [20.0], [48.0]])
    found = evolve(space, cost, score, limits, np.random.default_rng(0), Evolution(generations=80, population=60))
    for limit, genes, told in zip(limits, found.genes, found.score, strict=True):
        kept = cost(every)[:, 0] <= limit
        assert worth[kept].max() == told[0] == score(genes[:1])[0]
        good = np.isfinite(told)
        assert (cost(genes[good]) <= limit).all()
        assert len({tuple(g) for g in genes[good].tolist()}) == good.sum()
        assert (np.diff(told[good]) < 0).all()


def test_networks_are_canonical_and_both_costs_are_kept() -> None:
    """Of a space with inert genes."""
    space = load_space("ofa-mbv3")

    def cost(genes: np.ndarray) -> np.ndarray:
        return np.stack([space.macs(genes), space.params(genes)], axis=1).astype(float)

    some = cost(space.sample(200, np.random.default_rng(1)))
    limits = np.quantile(some, 0.3, axis=0)[None]
    found = evolve(space, cost, lambda g: space.macs(g) / 1e6, limits, np.random.default_rng(0), HOW)
    good = found.genes[np.isfinite(found.score)]
    assert len(good) > 10
    np.testing.assert_array_equal(space.canonical(good), good)
    assert (cost(good) <= limits).all()


def test_an_unkeepable_limit_leaves_nothing_good() -> None:
    """All are marked, none is hidden."""
    space = small_space(4)
    found = evolve(
        space, lambda g: space.params(g)[:, None].astype(float), lambda g: g.sum(axis=1).astype(float),
        np.array([[0.5]]), np.random.default_rng(0), HOW,
    )  # fmt: skip
    assert not np.isfinite(found.score).any()


@pytest.mark.parametrize("seed", [1, 2])
def test_the_seed_decides_all(seed: int) -> None:
    """Whatever numpy's global generator does."""
    space = load_space("digits")

    def run() -> np.ndarray:
        return evolve(
            space, lambda g: space.macs(g)[:, None].astype(float), lambda g: space.params(g) / 1e6,
            np.array([[2e6]]), np.random.default_rng(seed), HOW,
        ).genes  # fmt: skip

    first = run()
    np.random.seed(seed)
    np.testing.assert_array_equal(first, run())
