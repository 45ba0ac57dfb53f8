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
from hwbench.setting import Setting, grid_points
from hwbench.store import Result
from hwbench.table import LatencyTable
from models.space import Space, load_space
from search.cascade import Cascade, quantile_levels
from search.cost import TABLE_METRICS, Costs
from search.design import Design, Stage
from search.objective import Constraint, Objective, by_metric, objectives
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
    grid: their values, `emc=1331.2,1866;gpu=114.75,727`: the points at which the table answers, also those between the
    measured ones; empty = the measured ones only.
    levels: thresholds that an exit can choose from.  seed: of the exits' training.
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
    grid: str = ""
    router: Literal["max_softmax"] = "max_softmax"
    levels: int = Field(default=16, ge=1, le=255)
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
        try:
            needed = ["latency_ms", *(o.name for o in wanted)]
            keys = [block.key for block in self.space.blocks]
            self.costs = Costs.of(self.space, table, points(table, options, keys, needed), needed)
            self._checkpoint = File.of(options.checkpoint)
            self._shared = {} if options.exits is None else {"exits": File.of(options.exits)}
        except OSError as error:
            raise ConfigError(
                f"{options.checkpoint}: the supernet cannot be read ({error.strerror}); "
                f"make it with: search train --space {options.space}"
            ) from error
        # As HADAS does, backbones are compared where the board is fastest.
        largest = self.space.largest()[None]
        self._default_point = int(self.costs.network(largest)["latency_ms"][:, 0].argmin())
        static = self.static(largest)
        self.reference: tuple[float, ...] = tuple(
            0.0 if o.name == "accuracy" else _MARGIN * float(static[o.name][0]) for o in self.objectives
        )

    def static(self, genes: np.ndarray) -> Mapping[str, np.ndarray]:
        """Metrics of (B, G) whole backbones at the operating point that runs the largest one fastest, each (B,)."""
        return {name: self._at_default(values) for name, values in self.costs.network(genes).items()}

    def _at_default(self, values: np.ndarray) -> np.ndarray:
        # Bytes, (B,), are the same at every point.
        return values[self._default_point] if values.ndim == 2 else values

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
                    "seed": self.options.seed,
                },
                files={"checkpoint": self._checkpoint, **(self._shared if exits else {})},
            )
            for row in self.space.canonical(genes)
        ]

    def positions(self, genes: np.ndarray) -> list[int]:
        """Exit positions that exist on a backbone (G,), ascending indices into Space.positions."""
        return np.flatnonzero(self.space.head_ids(genes[None])[0] >= 0).tolist()

    def cascade(self, genes: np.ndarray, result: Result) -> Cascade:
        """The stages of one backbone (G,), costs at every operating point; ConfigError where the answers do not fit."""
        positions = result.arrays["positions"].tolist()
        if positions[-1:] != [-1] or positions[:-1] not in ([], self.positions(genes)):
            raise ConfigError(
                f"{self.space.subnet(genes)} has exits at {self.positions(genes)}, its answers are of {positions}; "
                "they were made with another version of the space"
            )
        levels = quantile_levels(result.arrays["score"], self.options.levels)
        if np.isnan(levels[:, :-1]).any():
            raise ConfigError(f"{self.space.subnet(genes)}: an exit scores nothing but NaN; its training diverged")
        costs = self.costs.stages(genes, positions[:-1])
        return Cascade(
            label=result.arrays["label"],
            answer=result.arrays["answer"],
            score=result.arrays["score"],
            levels=levels,
            step=costs.step,
            ask=costs.ask,
            resident=costs.resident,
            settings=(self.costs.settings,) * len(positions),
            evidence=self.costs.evidence,
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
