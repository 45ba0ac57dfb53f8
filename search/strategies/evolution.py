"""Evolution over a table and a predictor of accuracy, after once-for-all (H. Cai et al., ICLR 2020).

The first generation is given or drawn, and evaluated. Then, each time, a predictor learns from all evaluations so
far, networks evolve under limits on their cost that are spread from the cheapest one to the user's limit (or to the
largest), and the best of each are evaluated; two generations are once-for-all's search, more refine the predictor
where it matters. A limit binds the network as it stands, before exits; survivors get exits and an inner search as
with `nested`.
"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from threadpoolctl import threadpool_limits

from search.evaluated import Evaluated
from search.evolve import Evolution, evolve
from search.front import Front
from search.objective import static
from search.predictor import LEAST, Learned, Predictor
from search.problem import Problem
from search.strategy import Budget, Dialogue, Strategy, begin, draw, inner_searches, merged, ranked


class Options(BaseModel):
    """levels: limits that evolve side by side.  generations, population: of each, all of them predicted only.

    first: genes of backbones with which the first generation begins; of more than it holds, as many, evenly taken.
    """

    model_config = ConfigDict(extra="forbid")
    levels: int = Field(default=8, ge=1)
    generations: int = Field(default=200, ge=1)
    population: int = Field(default=100, ge=4)
    first: tuple[tuple[int, ...], ...] = ()


class Evolving:
    """The strategy; front is the archive so far, learned what the predictor was worth each time."""

    def __init__(self, options: Options) -> None:
        self.front: Front | None = None
        self.learned: list[Learned] = []
        self._options = options

    def search(self, problem: Problem, budget: Budget, rng: np.random.Generator) -> Dialogue:
        """Generations of backbones; returns the archive of all inner fronts."""
        self.front = None
        evaluated = Evaluated(problem)
        self.learned = evaluated.learned
        searched: set[int] = set()
        for _ in range(budget.outer_generations):
            if self.front is None:
                fresh = begin(problem.space, self._options.first, budget.outer_population, rng)
            else:
                fresh = self._next(problem, evaluated, budget.outer_population, rng)
            if not len(fresh):
                break
            yield from evaluated.ask(fresh)
            chosen = [i for i in ranked(evaluated.costs) if i not in searched][: budget.survivors]
            found = yield from inner_searches(problem, budget, evaluated.genes[chosen], rng)
            searched |= set(chosen)
            self.front = merged([self.front, *found])
        assert self.front is not None
        return self.front

    def _next(self, problem: Problem, evaluated: Evaluated, n: int, rng: np.random.Generator) -> np.ndarray:
        """(≤ n, G) new backbones: evolved ones where there is enough to learn from, then random ones."""
        fresh = np.empty((0, evaluated.genes.shape[1]), np.int16)
        if len(evaluated.genes) >= LEAST:
            fresh = self._evolved(problem, evaluated.learn(), n, evaluated.known, rng)
        taken = evaluated.known | {tuple(row) for row in fresh.tolist()}
        return np.concatenate([fresh, draw(problem.space, n - len(fresh), taken, rng)])

    def _evolved(
        self, problem: Problem, predictor: Predictor, n: int, known: set[tuple[int, ...]], rng: np.random.Generator
    ) -> np.ndarray:
        """(≤ n, G) networks that are new: the best of each limit, then the second best, and so on."""
        names = [o.name for o in static(problem.objectives) if o.sense == "min"]
        names += [c.objective.name for c in problem.constraints if c.objective.name not in (*names, "exits", "score")
                  and c.objective.sense == "min"]  # fmt: skip

        def cost(networks: np.ndarray) -> np.ndarray:
            told = problem.static(networks)
            return np.stack([told[name] for name in names], axis=1)

        how = Evolution(generations=self._options.generations, population=self._options.population)
        limits = self._limits(problem, names)
        # One thread, as in the predictor: a resumed search replays every bit.
        with threadpool_limits(1):
            found = evolve(problem.space, cost, predictor.score, limits, rng, how)
        picked: dict[tuple[int, ...], None] = {}
        for place in range(found.genes.shape[1]):
            for row, score in zip(found.genes[:, place].tolist(), found.score[:, place], strict=True):
                if np.isfinite(score) and tuple(row) not in known and len(picked) < n:
                    picked[tuple(row)] = None
        return np.array(list(picked), np.int16).reshape(-1, found.genes.shape[2])

    def _limits(self, problem: Problem, names: list[str]) -> np.ndarray:
        """(L, C): each level limits one cost, in turns, in equal ratios; the user's limits hold on all of them."""
        ends = np.stack([problem.space.smallest(), problem.space.largest()])
        told = problem.static(ends)
        low, high = (np.array([told[name][end] for name in names], np.float64) for end in (0, 1))
        given = {c.objective.name: c.limit for c in problem.constraints}
        most = np.array([given.get(name, top) for name, top in zip(names, high, strict=True)])
        limits = np.tile(most, (self._options.levels, 1))
        places = np.linspace(0, 1, self._options.levels + 1)[1:]
        for level, place in enumerate(places):
            c = level % len(names)
            limits[level, c] = most[c] if most[c] <= low[c] else low[c] * (most[c] / low[c]) ** place
        return limits


def open(options: Options) -> Strategy:
    """The strategy with these options."""
    return Evolving(options)
