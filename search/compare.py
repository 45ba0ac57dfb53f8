"""Two finished runs side by side: which front is better, by how much, and what their designs gain step by step.

Runs compare where they searched the same: objectives, board, evidence and data. What else differs is said.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwbench.errors import ConfigError
from search.compared import Side
from search.metrics import Floats, Measure, common_levels, cost_at, dominated, dominating
from search.objective import Objective

_LEVELS = 6
NAMES = ("A", "B")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """What a value of at least `level` costs on both fronts; None where a front does not reach it."""

    level: float
    cost: tuple[float | None, float | None]

    @property
    def saved(self) -> float | None:
        """Share of B's cost that A saves; negative where A costs more; None where that is unknown."""
        a, b = self.cost
        return None if a is None or not b else 1 - a / b


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """Two runs, A and B. Pairs are A's, then B's.

    hypervolume: share of the measure's box.  dominating: share of a run's designs that dominate some design of the
    other one, dominated: share that some design of the other one dominates.
    gains: by metric of each cost.  differences: `what: A's → B's` of all that may differ.
    """

    sides: tuple[Side, Side]
    measure: Measure
    hypervolume: tuple[float, float]
    dominating: tuple[float, float]
    dominated: tuple[float, float]
    gains: Mapping[str, tuple[Gain, ...]]
    differences: tuple[str, ...]

    def to_json(self) -> str:
        """All of it; what is unknown is null."""
        a = self.sides[0]
        names = [o.name for o in a.objectives]
        ideal, nadir = (
            {o.name: float(o.as_cost(v)) for o, v in zip(a.objectives, costs, strict=True)}
            for costs in (self.measure.ideal, self.measure.nadir)
        )
        return json.dumps(
            {
                **{
                    name.lower(): {"run": str(side.folder), "designs": len(side.values), "hypervolume": volume}
                    for name, side, volume in zip(NAMES, self.sides, self.hypervolume, strict=True)
                },
                "objectives": names,
                "same": dict(a.same),
                "differences": list(self.differences),
                "scale": {"ideal": ideal, "nadir": nadir, "reference": self.measure.reference},
                "hypervolume_ratio": _ratio(*self.hypervolume),
                "dominating": dict(zip("ab", self.dominating, strict=True)),
                "dominated": dict(zip("ab", self.dominated, strict=True)),
                "gains": {
                    metric: [{"at": g.level, "a": g.cost[0], "b": g.cost[1], "saved": g.saved} for g in gains]
                    for metric, gains in self.gains.items()
                },
                "steps": [
                    {"run": name.lower(), **step.to_json()}
                    for name, side in zip(NAMES, self.sides, strict=True)
                    for step in side.steps
                ],
            },
            indent=1,
        )

    def to_text(self) -> str:
        """For people; what is unknown is empty."""
        a, b = self.sides
        lines = [f"{name}         {side.said}" for name, side in zip(NAMES, self.sides, strict=True)]
        lines.append(f"same      {'; '.join(a.same.values())}")
        lines += [f"differ    {text}" for text in self.differences]
        ends = [
            f"{o.name} {float(o.as_cost(i)):.5g} to {float(o.as_cost(n)):.5g}"
            for o, i, n in zip(a.objectives, self.measure.ideal, self.measure.nadir, strict=True)
        ]
        ratio = _ratio(*self.hypervolume)
        lines += [
            f"hypervolume  A {self.hypervolume[0]:.5f}, B {self.hypervolume[1]:.5f}"
            + ("" if ratio is None else f" (A has {100 * ratio:.2f} % of B's)"),
            f"             of the box from the best of both (0) to the worst (1) and on to {self.measure.reference:g}:",
            f"             {', '.join(ends)}",
            f"dominating   {_percent(self.dominating[0])} of A's designs dominate one of B's,"
            f" {_percent(self.dominating[1])} of B's one of A's",
            f"dominated    {_percent(self.dominated[0])} of A's designs by one of B's,"
            f" {_percent(self.dominated[1])} of B's by one of A's",
        ]
        for metric, gains in self.gains.items():
            lines += ["", *_gains(a.objectives[0], metric, gains)]
        if a.steps or b.steps:
            lines += ["", *_steps(self.sides)]
        return "\n".join(lines)


