"""The inner search on one backbone: which exits stand, when a sample leaves, and the operating point.

NSGA-II, and at the end the exits go that only cost.

What is asked stands in `Args`; the arrays it reads are a cascade's (`Cascade.to_arrays`).  Arrays of the result, n
choices that no other evaluated choice beats and that keep every constraint, from the cheapest to the most costly:

- placed (n, S) bool, level (n, S) uint8, point (n, 1) int16: the arguments of `Cascade.evaluate`,
- values (n, M): the objectives in their own unit and sense, in the order asked,
- coverage (n, S), accuracy (n,), oracle_accuracy (n,), and `metric.NAME` (n,) for each metric of the cascade.

Values: evaluations; least_violation: the smallest sum of violations met, above 0 only where n = 0; and missed: by each
limit's metric, and by each two such as `accuracy latency_ms`, the smallest violation of these alone.

Accuracy is the deployable one, which a threshold on a score, or patience, reaches; the oracle's stands beside it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.mutation import Mutation
from pymoo.core.problem import Problem
from pymoo.core.repair import Repair
from pymoo.operators.crossover.ux import UX
from pymoo.optimize import minimize

from hwbench.errors import ConfigError
from hwbench.setting import Setting
from hwbench.store import Result
from search.cascade import Cascade
from search.front import nondominated
from search.objective import Constraint, Objective, by_metric
from search.task import Task

version = 2


class Args(BaseModel):
    """What is asked: metrics by name (`accuracy`, `latency_ms`), limits by metric, generations × population."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    objectives: tuple[str, ...] = Field(min_length=2)
    limits: dict[str, float] = {}
    generations: int = Field(ge=1)
    population: int = Field(ge=2)
    seed: int = 0


def run(task: Task, rng: np.random.Generator) -> Result:
    """Search; raises ConfigError where an objective or a constraint asks for what the cascade does not know."""
    args = Args.model_validate(dict(task.args))
    cascade = Cascade.from_arrays(task.arrays)
    choices = (Patient if cascade.patience else Choices)(
        cascade,
        tuple(by_metric(name) for name in args.objectives),
        tuple(Constraint(objective=by_metric(name), limit=limit) for name, limit in args.limits.items()),
    )
    algorithm = NSGA2(
        pop_size=args.population,
        sampling=choices.first(args.population, rng),
        crossover=UX(prob=0.9),
        mutation=Change(),
        repair=Canonical(),
    )
    minimize(choices, algorithm, ("n_gen", args.generations), seed=int(rng.integers(2**31)), copy_algorithm=False)
    choices.prune()
    genes, values = choices.best()
    placed, level, point = choices.decode(genes)
    outcome = cascade.evaluate(placed, level, point)
    return Result(
        values={
            "evaluations": choices.evaluations,
            "least_violation": choices.least_violation,
            "missed": choices.missed(),
        },
        arrays={
            "placed": placed,
            "level": level,
            "point": point.astype(np.int16),
            "values": values,
            "coverage": outcome.coverage,
            "accuracy": outcome.accuracy,
            "oracle_accuracy": outcome.oracle_accuracy,
            **{f"metric.{name}": metric for name, metric in outcome.metrics.items()},
        },
    )


