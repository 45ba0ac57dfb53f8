"""Evolution under limits, a whole generation at a time: what once-for-all does network by network.

Parents are the best quarter; half of the children are mutated parents, half are crossed from two, and children that
break a limit are drawn again. Costs come from a table, scores from a predictor, so a generation is a few dozen numpy
calls. Several limits evolve side by side. Shapes: L limits, n networks each, G genes, C costs.
Source: H. Cai et al., "Once-for-all", ICLR 2020, section 3.4 and its appendix; E. Real et al., AAAI 2019.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.space import Space
from search.improvement import Floats

Genomes = npt.NDArray[np.int16]
# So many children are drawn for each that is kept: costs are cheap, and the first that keep the limit stay.
_DRAWN = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Evolution:
    """How long and how: generations × population, the share of parents, and how likely a mutation changes a gene."""

    generations: int = 500
    population: int = 100
    parents: float = 0.25
    mutation: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evolved:
    """The best networks of each limit, best first. genes (L, n, G) canonical; score (L, n), −inf where one is there
    twice or breaks its limit."""

    genes: Genomes
    score: Floats


def evolve(
    space: Space,
    cost: Callable[[Genomes], Floats],
    score: Callable[[Genomes], Floats],
    limits: Floats,
    rng: np.random.Generator,
    how: Evolution,
) -> Evolved:
    """Maximise `score` (n, G) → (n,) where `cost` (n, G) → (n, C) keeps each of `limits` (L, C), all positive."""
    count, size = len(limits), how.population
    sizes = np.array(space.sizes)
    parents = max(2, round(how.parents * size))

    def chosen(drawn: Genomes) -> tuple[Genomes, Floats, Floats]:
        """The first children (L, K, G) → (L, n, G) that keep their limit, the nearest ones where too few do."""
        canonical = space.canonical(drawn.reshape(-1, len(sizes)))
        costs = cost(canonical).reshape(count, -1, limits.shape[1])
        broken = np.maximum(costs / limits[:, None] - 1, 0).sum(axis=2)
        order = np.argsort(broken, axis=1, kind="stable")[:, :size]
        kept = np.take_along_axis(canonical.reshape(count, -1, len(sizes)), order[:, :, None], axis=1)
        return kept, score(kept.reshape(-1, len(sizes))).reshape(count, size), np.take_along_axis(broken, order, axis=1)

    first = space.sample(_DRAWN * size * count, rng).reshape(count, -1, len(sizes))
    best, value, broken = _best(*chosen(first), size)
    rows = np.arange(count)[:, None]
    for _ in range(how.generations - 1):
        half = _DRAWN * size // 2
        pairs = rng.integers(parents, size=(3, count, half))
        mutated, one, other = (best[rows, pair] for pair in pairs)
        chance = rng.random((3, count, half, len(sizes)))
        mutated = np.where(chance[0] < how.mutation, (chance[1] * sizes).astype(np.int16), mutated)
        crossed = np.where(chance[2] < 0.5, one, other)
        # In turns, so that of those that keep the limit both kinds stay.
        drawn = np.stack([mutated, crossed], axis=2).reshape(count, 2 * half, len(sizes))
        fresh, told, missed = chosen(drawn)
        best, value, broken = _best(
            np.concatenate([best, fresh], axis=1),
            np.concatenate([value, told], axis=1),
            np.concatenate([broken, missed], axis=1),
            size,
        )
    return Evolved(genes=best, score=np.where(broken > 0, -np.inf, value))


def _best(genes: Genomes, value: Floats, broken: Floats, size: int) -> tuple[Genomes, Floats, Floats]:
    """The best of each limit: kept before broken, the higher score, the less broken; each network once."""
    order = np.lexsort((-value, broken), axis=1)
    value, broken = np.take_along_axis(value, order, axis=1), np.take_along_axis(broken, order, axis=1)
    # Equal networks score alike and so stand side by side; those that differ and score alike to the last bit are rare.
    twice = np.zeros(value.shape, bool)
    twice[:, 1:] = (value[:, 1:] == value[:, :-1]) & (broken[:, 1:] == broken[:, :-1])
    last = np.argsort(twice, axis=1, kind="stable")[:, :size]
    twice = np.take_along_axis(twice, last, axis=1)
    order = np.take_along_axis(order, last, axis=1)
    return (
        np.take_along_axis(genes, order[:, :, None], axis=1),
        np.where(twice, -np.inf, np.take_along_axis(value, last, axis=1)),
        np.take_along_axis(broken, last, axis=1),
    )
