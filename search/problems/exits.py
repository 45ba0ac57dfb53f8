"""Early exits on one backbone: which exits stand, at which score a sample leaves, and the operating point.

One exit is a big/little split that shares its prefix; none is the static network. A backbone's `answers` task says what
each exit and the final classifier answer on `val`; the table says what the segments between them cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from hwbench.errors import ConfigError
from hwbench.evidence import DECLARED, join
from hwbench.setting import Setting, grid_points
from hwbench.store import Result
from hwbench.table import LatencyTable
from models.space import Space, load_space
from search import patience
from search.cascade import Cascade, quantile_levels
from search.cost import TABLE_METRICS, Costs
from search.design import Design, Stage
from search.limits import check
from search.objective import SCORED, Constraint, Objective, by_metric, objectives
from search.router import Router, score_of
from search.score import Score
from search.task import File, Task

# The reference of the hypervolume lies this much beyond the largest backbone, so that the most accurate end counts too.
_MARGIN = 1.1


class Options(BaseModel):
    """What a search of exits depends on.

    space: a name in models.spaces or a file.  table: one of its files, or their common stem.
    checkpoint: the supernet's weights.  dataset: a name in models.datasets.
    exits: those that all backbones share; None: each trains its own.
    objectives: as on the command line (`latency`, `energy`), accuracy is always the first.
    constraints: limit by metric (`latency_ms`), at most, or at least for accuracy.
    unit, precision, threads: which of the table's settings; needed only where it has several. The clocks are searched.
    clocks: `default` searches none: all stages run at the point at which the largest backbone is fastest.
    grid: their values, `emc=1331.2,1866;gpu=114.75,727`: the points at which the table answers, also those between the
    measured ones; empty = the measured ones only.
    router: the score by which an input leaves (`learned`: what trained gates say), or `patience`: exits in a row that
    agree.  levels: thresholds that an exit can choose from; a patience is one of 1 to the number of exits.
    first_layer: exits stand behind this layer at the earliest, counted from 1 behind the stem (HADAS: 5).
    gamma: weight of the dissimilarity in the objective `score`.  seed: of the exits' training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    space: str
    target: str
    backend: str
    table: Path
    checkpoint: Path
    exits: Path | None = None
    dataset: str
    objectives: tuple[str, ...]
    constraints: dict[str, float] = {}
    unit: str | None = None
    precision: str = "fp32"
    threads: int | None = None
    clocks: Literal["searched", "default"] = "searched"
    grid: str = ""
    router: Router = "max_softmax"
    levels: int = Field(default=16, ge=1, le=255)
    first_layer: int = Field(default=1, ge=1)
    gamma: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    seed: int = 0


