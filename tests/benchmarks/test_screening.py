"""What a predictor of accuracy is worth to a search over backbones: `--screen N` and `evolution` beside `nested`.

All ways ask for as many backbones and as many inner searches. Real subnets of the shipped digits supernet answer, with
its shared exits, on the simulated TX2; fewer samples than a search takes, so that many seeds fit into minutes: their
accuracies are coarser, the comparison is the same for all. Hypervolume on one scale: ideal and nadir of all fronts
found, reference 1.1. A backbone that two ways ask is computed once. A quarter of an hour on one core.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwbench.store import Result
from search import budgets, launch
from search.engine import Engine
from search.engines import local
from search.front import Front
from search.metrics import Measure
from search.problem import Problem
from search.strategies import evolution, nested, random
from search.strategy import Strategy
from search.task import Task
from tests.search.conftest import installed

OUTER, INNER, SURVIVORS, SEEDS = "8x5", "30x15", 2, 7
SAMPLES = {"train": 256, "val": 355}
WAYS = {
    "nested": lambda: nested.open(nested.Options()),
    "nested --screen 4": lambda: nested.open(nested.Options(screen=4)),
    "nested --screen 16": lambda: nested.open(nested.Options(screen=16)),
    "evolution": lambda: evolution.open(evolution.Options()),
    "random": lambda: random.open(random.Options()),
}


class Asked:
    """Runs what searches ask, each question once; counts backbones."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[str, Result] = {}

    def fronts(self, strategy: Strategy, problem: Problem, seed: int) -> tuple[list[Front], int]:
        """The archive after each generation, and how many backbones were evaluated."""
        budget = budgets.budget("small", outer=OUTER, inner=INNER, survivors=SURVIVORS)
        dialogue: Any = strategy.search(problem, budget, np.random.default_rng(seed))
        found: list[Front] = []
        backbones, step = 0, next(dialogue)
        try:
            while True:
                backbones += sum(task.args.get("exits") is False for task in step)
                step = dialogue.send(self._answers(step))
                if strategy.front is not None and step[0].args.get("exits") is False:
                    found.append(strategy.front)
        except StopIteration as end:
            return [*found, end.value], backbones

    def _answers(self, tasks: Sequence[Task]) -> list[Result]:
        missing = {task.key: task for task in tasks if task.key not in self._known}
        for done in self._engine.run(list(missing.values())):
            self._known[done.task.key] = done.result
        return [self._known[task.key] for task in tasks]


@pytest.fixture
def problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Problem]:
    """Accuracy against energy; data of fewer samples, from outside the project."""
    with installed(tmp_path / "site", monkeypatch):
        import few

        monkeypatch.setattr(few, "_COUNT", SAMPLES)
        few._few.cache_clear()
        config = launch.configure(
            objectives=["energy"], limits={}, target="jetson-tx2", space="digits", backend="roofline", table=None,
            checkpoint=None, exits="shared", dataset="few", problem="exits", options={"unit": "gpu"},
            strategy="nested", budget=budgets.budget("small"), seed=0, command=["benchmark"],
        )  # fmt: skip
        yield launch.open_problem(config)
        few._few.cache_clear()


def costs(front: Front) -> np.ndarray:
    """(n, 2) accuracy turned, energy."""
    return np.array([[o.as_cost(p.metrics[o.name]) for o in front.objectives] for p in front.promises])


def test_what_a_predictor_is_worth(problem: Problem) -> None:
    """Medians over seeds, at equal evaluations; told, and neither way may lose what blind drawing has."""
    began = time.process_time()
    fronts: dict[str, list[list[Front]]] = {way: [] for way in WAYS}
    asked: dict[str, set[int]] = {way: set() for way in WAYS}
    with local.open(local.Options(workers=0)) as engine:
        lab = Asked(engine)
        for seed in range(SEEDS):
            for way, opened in WAYS.items():
                found, backbones = lab.fronts(opened(), problem, seed)
                fronts[way].append(found)
                asked[way].add(backbones)
    every = [costs(found[-1]) for searches in fronts.values() for found in searches]
    measure = Measure.of(every)
    best = measure.hypervolume(np.concatenate(every))
    volume = {
        way: np.array([[measure.hypervolume(costs(front)) / best for front in found] for found in searches])
        for way, searches in fronts.items()
    }
    print(f"\n{OUTER} backbones, {SURVIVORS} of a generation with {INNER} choices of exits and clocks, {SEEDS} seeds; "
          f"{time.process_time() - began:.0f} s of computing; % of the hypervolume of all fronts together")  # fmt: skip
    print(f"{'way':<20}{'backbones':>10}{'median after each generation':>48}{'worst':>8}{'beats nested':>14}")
    for way, reached in volume.items():
        medians = "".join(f"{100 * m:8.2f}" for m in np.median(reached, axis=0))
        wins = f"{int((reached[:, -1] > volume['nested'][:, -1]).sum())} of {SEEDS}" if way != "nested" else ""
        print(f"{way:<20}{min(asked[way]):>10}{medians:>48}{100 * reached[:, -1].min():>8.2f}{wins:>14}")
    assert all({40} == count for count in asked.values())
    for way in ("nested", "nested --screen 4", "evolution"):
        assert np.median(volume[way][:, -1]) >= np.median(volume["random"][:, -1]), way
