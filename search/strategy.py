"""How it is searched: the contract of `strategies/`, and the steps that strategies share."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from pydantic import ConfigDict
from pymoo.operators.survival.rank_and_crowding.metrics import get_crowding_function
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from hwbench.store import Result
from models.space import Space
from search.front import Front, Promise
from search.objective import ACCURACY, static
from search.problem import Problem
from search.task import Task

Dialogue = Generator[list[Task], list[Result], Front]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much a search may ask.

    outer: generations × population of backbones; survivors: how many of a generation get an inner search;
    inner: generations × population of each inner search.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    outer_generations: int
    outer_population: int
    survivors: int
    inner_generations: int
    inner_population: int


class Strategy(Protocol):
    """One way to search. front: the best it knows so far, for whoever watches; None before anything is known."""

    front: Front | None

    def search(self, problem: Problem, budget: Budget, rng: np.random.Generator) -> Dialogue:
        """Yields lists of tasks, is sent their results in that order, returns a front; no clock, no I/O."""


def draw(
    space: Space, n: int, known: Collection[tuple[int, ...]], rng: np.random.Generator, *, anchors: bool = False
) -> np.ndarray:
    """(≤ n, G) different canonical points that are not known; fewer where the space has no more.

    anchors: begin with the smallest and the largest subnet.
    """
    found: dict[tuple[int, ...], None] = {}
    candidates = [space.smallest(), space.largest()] if anchors else []
    while True:
        for point in candidates:
            row = tuple(point.tolist())
            if row not in known and len(found) < n:
                found[row] = None
        if len(found) >= n or len(known) + len(found) >= space.size():
            return np.array(list(found), np.int16).reshape(-1, len(space.genes))
        candidates = list(space.sample(n - len(found), rng))


def begin(space: Space, first: Sequence[Sequence[int]], n: int, rng: np.random.Generator) -> np.ndarray:
    """(≤ n, G) canonical points of a first generation: `first`, then the smallest and the largest, then random ones.

    Of more than n given ones some are taken, from the first to the last.
    """
    given = np.array(first, np.int16).reshape(-1, len(space.genes))
    rows = np.unique(np.linspace(0, len(given) - 1, min(n, len(given))).round().astype(int))
    taken = space.canonical(given[rows]) if len(given) else given
    known = {tuple(row) for row in taken.tolist()}
    return np.concatenate([taken, draw(space, n - len(taken), known, rng, anchors=True)])


def static_costs(problem: Problem, genes: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """(B, M) static fitness S of whole backbones of this accuracy (B,), smaller is better; costs from the table."""
    metrics = {**problem.static(genes), ACCURACY.name: accuracy}
    return np.stack([o.as_cost(metrics[o.name]) for o in static(problem.objectives)], axis=1)


def inner_searches(
    problem: Problem, budget: Budget, genes: np.ndarray, rng: np.random.Generator
) -> Generator[list[Task], list[Result], list[Front]]:
    """Train exits on each backbone of (B, G), search each one's cascade; the inner front of each, in that order."""
    asked = problem.tasks(genes, exits=True)
    answers = yield asked
    cascades = [problem.cascade(g, answer) for g, answer in zip(genes, answers, strict=True)]
    found = yield [
        Task(
            kind="inner",
            args={
                "objectives": [o.name for o in problem.objectives],
                "limits": {c.objective.name: c.limit for c in problem.constraints},
                "generations": budget.inner_generations,
                "population": budget.inner_population,
                "seed": int(rng.integers(2**31)),
            },
            arrays=cascade.to_arrays(),
        )
        for cascade in cascades
    ]
    fronts = []
    for g, task, cascade, result in zip(genes, asked, cascades, found, strict=True):
        choice = (result.arrays["placed"], result.arrays["level"], result.arrays["point"])
        designs = [problem.design(g, task, cascade, *one) for one in zip(*choice, strict=True)]
        fronts.append(Front.of(problem.objectives, problem.reference, Promise.of(cascade, *choice, designs)))
    return fronts


def merged(fronts: Iterable[Front | None]) -> Front:
    """One front of several, at least one; None is one that holds nothing yet."""
    first, *others = [front for front in fronts if front is not None]
    return first.merge(*others)


def ranked(costs: np.ndarray) -> list[int]:
    """Rows of (n, M) costs, best first: by non-dominated front, inside a front by crowding, the emptier place first."""
    order: list[int] = []
    for front in NonDominatedSorting().do(costs) if len(costs) else []:
        crowding = get_crowding_function("cd").do(costs[front])
        order += front[np.argsort(-crowding, kind="stable")].tolist()
    return order
