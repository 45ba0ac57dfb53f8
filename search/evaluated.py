"""The backbones that a search has evaluated, and what a predictor of accuracy learns from them."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from hwbench.store import Result
from search.objective import ACCURACY, static
from search.predictor import Learned, Predictor
from search.problem import Problem
from search.strategy import static_costs
from search.task import Task


class Evaluated:
    """In the order asked. genes (n, G); accuracy (n,) on `val`; costs (n, M): static fitness S, smaller is better.

    known: the same genes, to look up.  learned: what the predictor was worth, each time something was asked after it
    had been fitted.
    """

    def __init__(self, problem: Problem) -> None:
        self.genes = np.empty((0, len(problem.space.genes)), np.int16)
        self.accuracy = np.empty(0)
        self.costs = np.empty((0, len(static(problem.objectives))))
        self.known: set[tuple[int, ...]] = set()
        self.predictor = Predictor(problem.space)
        self.learned: list[Learned] = []
        self._problem = problem

    def ask(self, fresh: np.ndarray) -> Generator[list[Task], list[Result], None]:
        """Evaluate (B, G) backbones that are new, without exits."""
        answers = yield self._problem.tasks(fresh, exits=False)
        accuracy = np.array([answer.values[ACCURACY.name] for answer in answers])
        if trained_on := self.predictor.trained_on:
            self.learned.append(Learned.of(trained_on, self.predictor.predict(fresh)[0], accuracy))
        self.known |= {tuple(row) for row in fresh.tolist()}
        self.genes = np.concatenate([self.genes, fresh])
        self.accuracy = np.concatenate([self.accuracy, accuracy])
        self.costs = np.concatenate([self.costs, static_costs(self._problem, fresh, accuracy)])

    def learn(self) -> Predictor:
        """The predictor, fitted to all so far."""
        self.predictor.fit(self.genes, self.accuracy)
        return self.predictor