class Choices(Problem):  # type: ignore[misc]  # pymoo has no types
    """Choices on a cascade as integers: one gene an exit, and one for each clock of the operating point.

    An exit's gene is its level, or L where the exit is not placed: level by level fewer inputs leave, so "nobody" is
    the next neighbour of the surest level, and no gene is inert. The operating point holds for all stages.
    """

    def __init__(
        self, cascade: Cascade, objectives: tuple[Objective, ...], constraints: tuple[Constraint, ...]
    ) -> None:
        self.cascade = cascade
        self.objectives = objectives
        self.constraints = constraints
        self.evaluations = 0
        self.least_violation = np.inf
        self._missed = np.full((len(constraints), len(constraints)), np.inf)
        self._exits = cascade.stages - 1
        self._axes = clock_axes(cascade.settings[0])
        upper = [*self._exit_genes(), *(size - 1 for size in self._axes)]
        self._genes = np.empty((0, len(upper)), dtype=np.int64)
        self._costs = np.empty((0, len(objectives)))
        known = {"accuracy", *cascade.step, *cascade.resident, *(["score"] if cascade.rule else [])}
        for asked in (*objectives, *(c.objective for c in constraints)):
            if asked.name not in known:
                raise ConfigError(f"{asked.name} is asked, but only {', '.join(sorted(known))} are known here")
        super().__init__(
            n_var=len(upper), n_obj=len(objectives), n_ieq_constr=len(constraints), xl=0, xu=np.array(upper), vtype=int
        )

    def _exit_genes(self) -> list[int]:
        """The largest value of each gene before those of the clocks."""
        return [self.cascade.level_count] * self._exits

    def canonical(self, genes: np.ndarray) -> np.ndarray:
        """(B, n_var), one form for all genes that mean the same."""
        return genes

    def first(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """The first population, (count, n_var): no exit at all (always feasible to build), each single exit, and random
        ones of every density, from nearly none to nearly all exits placed."""
        exits, absent = self._exits, self._absent
        genes = rng.integers(0, self.xu + 1, (count, self.n_var))
        kept = rng.random((count, exits)) < rng.random((count, 1))
        level = rng.integers(0, absent, (count, exits))
        genes[:, :exits] = np.where(kept, level, absent)
        single = genes[: exits + 1, :exits]
        single[:] = absent
        rows = np.arange(1, len(single))
        single[rows, rows - 1] = level[rows, rows - 1]
        return genes

    def decode(self, genes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """placed (B, S) bool, level (B, S) uint8, point (B, 1) of (B, n_var) genes; levels read 0 where not placed."""
        placed = np.ones((len(genes), self.cascade.stages), dtype=bool)
        exits, clocks = genes[:, : self._exits], genes[:, self._exits :]
        placed[:, :-1] = exits < self.cascade.level_count
        level = np.zeros(placed.shape, dtype=np.uint8)
        level[:, :-1] = np.where(placed[:, :-1], exits, 0)
        return placed, level, np.ravel_multi_index(tuple(clocks.T), self._axes)[:, None]

    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """Genes (n, n_var) and objective values (n, M) of the archive, from the cheapest to the most costly."""
        order = np.lexsort((self._costs[:, 0], *self._costs[:, 1:].T[::-1]))
        costs = self._costs[order]
        values = np.stack([o.as_cost(costs[:, m]) for m, o in enumerate(self.objectives)], axis=1)
        return self._genes[order], values

    def missed(self) -> dict[str, float]:
        """The smallest violation met of each limit alone, and of each two of them together."""
        names = [c.objective.name for c in self.constraints]
        alone = {name: float(self._missed[c, c]) / 2 for c, name in enumerate(names)}
        pairs = itertools.combinations(range(len(names)), 2)
        return alone | {" ".join(sorted((names[c], names[d]))): float(self._missed[c, d]) for c, d in pairs}

    def prune(self) -> None:
        """Take away the exits of the archive that change nothing: each costs its head, and chance alone drops it."""
        placed, level, point = self.decode(self._genes)
        idle = placed[:, :-1] & self._idle(self.cascade.evaluate(placed, level, point).coverage[:, :-1])
        hit = idle.any(axis=1)
        leaner = self._genes[hit]
        leaner[:, : self._exits][idle[hit]] = self._absent
        if len(leaner):
            self._evaluate(self.canonical(leaner), {})

    @property
    def _absent(self) -> int:
        """The value of an exit's gene where it is not placed."""
        return self.cascade.level_count

    def _idle(self, coverage: np.ndarray) -> np.ndarray:
        """(B, exits) those without which all is decided alike; coverage (B, exits)."""
        return np.asarray(coverage == 0)

    def _evaluate(self, x: np.ndarray, out: dict[str, np.ndarray], *args: Any, **kwargs: Any) -> None:
        genes = x.astype(np.int64)
        outcome = self.cascade.evaluate(*self.decode(genes))
        metrics = {"accuracy": outcome.accuracy, **outcome.metrics}
        costs = np.stack([o.as_cost(metrics[o.name]) for o in self.objectives], axis=1)
        if np.isnan(costs).any():
            raise ConfigError("an objective is unknown for some choices; its rows in the table hold no number")
        violation = np.zeros((len(genes), len(self.constraints)))
        for c, constraint in enumerate(self.constraints):
            violation[:, c] = constraint.violation(metrics[constraint.objective.name])
        total = violation.sum(axis=1)
        self.evaluations += len(genes)
        self.least_violation = min(self.least_violation, float(total.min()))
        self._missed = np.minimum(self._missed, (violation[:, :, None] + violation[:, None]).min(axis=0))
        self._archive(genes[total == 0], costs[total == 0])
        out["F"], out["G"] = costs, violation

    def _archive(self, genes: np.ndarray, costs: np.ndarray) -> None:
        """Keep what none beats of all that was ever evaluated: a population alone would forget."""
        genes, costs = np.concatenate([self._genes, genes]), np.concatenate([self._costs, costs])
        best = nondominated(costs)
        self._genes, self._costs = genes[best], costs[best]


class Patient(Choices):
    """Choices where patience decides: a gene an exit, 1 = placed; one for the patience, the index of its level; clocks.

    With more patience than exits nobody would ever leave, so such genes mean, and become, as many as there are exits.
    """

    def _exit_genes(self) -> list[int]:
        return [1] * self._exits + [self.cascade.level_count - 1]

    @property
    def _absent(self) -> int:
        return 0

    def canonical(self, genes: np.ndarray) -> np.ndarray:
        """No more patience than exits, and the least where there are none."""
        genes = genes.astype(np.int64)
        exits, level = genes[:, : self._exits], genes[:, self._exits]
        most = np.searchsorted(self.cascade.levels[:, 0], exits.sum(axis=1), side="right") - 1
        genes[:, self._exits] = np.clip(level, 0, np.maximum(most, 0))
        return genes

    def first(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """The first population, (count, n_var): no exit, each single exit, and random ones of every density."""
        exits = self._exits
        genes = rng.integers(0, self.xu + 1, (count, self.n_var))
        genes[:, :exits] = rng.random((count, exits)) < rng.random((count, 1))
        genes[: exits + 1, :exits] = np.eye(exits + 1, exits, k=-1)[:count]
        return self.canonical(genes)

    def decode(self, genes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `Choices.decode`; the one level stands at every exit that is placed."""
        genes = self.canonical(genes)
        placed = np.ones((len(genes), self.cascade.stages), dtype=bool)
        placed[:, :-1] = genes[:, : self._exits] == 1
        level = np.zeros(placed.shape, dtype=np.uint8)
        level[:, :-1] = np.where(placed[:, :-1], genes[:, self._exits, None], 0)
        clocks = genes[:, self._exits + 1 :]
        return placed, level, np.ravel_multi_index(tuple(clocks.T), self._axes)[:, None]

    def _idle(self, coverage: np.ndarray) -> np.ndarray:
        # Where nobody leaves an exit may still end or lengthen a run; only behind the last that is left it does not.
        left_later = np.maximum.accumulate(coverage[:, ::-1] > 0, axis=1)[:, ::-1]
        return np.asarray(~left_later)


class Canonical(Repair):  # type: ignore[misc]  # pymoo has no types
    """Gives children the one form of what they mean, so that a known one is known again."""

    def _do(self, problem: Choices, X: np.ndarray, **kwargs: Any) -> np.ndarray:
        return problem.canonical(X)


def clock_axes(settings: Sequence[Setting]) -> tuple[int, ...]:
    """How many values each clock has where the operating points are a grid, row by row; else (P,), a single list.

    On a grid each clock is a gene of its own, so that a mutation moves one clock and crossover mixes them.
    """
    values = [dict.fromkeys(setting.clocks[c] for setting in settings) for c in range(len(settings[0].clocks))]
    sizes = tuple(len(axis) for axis in values)
    if tuple(itertools.product(*values)) != tuple(setting.clocks for setting in settings):
        return (len(settings),)
    # A clock with one value, a power mode for instance, is no choice.
    return tuple(size for size in sizes if size > 1) or (1,)


class Change(Mutation):  # type: ignore[misc]  # pymoo has no types
    """Changes each gene with probability 1/n: half of the time to a neighbour, half of the time to any value.

    Always to another value, unlike rounded polynomial mutation, which leaves most small integers as they are.
    """

    def _do(self, problem: Choices, x: np.ndarray, random_state: np.random.Generator, **kwargs: Any) -> np.ndarray:
        sizes = problem.xu.astype(np.int64) + 1
        sign = random_state.integers(0, 2, x.shape) * 2 - 1
        # At an end of its range a gene has one neighbour only.
        near = np.where((x + sign < 0) | (x + sign >= sizes), x - sign, x + sign)
        far = (x + random_state.integers(1, np.maximum(sizes, 2), x.shape)) % sizes
        changed = np.where(random_state.random(x.shape) < 0.5, near, far)
        # A gene with a single value has no other.
        hit = (random_state.random(x.shape) < 1 / problem.n_var) & (sizes > 1)
        return np.where(hit, changed, x)
