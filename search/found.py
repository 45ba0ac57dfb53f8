"""A finished run, read whole: what a report is written from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hwbench.errors import ConfigError
from hwbench.table import LatencyTable
from search import verify
from search.cascade import Cascade
from search.design import Design
from search.front import NEAR, read_csv
from search.launch import open_problem
from search.objective import Objective
from search.problem import Problem
from search.run import Run, read_designs
from search.verify import Verified


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All that a report is written from. promises: the rows of front.csv by design key, in its order."""

    run: Run
    problem: Problem
    table: LatencyTable
    designs: tuple[Design, ...]
    promises: Mapping[str, Mapping[str, str]]
    verified: tuple[Verified, ...]

    @classmethod
    def of(cls, run: Run) -> Found:
        """Read a finished run; ConfigError when its search is not through."""
        return cls(
            run=run,
            designs=read_designs(run.folder),
            promises=read_csv(run.folder / "front.csv"),
            problem=open_problem(run.config),
            table=LatencyTable.read(run.config.table.path),
            verified=tuple(verify.last(run)),
        )

    @property
    def costs(self) -> tuple[Objective, ...]:
        """The objectives beside accuracy."""
        return tuple(o for o in self.problem.objectives if o.name != "accuracy")

    def metric(self, name: str) -> np.ndarray:
        """(n,) of the front's designs in its order, NaN where unknown."""
        if name == "exits":
            return np.array([len(d.stages) - 1.0 for d in self.designs])
        cells = [self.promises[d.key].get(name, "") for d in self.designs]
        return np.array([float(c) if c else np.nan for c in cells])

    def chosen(self) -> Design:
        """The cheapest design near the surest one; with exits where the front has such."""
        accuracy = self.metric("accuracy")
        near = [d for d, a in zip(self.designs, accuracy, strict=True) if a >= accuracy.max() - NEAR]
        return next((d for d in near if len(d.stages) > 1), near[0])

    def choice(self, design: Design) -> tuple[Cascade, np.ndarray, np.ndarray, np.ndarray]:
        """A design as the arguments of its cascade: (cascade, placed (S,), level (S,), point (1,))."""
        result = self.run.store.get(design.answers or "")
        if result is None:
            raise ConfigError(
                f"{self.run.store.path}: the answers behind design {design.key} are gone; run: search resume"
            )
        genes = np.array(design.stages[0].genes, dtype=np.int16)
        cascade = self.problem.cascade(genes, result)
        return cascade, *choice(cascade, result.arrays["positions"].tolist(), design)


def choice(cascade: Cascade, answered: Sequence[int], design: Design) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A design as a choice on its cascade: placed (S,), level (S,), point (1,); answered: positions that answered."""
    # Where exits may not stand early, the first of those that answered are not in the cascade.
    positions = list(answered)[-cascade.stages :]
    placed, level = np.zeros(len(positions), dtype=bool), np.zeros(len(positions), dtype=np.uint8)
    for stage in design.stages:
        at = positions.index(stage.position)
        placed[at] = True
        if stage.threshold is not None:
            level[at] = int(np.abs(cascade.levels[:, at] - np.float32(stage.threshold)).argmin())
    return placed, level, np.array([cascade.settings[-1].index(design.stages[-1].setting)])
