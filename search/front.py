"""What a search found: designs that none beats, with what each is promised to do.

Hypervolume is pymoo's exact one, always against a stated reference: figures of two references do not compare.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pymoo.indicators.hv import HV
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

from hwbench.errors import ConfigError
from hwbench.evidence import Evidence
from search.cascade import Cascade
from search.design import Design
from search.objective import Objective

# A design this close to the most accurate one is what most people want: the same answers for less.
NEAR = 0.01
COLUMNS = (
    *("design", "accuracy", "oracle_accuracy", "latency_ms", "latency_evidence", "energy_mj", "energy_evidence"),
    *("macs", "size_bytes", "memory_bytes", "score", "exit_rates", "clocks", "router", "target"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """A design and what it is expected to do on `val`.

    metrics: expected value per input by name (accuracy, oracle_accuracy, latency_ms, …); a missing name is unknown.
    evidence: of the metrics that come from a table or a model.
    exit_rates: share of the inputs that leave at each of the design's stages, sums to 1.
    """

    design: Design
    metrics: Mapping[str, float]
    evidence: Mapping[str, Evidence]
    exit_rates: tuple[float, ...]

    @staticmethod
    def of(
        cascade: Cascade, placed: np.ndarray, level: np.ndarray, point: np.ndarray, designs: Sequence[Design]
    ) -> list[Promise]:
        """What B choices on a cascade promise: the arguments of `Cascade.evaluate`, and the designs that they mean."""
        outcome = cascade.evaluate(placed, level, point)
        placed = np.array(placed, dtype=bool)
        placed[:, -1] = True
        named = {"accuracy": outcome.accuracy, "oracle_accuracy": outcome.oracle_accuracy, **outcome.metrics}
        return [
            Promise(
                design=design,
                metrics={name: float(v[b]) for name, v in named.items() if not np.isnan(v[b])},
                evidence={name: e for name, e in cascade.evidence.items() if not np.isnan(named[name][b])},
                exit_rates=tuple(outcome.coverage[b, placed[b]].tolist()),
            )
            for b, design in enumerate(designs)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """Designs that none of them beats; make it with `Front.of`, which drops the beaten ones.

    objectives: what was wanted, in the order asked; reference: one value for each, in its unit, worse than any design
    that should count. promises: from the cheapest (by the second objective) to the most costly.
    """

    objectives: tuple[Objective, ...]
    reference: tuple[float, ...]
    promises: tuple[Promise, ...] = ()

    @classmethod
    def of(cls, objectives: Sequence[Objective], reference: Sequence[float], promises: Sequence[Promise] = ()) -> Front:
        """Keep what no other promise beats; of equal ones the first. ConfigError where an objective is unknown."""
        front = cls(objectives=tuple(objectives), reference=tuple(reference), promises=tuple(promises))
        if len(front.reference) != len(front.objectives):
            raise ConfigError(f"{len(front.reference)} reference values for {len(front.objectives)} objectives")
        costs = front.costs
        best = nondominated(costs)
        order = np.lexsort((costs[best, 0], *costs[best, 1:].T[::-1]))
        return replace(front, promises=tuple(front.promises[i] for i in best[order]))

    @property
    def designs(self) -> tuple[Design, ...]:
        """The designs, in the order of the promises."""
        return tuple(p.design for p in self.promises)

    @property
    def values(self) -> np.ndarray:
        """(n, M) of each design and objective, in the objective's own unit and sense."""
        values = np.empty((len(self.promises), len(self.objectives)))
        for row, promise in zip(values, self.promises, strict=True):
            for m, objective in enumerate(self.objectives):
                if objective.name not in promise.metrics:
                    raise ConfigError(f"design {promise.design.key}: {objective.name} is asked and not known")
                row[m] = promise.metrics[objective.name]
        return values

    @property
    def costs(self) -> np.ndarray:
        """(n, M), turned so that smaller is better."""
        return _costs(self.objectives, self.values)

    def merge(self, *others: Front) -> Front:
        """The front of all of them together; ConfigError where objectives or references differ."""
        for other in others:
            if (other.objectives, other.reference) != (self.objectives, self.reference):
                raise ConfigError("fronts of different objectives or references do not merge")
        promises = [p for front in (self, *others) for p in front.promises]
        return Front.of(self.objectives, self.reference, promises)

    def hypervolume(self) -> float:
        """Volume between the designs and the reference, in the product of the objectives' units; 0 without designs."""
        if not self.promises:
            return 0.0
        reference = _costs(self.objectives, np.array([self.reference]))[0]
        return float(HV(ref_point=reference)(self.costs))

    def to_csv(self) -> str:
        """The text of front.csv; what is unknown is empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_cells(promise) for promise in self.promises)
        return text.getvalue()


def read_csv(file: Path) -> dict[str, dict[str, str]]:
    """The rows of a front.csv by design key, in its order, cells as they stand; ConfigError naming what is wrong."""
    return read_rows(file, COLUMNS, absent="is its search through?", again="resume the run to write it again")


def read_rows(file: Path, columns: Sequence[str], *, absent: str, again: str) -> dict[str, dict[str, str]]:
    """The rows of a CSV with exactly these columns by design key, in its order; what is wrong, and what to do then."""
    try:
        reader = csv.DictReader(io.StringIO(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error}); {absent}") from error
    rows = list(reader)
    if (reader.fieldnames or []) != list(columns) or any(None in row.values() for row in rows):
        raise ConfigError(f"{file}: not the columns {','.join(columns)}; {again}")
    return {row["design"]: row for row in rows}


def nondominated(costs: np.ndarray) -> np.ndarray:
    """Indices of the rows of (n, M) costs that no other row beats, ascending; of equal rows the first."""
    if not len(costs):
        return np.empty(0, dtype=np.intp)
    first = np.sort(np.unique(costs, axis=0, return_index=True)[1])
    best = NonDominatedSorting().do(costs[first], only_non_dominated_front=True)
    return np.asarray(first[np.sort(best)])


def _costs(objectives: Sequence[Objective], values: np.ndarray) -> np.ndarray:
    return np.stack([o.as_cost(values[:, m]) for m, o in enumerate(objectives)], axis=1)


def _cells(promise: Promise) -> list[str]:
    stages = promise.design.stages

    def number(name: str) -> str:
        return f"{promise.metrics[name]:.6g}" if name in promise.metrics else ""

    def count(name: str) -> str:
        return str(round(promise.metrics[name])) if name in promise.metrics else ""

    def origin(name: str) -> str:
        return str(promise.evidence[name]) if name in promise.evidence else ""

    return [
        promise.design.key,
        number("accuracy"),
        number("oracle_accuracy"),
        number("latency_ms"),
        origin("latency_ms"),
        number("energy_mj"),
        origin("energy_mj"),
        count("macs"),
        count("size_bytes"),
        count("memory_bytes"),
        number("score"),
        ";".join(f"{rate:.6g}" for rate in promise.exit_rates),
        _each(s.setting.clocks_text for s in stages),
        _each(s.router for s in stages[:-1]),  # nothing decides behind the last stage
        _each(s.target for s in stages),
    ]


def _each(texts: Iterable[str]) -> str:
    """One text where all stages agree, else one for each, in order."""
    listed = list(texts)
    return " | ".join(listed if len(set(listed)) > 1 else listed[:1])
