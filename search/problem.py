"""What is searched: the contract of `problems/`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from hwbench.store import Result
from models.space import Space
from search.cascade import Cascade
from search.design import Design
from search.objective import Constraint, Objective
from search.task import Task


class Problem(Protocol):
    """A space, what is wanted of its points, and how a point becomes a Cascade. B = batch of candidates, G = genes.

    reference: one value per objective, in its unit, worse than any design that should count: the hypervolume's corner.
    default_point: the operating point at which whole backbones are compared, an index into a Cascade's.
    """

    space: Space
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    reference: tuple[float, ...]
    default_point: int

    def static(self, genes: np.ndarray) -> Mapping[str, np.ndarray]:
        """Table and size metrics of (B, G) whole backbones at the default setting, each (B,), vectorised, no task."""

    def tasks(self, genes: np.ndarray, *, exits: bool) -> list[Task]:
        """One `answers` task per candidate: per-sample answers of the final classifier, and of every exit if asked."""

    def cascade(self, genes: np.ndarray, result: Result) -> Cascade:
        """The inner level: one candidate (G,) and what its `answers` task returned."""

    def design(
        self,
        genes: np.ndarray,
        answers: Task,
        cascade: Cascade,
        placed: np.ndarray,
        level: np.ndarray,
        point: np.ndarray,
    ) -> Design:
        """What a choice on the cascade means: placed (S,) bool, level (S,) uint8, point (S,) or (1,)."""
