"""Backbones at random, with the tasks and the inner searches of `nested`: what a guided search has to beat."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict

from search.front import Front
from search.problem import Problem
from search.strategy import Budget, Dialogue, Strategy, draw, inner_searches, merged


class Options(BaseModel):
    """There are none."""

    model_config = ConfigDict(extra="forbid")


class Random:
    """Uniform over the canonical points of the space; front is the archive so far."""

    def __init__(self) -> None:
        self.front: Front | None = None

    def search(self, problem: Problem, budget: Budget, rng: np.random.Generator) -> Dialogue:
        """As many new backbones a generation as `nested`; as many of them, the first, get exits and an inner search."""
        self.front = None
        known: set[tuple[int, ...]] = set()
        for _ in range(budget.outer_generations):
            fresh = draw(problem.space, budget.outer_population, known, rng, anchors=not known)
            if not len(fresh):
                break
            known |= {tuple(row) for row in fresh.tolist()}
            # Their answers decide nothing here, but the two strategies spend the same and leave the same record.
            yield problem.tasks(fresh, exits=False)
            found = yield from inner_searches(problem, budget, fresh[: budget.survivors], rng)
            self.front = merged([self.front, *found])
        assert self.front is not None
        return self.front


def open(options: Options) -> Strategy:
    """The strategy."""
    return Random()
