"""A finished run as one side of a comparison: its front in numbers, and what its designs gain step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hwbench.errors import ConfigError
from search import tabular, unseen
from search.cost import TABLE_METRICS
from search.found import Found
from search.front import nondominated
from search.metrics import Floats
from search.objective import Objective, objectives
from search.run import Config, Run, read_config
from search.verify import spread

# Evidence of these stands in front.csv; the others follow from the network's description.
_EVIDENCE = {"latency_ms": "latency_evidence", "energy_mj": "energy_evidence"}
# Objectives with another value on other samples, by the column of test.csv; and those that samples do not change.
_ON_TEST = {
    "accuracy": "test_accuracy",
    "oracle_accuracy": "test_oracle_accuracy",
    "latency_ms": "latency_ms",
    "energy_mj": "energy_mj",
}
_OF_NETWORK = {"exits", "size_bytes", "memory_bytes"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A design and what each step gained, as the columns of HADAS' Table III, per input and on `val`.

    static: the backbone alone at the default operating point; exits: with the design's exits and thresholds there;
    clocks: at the design's own operating point, without an entry where no clocks were searched. All by metric.
    oracle_accuracy: what an ideal mapping of inputs to exits reaches, as the paper reports it.
    """

    design: str
    static_accuracy: float
    accuracy: float
    oracle_accuracy: float
    static: Mapping[str, float]
    exits: Mapping[str, float]
    clocks: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Flat accuracies, nested costs."""
        return {
            "design": self.design,
            "accuracy": {"static": self.static_accuracy, "exits": self.accuracy, "ideal": self.oracle_accuracy},
            **{m: {"static": v, "exits": self.exits[m], "clocks": self.clocks.get(m)} for m, v in self.static.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Side:
    """One run. values: (n, M) of its front in the objectives' own units and senses, the value to raise first.

    On `test`, designs that another one of the same front beats there are left out.

    same: what must be equal for two runs to compare; other: what may differ, both as text by name.
    """

    folder: Path
    said: str
    objectives: tuple[Objective, ...]
    values: Floats
    same: Mapping[str, str]
    other: Mapping[str, str]
    steps: tuple[Step, ...] = ()

    @property
    def costs(self) -> Floats:
        """(n, M), turned so that smaller is better."""
        columns = [o.as_cost(self.values[:, m]) for m, o in enumerate(self.objectives)]
        return np.stack(columns, axis=1)

    @classmethod
    def read(cls, folder: Path, designs: int, split: str = "val") -> Side:
        """A finished run of any problem; ConfigError where it is not one.

        designs: how many are told step by step, which is done on val.  split: `val`, or `test` as `search test` told.
        """
        if tabular.is_tabular(folder):
            if split != "val":
                raise ConfigError(f"{folder}: a search of a file's architectures has no split {split}")
            return _of_table(folder, tabular.read_config(folder))
        config = read_config(folder)
        with Run.start(folder, config) as run:
            found = Found.of(run)
            return _of_run(found, designs, split) if split == "val" else _on_test(found)


def _of_run(found: Found, designs: int, split: str) -> Side:
    config = found.run.config
    wanted = objectives(config.objectives)
    rows = list(found.promises.values())
    evidence = {
        o.name: " and ".join(sorted({row[_EVIDENCE[o.name]] for row in rows})) for o in wanted if o.name in _EVIDENCE
    }
    return Side(
        folder=found.run.folder,
        said=f"{found.run.folder}: {len(rows)} designs, {config.strategy}, seed {config.seed}",
        objectives=wanted,
        values=np.array([[_value(found.run.folder, row, o) for o in wanted] for row in rows]).reshape(-1, len(wanted)),
        same={
            "objectives": ", ".join(_objective(o, config) for o in wanted),
            "target": config.target,
            "evidence": ", ".join(f"{name} {text}" for name, text in evidence.items()) or "no measured metric",
            "data": f"accuracy on {split} of {config.dataset} ({config.dataset_sha256[:12]})",
        },
        other=_other(config),
        steps=_steps(found, designs) if rows else (),
    )


def _on_test(found: Found) -> Side:
    """The designs of the front with what test.csv says of them; nothing step by step, that is known on val alone."""
    promised = _of_run(found, 0, "test")
    folder, wanted = found.run.folder, promised.objectives
    if untold := [o.name for o in wanted if o.name not in _ON_TEST.keys() | _OF_NETWORK]:
        raise ConfigError(f"{folder}: what {untold[0]} is on test is not known; such runs compare on val")
    values = promised.values.copy()
    rows = unseen.read(folder, list(found.promises))
    for m, objective in enumerate(wanted):
        if column := _ON_TEST.get(objective.name):
            if empty := [row["design"] for row in rows if not row[column]]:
                raise ConfigError(f"{folder / 'test.csv'}: {column} of design {empty[0]} is not known")
            values[:, m] = [float(row[column]) for row in rows]
    told = replace(promised, values=values)
    kept = nondominated(told.costs)
    return replace(
        told,
        values=values[kept],
        said=f"{promised.said}, {len(kept)} of them not beaten on test",
    )


def _objective(objective: Objective, config: Config) -> str:
    # Scores of two weights are two objectives.
    weighed = f" (gamma {config.options.get('gamma', 1.0)})" if objective.name == "score" else ""
    return objective.name + weighed


def _value(folder: Path, row: Mapping[str, str], objective: Objective) -> float:
    if objective.name == "exits":
        return row["exit_rates"].count(";")
    text = row.get(objective.name, "")
    if not text:
        raise ConfigError(f"{folder / 'front.csv'}: {objective.name} of design {row['design']} is not known")
    return float(text)


def _other(config: Config) -> dict[str, str]:
    """What two runs may differ in."""
    budget = config.budget
    told = {
        "problem": config.problem,
        "strategy": config.strategy,
        "seed": str(config.seed),
        "limits": ", ".join(f"{k} {v:g}" for k, v in sorted(config.constraints.items())) or "none",
        "backbones": f"{budget.outer_population}x{budget.outer_generations}, {budget.survivors} searched",
        "inner": f"{budget.inner_population}x{budget.inner_generations}",
        "space": f"{config.space} ({config.space_sha256[:12]})",
        "table": f"{config.backend} ({config.table.sha256[:12]})",
        "supernet": config.checkpoint.sha256[:12],
        "exits": config.exits.sha256[:12] if config.exits else "own",
    }
    options = {f"strategy's {name}": str(value) for name, value in config.strategy_options.items()}
    return told | options | {f"problem's {name}": str(value) for name, value in config.options.items()}


def _steps(found: Found, count: int) -> tuple[Step, ...]:
    steps = []
    for i in spread(len(found.designs), count):
        design = found.designs[i]
        cascade, placed, level, point = found.choice(design)
        default = np.array([found.problem.default_point])
        here, there = (cascade.evaluate(placed[None], level[None], p[None]) for p in (default, point))
        whole = found.problem.static(np.array([design.stages[0].genes], np.int16))
        known = [m for m in TABLE_METRICS if m in whole and m in here.metrics]
        answers = found.run.store.get(design.answers or "")
        assert answers is not None  # `choice` has read it
        steps.append(
            Step(
                design=design.key,
                static_accuracy=float(answers.values["accuracy"]),
                accuracy=float(there.accuracy[0]),
                oracle_accuracy=float(there.oracle_accuracy[0]),
                static={m: float(whole[m][0]) for m in known},
                exits={m: float(here.metrics[m][0]) for m in known},
                clocks={m: float(there.metrics[m][0]) for m in known if cascade.points > 1},
            )
        )
    return tuple(steps)


def _of_table(folder: Path, config: tabular.Config) -> Side:
    rows = tabular.read_front(folder, config)
    return Side(
        folder=folder,
        said=f"{folder}: {len(rows)} architectures, {config.strategy}, {config.evaluations} evaluations, "
        f"seed {config.seed}",
        objectives=(
            Objective(name=config.maximize, unit="", sense="max"),
            Objective(name=config.minimize, unit="", sense="min"),
        ),
        values=rows,
        same={
            "objectives": f"{config.maximize}, {config.minimize}",
            "evidence": "published",
            "data": f"{config.file.name} ({config.sha256[:12]})",
        },
        other={
            "strategy": config.strategy,
            "seed": str(config.seed),
            "evaluations": str(config.evaluations),
            "limits": ", ".join(f"{k} {v:g}" for k, v in sorted(config.at_least.items())) or "none",
        },
    )