class Exits:
    """The problem; make it with `open`."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.space: Space = load_space(options.space)
        self.objectives: tuple[Objective, ...] = objectives(options.objectives)
        self.constraints: tuple[Constraint, ...] = tuple(
            Constraint(objective=by_metric(metric), limit=limit) for metric, limit in options.constraints.items()
        )
        table = _table(options, self.space)
        wanted = (*self.objectives, *(c.objective for c in self.constraints))
        self._wanted = {o.name for o in wanted}
        if "score" in self._wanted:
            wanted += SCORED
        try:
            needed = ["latency_ms", *(o.name for o in wanted)]
            keys = [block.key for block in self.space.blocks]
            settings = points(table, options, keys, needed)
            self.costs = Costs.of(self.space, table, settings, needed)
            self._checkpoint = File.of(options.checkpoint)
            self._shared = {} if options.exits is None else {"exits": File.of(options.exits)}
        except OSError as error:
            raise ConfigError(
                f"{options.checkpoint}: the supernet cannot be read ({error.strerror}); "
                f"make it with: search train --space {options.space}"
            ) from error
        # As HADAS does, backbones are compared where the board is fastest.
        largest = self.space.largest()[None]
        self.default_point = int(self.costs.network(largest)["latency_ms"][:, 0].argmin())
        if options.clocks == "default":
            self.costs = Costs.of(self.space, table, [settings[self.default_point]], needed)
            self.default_point = 0
        check(self.constraints, self.costs)
        worst = {name: _MARGIN * float(values[0]) for name, values in self.static(largest).items()}
        worst |= {"accuracy": 0.0, "score": 0.0, "exits": len(self.space.positions) + 1.0}
        self.reference: tuple[float, ...] = tuple(worst[o.name] for o in self.objectives)

    def static(self, genes: np.ndarray) -> Mapping[str, np.ndarray]:
        """Metrics of (B, G) whole backbones at the operating point that runs the largest one fastest, each (B,)."""
        return self.costs.network_at(genes, self.default_point)

    def tasks(self, genes: np.ndarray, *, exits: bool) -> list[Task]:
        """One `answers` task for each of (B, G) backbones."""
        return [
            Task(
                kind="answers",
                args={
                    "space": self.options.space,
                    "genes": row.tolist(),
                    "dataset": self.options.dataset,
                    "exits": exits,
                    # What is not said keeps its key: the default's results stay known.
                    **({"score": score} if (score := score_of(self.options.router)) != "max_softmax" else {}),
                    "seed": self.options.seed,
                },
                files={"checkpoint": self._checkpoint, **(self._shared if exits else {})},
            )
            for row in self.space.canonical(genes)
        ]

    def positions(self, genes: np.ndarray) -> list[int]:
        """Exit positions that a backbone (G,) may use, ascending indices into Space.positions."""
        runs = self.space.block_ids(genes[None])[0] >= 0
        layers = np.cumsum(runs * [slot.count for slot in self.space.slots]) - 1  # the first slot is the stem
        return [p for p in self._existing(genes) if layers[self.space.positions[p]] >= self.options.first_layer]

    def _existing(self, genes: np.ndarray) -> list[int]:
        return np.flatnonzero(self.space.head_ids(genes[None])[0] >= 0).tolist()

    def cascade(self, genes: np.ndarray, result: Result) -> Cascade:
        """The stages of one backbone (G,), costs at every operating point; ConfigError where the answers do not fit."""
        answered = result.arrays["positions"].tolist()
        if answered[-1:] != [-1] or answered[:-1] not in ([], self._existing(genes)):
            raise ConfigError(
                f"{self.space.subnet(genes)} has exits at {self._existing(genes)}, its answers are of {answered}; "
                "they were made with another version of the space"
            )
        allowed = {*self.positions(genes), -1}
        columns = [column for column, position in enumerate(answered) if position in allowed]
        positions = [answered[column] for column in columns]
        score = result.arrays["score"][:, columns]
        patient = self.options.router == "patience"
        if np.isnan(score[:, :-1]).all(axis=0).any():
            raise ConfigError(f"{self.space.subnet(genes)}: an exit scores nothing but NaN; its training diverged")
        costs = self.costs.stages(genes, positions[:-1], gated=self.options.router == "learned")
        resident, evidence, rule = dict(costs.resident), dict(self.costs.evidence), None
        if "exits" in self._wanted:
            resident["exits"] = np.append(np.ones(len(positions) - 1), 0.0)
            evidence["exits"] = DECLARED
        if "score" in self._wanted:
            whole = self.static(genes[None])
            rule = Score(baseline={o.name: float(whole[o.name][0]) for o in SCORED}, gamma=self.options.gamma)
            evidence["score"] = join(*(self.costs.evidence[o.name] for o in SCORED), mixed=True)
        return Cascade(
            label=result.arrays["label"],
            answer=result.arrays["answer"][:, columns],
            score=score,
            levels=patience.levels(len(columns)) if patient else quantile_levels(score, self.options.levels),
            patience=patient,
            step=costs.step,
            ask=costs.ask,
            resident=resident,
            settings=(self.costs.settings,) * len(positions),
            evidence=evidence,
            rule=rule,
        )

    def design(
        self,
        genes: np.ndarray,
        answers: Task,
        cascade: Cascade,
        placed: np.ndarray,
        level: np.ndarray,
        point: np.ndarray,
    ) -> Design:
        """The placed exits and the final classifier as a chain; thresholds are the float32 values of the levels."""
        last = cascade.stages - 1
        positions = [*self.positions(genes)[:last], -1]
        points = np.broadcast_to(point, cascade.stages)
        return Design(
            stages=tuple(
                Stage(
                    space=self.options.space,
                    genes=tuple(int(g) for g in genes),
                    position=positions[s],
                    target=self.options.target,
                    backend=self.options.backend,
                    setting=cascade.settings[s][points[s]],
                    router=self.options.router,
                    threshold=None if s == last else cascade.threshold(s, int(level[s])),
                )
                for s in range(cascade.stages)
                if s == last or placed[s]
            ),
            answers=answers.key,
        )


def open(options: Options) -> Exits:
    """The problem with these options; ConfigError names what is missing and the command that makes it."""
    return Exits(options)


def points(
    table: LatencyTable, options: Options, keys: Sequence[str] = (), metrics: Sequence[str] = ()
) -> tuple[Setting, ...]:
    """The operating points of the chosen unit, precision and threads: settings that differ in their clocks only.

    keys, metrics: blocks and columns that a point between the measured ones must be answered for.
    In ascending order of their frequencies, so that neighbours are alike. Clocks as found are a point only where no
    clocks were set. Raises ConfigError naming the settings to choose from.
    """
    alike = [
        s
        for s in table.settings
        if s.batch == 1
        and s.precision == options.precision
        and options.unit in (None, s.unit)
        and options.threads in (None, s.threads)
    ]
    kinds = sorted({str(s.without_clocks) for s in alike})
    if len(kinds) != 1:
        known = ", ".join(kinds or sorted({str(s.without_clocks) for s in table.settings}))
        which = (
            "several settings fit; choose unit and threads" if kinds else "no row has the unit, precision and threads"
        )
        raise ConfigError(f"{table.name}: {which} (known: {known})")
    offered = [replace(alike[0], clocks=clocks) for clocks in grid_points(options.grid)]
    for metric in TABLE_METRICS:
        if offered and metric in metrics:
            offered = [s for s, told in zip(offered, table.answers(metric, keys, offered), strict=True) if told]
    return tuple(sorted({*offered, *(s for s in alike if s.clocks)}, key=_frequencies)) or tuple(alike)


def _frequencies(setting: Setting) -> list[tuple[float, str]]:
    """What operating points are sorted by; a mode that has a name comes before the frequencies."""
    return [(0.0, value) if isinstance(value, str) else (value, "") for _, value in setting.clocks]


def _table(options: Options, space: Space) -> LatencyTable:
    table = LatencyTable.read(options.table)
    asked = (options.target, options.backend, space.name)
    found = (table.origin.target, table.origin.backend, table.origin.space)
    if asked != found:
        raise ConfigError(
            f"{options.table} is the table of {' '.join(found)}, not of {' '.join(asked)}; make that one with: "
            f"hwbench profile --target {options.target} --backend {options.backend} --space {options.space}"
        )
    return table
