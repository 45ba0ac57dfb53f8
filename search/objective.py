"""What a search wants: objectives to be best at, and constraints to keep.

Source of the objective names: `--objective energy` means accuracy against energy, as in HADAS (paper 001).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hwbench.errors import ConfigError, nearest


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """One metric of a design: its name in every mapping and CSV, its unit, and which way is better."""

    name: str
    unit: str
    sense: Literal["min", "max"]

    def as_cost(self, values: np.ndarray) -> np.ndarray:
        """The values turned so that smaller is better."""
        return values if self.sense == "min" else -values


ACCURACY = Objective(name="accuracy", unit="", sense="max")
KNOWN: dict[str, Objective] = {
    "accuracy": ACCURACY,
    "latency": Objective(name="latency_ms", unit="ms", sense="min"),
    "energy": Objective(name="energy_mj", unit="mJ", sense="min"),
    "size": Objective(name="size_bytes", unit="B", sense="min"),
    "memory": Objective(name="memory_bytes", unit="B", sense="min"),
    "macs": Objective(name="macs", unit="", sense="min"),
    "exits": Objective(name="exits", unit="", sense="min"),
    "score": Objective(name="score", unit="", sense="max"),
}
# What a score compares with the backbone: HADAS equation 6.
SCORED = (KNOWN["latency"], KNOWN["energy"])

_BY_METRIC = {objective.name: objective for objective in KNOWN.values()}


def by_metric(metric: str) -> Objective:
    """The objective whose metric has that name (`latency_ms`); raises ConfigError for an unknown one."""
    if metric not in _BY_METRIC:
        raise ConfigError(f"unknown metric {metric!r}{nearest(metric, _BY_METRIC)}")
    return _BY_METRIC[metric]


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A metric with a limit, in the metric's own unit and sense: at most for `min`, at least for `max`."""

    objective: Objective
    limit: float

    def violation(self, values: np.ndarray) -> np.ndarray:
        """How far each value is beyond the limit, relative to it; 0 where it is kept, infinite where it is unknown."""
        values = np.where(np.isnan(values), self.objective.as_cost(np.asarray(np.inf)), values)
        excess = self.objective.as_cost(values) - self.objective.as_cost(np.asarray(self.limit))
        return np.asarray(np.maximum(excess, 0.0) / max(abs(self.limit), 1e-12))


def static(wanted: Sequence[Objective]) -> tuple[Objective, ...]:
    """What backbones are compared by before they have exits; equation 3 of HADAS where the score is wanted.

    The score and the number of exits are those of a dynamic network, so the score's costs stand in for it.
    """
    found: dict[str, Objective] = {}
    for objective in wanted:
        for stands in SCORED if objective.name == "score" else (objective,):
            if objective.name != "exits":
                found[stands.name] = stands
    return tuple(found.values())


def objectives(names: Sequence[str]) -> tuple[Objective, ...]:
    """Accuracy first, then each named objective in the order given; raises ConfigError for an unknown name."""
    found = [ACCURACY]
    for name in names:
        if name not in KNOWN:
            raise ConfigError(f"unknown objective {name!r}{nearest(name, KNOWN)}")
        if KNOWN[name] not in found:
            found.append(KNOWN[name])
    if len(found) == 1:
        raise ConfigError("accuracy alone is no trade-off; name one more objective, like --objective latency")
    return tuple(found)