def compare(a: Side, b: Side, *, reference: float, at: Sequence[float] = ()) -> Comparison:
    """Raises ConfigError naming what differs where two runs did not search the same, and for a run without designs.

    at: values of the first objective to compare costs at; else some that both reach.
    """
    for side in (a, b):
        if not len(side.values):
            raise ConfigError(f"{side.folder}: its front has no design, so there is nothing to compare")
    if differing := [what for what in {**a.same, **b.same} if a.same.get(what) != b.same.get(what)]:
        told = "; ".join(f"{what}: {a.same.get(what)} → {b.same.get(what)}" for what in differing)
        raise ConfigError(f"{a.folder} and {b.folder} do not compare ({told}); search both alike in that")
    costs = (a.costs, b.costs)
    measure = Measure.of(costs, reference)
    value = a.objectives[0]
    values = (a.values[:, 0], b.values[:, 0])
    levels = np.array(at, np.float64) if at else common_levels(values, _LEVELS)
    return Comparison(
        sides=(a, b),
        measure=measure,
        hypervolume=(measure.hypervolume(costs[0]), measure.hypervolume(costs[1])),
        dominating=(dominating(*costs), dominating(*costs[::-1])),
        dominated=(dominated(*costs), dominated(*costs[::-1])),
        gains={
            o.name: _gain(levels, [cost_at(s.values[:, 0], s.values[:, m], levels) for s in (a, b)])
            for m, o in enumerate(a.objectives)
            if m and o.sense != value.sense
        },
        differences=tuple(
            f"{what}: {a.other.get(what, 'nothing')} → {b.other.get(what, 'nothing')}"
            for what in sorted({*a.other, *b.other})
            if a.other.get(what) != b.other.get(what)
        ),
    )


def open_sides(a: Path, b: Path, designs: int, split: str = "val") -> tuple[Side, Side]:
    """Both runs, read; designs: how many of each front are told step by step.  split: of the data, val or test."""
    return Side.read(a, designs, split), Side.read(b, designs, split)


def _gain(levels: Floats, costs: Sequence[Floats]) -> tuple[Gain, ...]:
    return tuple(
        Gain(level=float(level), cost=(_known(float(one)), _known(float(other))))
        for level, one, other in zip(levels, *costs, strict=True)
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _ratio(a: float, b: float) -> float | None:
    return a / b if b else None


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _gains(value: Objective, metric: str, gains: Sequence[Gain]) -> list[str]:
    rows: list[tuple[str, ...]] = [(f"{value.name} of at least", f"{metric} A", "B", "A saves")]
    for gain in gains:
        saved = "" if gain.saved is None else f"{100 * gain.saved:.1f} %"
        rows.append((f"{gain.level:.5g}", *map(_number, gain.cost), saved))
    return _columns(rows)


def _steps(sides: Sequence[Side]) -> list[str]:
    metrics = list(dict.fromkeys(m for side in sides for step in side.steps for m in step.static))
    rows: list[tuple[str, ...]] = [
        (
            *("design", "accuracy %", "with exits", "ideal mapping"),
            *(text for m in metrics for text in (m, "with exits", "and clocks")),
        )
    ]
    for name, side in zip(NAMES, sides, strict=True):
        for step in side.steps:
            percent = [f"{100 * v:.2f}" for v in (step.static_accuracy, step.accuracy, step.oracle_accuracy)]
            costs: list[Any] = [kind.get(m) for m in metrics for kind in (step.static, step.exits, step.clocks)]
            rows.append((f"{name} {step.design}", *percent, *map(_number, costs)))
    return _columns(rows)


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    return [
        "  ".join(f"{cell:{'>' if c else '<'}{width}}" for c, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
