"""How it is searched: the contract of `strategies/`."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hwbench.store import Result
from search.front import Front
from search.problem import Problem
from search.task import Task

Dialogue = Generator[list[Task], list[Result], Front]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much a search may ask.

    outer: generations × population of backbones; survivors: how many of a generation get an inner search;
    inner: generations × population of each inner search.
    """

    outer_generations: int
    outer_population: int
    survivors: int
    inner_generations: int
    inner_population: int


class Strategy(Protocol):
    """One way to search."""

    def search(self, problem: Problem, budget: Budget, rng: np.random.Generator) -> Dialogue:
        """Yields lists of tasks, is sent their results in that order, returns a front; no clock, no I/O."""
