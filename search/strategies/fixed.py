"""Given backbones, each with exits and an inner search: what a search over backbones has to beat at the same budget.

HADAS (paper 001, section V-B) compares this way: the baselines get the inner budget that the found backbones get.
"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from search.front import Front
from search.problem import Problem
from search.strategy import Budget, Dialogue, Strategy, inner_searches, merged


class Options(BaseModel):
    """backbones: genes of each, as evaluations.csv says them."""

    model_config = ConfigDict(extra="forbid")
    backbones: tuple[tuple[int, ...], ...] = Field(min_length=1)


class Fixed:
    """No choice of backbones; front is None until their inner searches are through."""

    def __init__(self, options: Options) -> None:
        self.front: Front | None = None
        self._options = options

    def search(self, problem: Problem, budget: Budget, rng: np.random.Generator) -> Dialogue:
        """One inner search a backbone, at the budget's inner size; of as many backbones as its outer size says."""
        self.front = None
        genes = problem.space.canonical(np.array(self._options.backbones, np.int16))
        yield problem.tasks(genes, exits=False)
        found = yield from inner_searches(problem, budget, genes, rng)
        self.front = merged(found)
        return self.front


def open(options: Options) -> Strategy:
    """The strategy with these backbones."""
    return Fixed(options)
