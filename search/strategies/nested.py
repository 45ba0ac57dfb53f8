"""Two nested NSGA-II searches, after HADAS (paper 001): backbones outside, exits × thresholds × clocks inside.

Each generation every new backbone answers with its final classifier. The best by static fitness S (accuracy and the
table's costs) get exits and an inner search, and the inner fronts join the archive. Then backbones are ranked again, by
S and by D, what each adds to the archive, and mating follows this second ranking. Unlike in HADAS' published code,
inner results do reach the second selection, fronts are kept, and no candidate is dropped to fit the workers.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from pymoo.core.population import Population
from pymoo.core.problem import Problem as Bounds
from pymoo.operators.crossover.ux import UX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair

from models.space import Space
from search.evaluated import Evaluated
from search.front import Front
from search.predictor import LEAST, Learned, Predictor
from search.problem import Problem
from search.strategy import Budget, Dialogue, Strategy, begin, draw, inner_searches, merged, ranked, static_costs

# Mating inside a small space yields known children again and again; then random points fill the generation.
_TRIES = 20
# Genes have few values, so a mutation that moves most of them by less than one value would change nothing.
_ETA = 3.0


class Options(BaseModel):
    """crossover: share of matings that mix genes.  mutations: genes that mutate in a child, on average.

    first: genes of backbones with which the first generation begins; of more than it holds, as many, evenly taken.
    screen: children bred for each one that is evaluated; a predictor of accuracy, trained on the evaluations so far,
    says which (as LINAS does); 1 = all are evaluated.
    """

    model_config = ConfigDict(extra="forbid")
    crossover: float = Field(default=0.9, ge=0, le=1)
    mutations: float = Field(default=1.0, gt=0)
    first: tuple[tuple[int, ...], ...] = ()
    screen: int = Field(default=1, ge=1)


class Nested:
    """The outer NSGA-II; front is the archive so far, learned what the predictor was worth each time."""

    def __init__(self, options: Options) -> None:
        self.front: Front | None = None
        self.learned: list[Learned] = []
        self._options = options

    def search(self, problem: Problem, budget: Budget, rng: np.random.Generator) -> Dialogue:
        """Generations of backbones; returns the archive of all inner fronts."""
        self.front = None
        evaluated = Evaluated(problem)
        self.learned = evaluated.learned
        fronts: dict[int, Front] = {}
        for _ in range(budget.outer_generations):
            if self.front is None:
                fresh = begin(problem.space, self._options.first, budget.outer_population, rng)
            else:
                order = second_ranking(evaluated.costs, fronts, self.front)[: budget.outer_population]
                fresh = self._next(problem, evaluated, evaluated.genes[order], budget.outer_population, rng)
            if not len(fresh):
                break
            yield from evaluated.ask(fresh)
            chosen = [i for i in ranked(evaluated.costs) if i not in fronts][: budget.survivors]
            found = yield from inner_searches(problem, budget, evaluated.genes[chosen], rng)
            fronts |= dict(zip(chosen, found, strict=True))
            self.front = merged(fronts.values())
        assert self.front is not None
        return self.front

    def _next(
        self, problem: Problem, evaluated: Evaluated, parents: np.ndarray, n: int, rng: np.random.Generator
    ) -> np.ndarray:
        """(≤ n, G) new children of (P, G) parents, best first; where the options say so, of more the promising ones."""
        if self._options.screen == 1 or len(evaluated.genes) < LEAST:
            return self._children(problem.space, parents, n, evaluated.known, rng)
        fresh = self._children(problem.space, parents, n * self._options.screen, evaluated.known, rng)
        return fresh[promising(problem, evaluated.learn(), fresh)[:n]]

    def _children(
        self, space: Space, parents: np.ndarray, n: int, known: set[tuple[int, ...]], rng: np.random.Generator
    ) -> np.ndarray:
        """Up to n canonical points that are new; parents (P, G), best first."""
        bounds = Bounds(n_var=len(space.genes), xl=np.zeros(len(space.genes)), xu=np.array(space.sizes) - 1)
        crossover = UX(prob=self._options.crossover)
        share = min(1.0, self._options.mutations / len(space.genes))
        mutation = PM(prob=1.0, prob_var=share, eta=_ETA, repair=RoundingRepair())
        population = Population.new("X", parents)
        children: dict[tuple[int, ...], None] = {}
        for _ in range(_TRIES):
            missing = n - len(children)
            if missing <= 0:
                break
            # Binary tournaments: of two drawn parents the better ranked one mates.
            pairs = rng.integers(len(parents), size=((missing + 1) // 2, 2, 2)).min(axis=-1)
            offspring = mutation(
                bounds, crossover(bounds, population, parents=pairs, random_state=rng), random_state=rng
            )
            for row in space.canonical(offspring.get("X").astype(np.int16)).tolist():
                if tuple(row) not in known and len(children) < n:
                    children[tuple(row)] = None
        mated = np.array(list(children), np.int16).reshape(-1, len(space.genes))
        return np.concatenate([mated, draw(space, n - len(mated), known | children.keys(), rng)])


def open(options: Options) -> Strategy:
    """The strategy with these options."""
    return Nested(options)


def promising(problem: Problem, predictor: Predictor, genes: np.ndarray) -> list[int]:
    """Rows of (n, G) backbones, best first: by what the predictor hopes of them and what the table says they cost.

    Hope is the mean and one standard deviation: of two alike the less known one is worth more.
    """
    if not len(genes):
        return []
    mean, deviation = predictor.predict(genes)
    return ranked(static_costs(problem, genes, mean + deviation))


def second_ranking(costs: np.ndarray, fronts: Mapping[int, Front], archive: Front) -> list[int]:
    """All backbones, best first, by static costs S and dynamic value D; fronts: of those with an inner search, by row.

    D is the hypervolume that the archive would lose without the backbone's inner front. Where no inner search was run
    D is unknown, so those stand behind, ranked by S alone.
    """
    searched = sorted(fronts)
    kept = {id(promise) for promise in archive.promises}
    value = np.zeros(len(searched))
    for row, i in enumerate(searched):
        # Without a design in the archive there is nothing to lose.
        if any(id(promise) in kept for promise in fronts[i].promises):
            others = [fronts[j] for j in searched if j != i]
            value[row] = archive.hypervolume() - (merged(others).hypervolume() if others else 0.0)
    rest = [i for i in range(len(costs)) if i not in fronts]
    first = ranked(np.column_stack([costs[searched], -value]))
    return [searched[i] for i in first] + [rest[i] for i in ranked(costs[rest])]
