"""What a second worker of a Ray cluster is worth where evaluations take the time, one and two in one run.

The evaluations are real: exits trained on a backbone of `digits` by the shipped supernet, one thread each. All are of
one backbone: of different ones the last may be the longest, and with a handful the wait for it would be all one sees.
"""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from hwbench.pytest_plugin import HwbenchSeconds
from models.space import load_space
from search import budgets
from search.engine import Engine
from search.launch import configure, open_problem
from search.problem import Problem

pytest.importorskip("ray", reason="the extra `ray` is not installed")
from search.engines import ray

TASKS = 6
SEED = 26


@pytest.fixture(scope="module")
def problem() -> Problem:
    """Energy of a simulated TX2; each backbone trains its own exits."""
    config = configure(
        objectives=("energy",), limits={}, target="jetson-tx2", space="digits", backend="roofline", table=None,
        checkpoint=None, exits="own", dataset=None, problem="exits", options={}, strategy="nested",
        budget=budgets.budget("small", outer=None, inner=None, survivors=None), seed=0, command=["search"],
    )  # fmt: skip
    return open_problem(config)


def seconds(engine: Engine, problem: Problem) -> float:
    """For TASKS evaluations, by workers that have begun before: each has answered one, so all is imported."""
    backbone = load_space("digits").sample(1, np.random.default_rng(SEED))
    assert len(list(engine.run(problem.tasks(backbone.repeat(engine.workers, axis=0), exits=True)))) == engine.workers
    start = time.perf_counter()
    assert len(list(engine.run(problem.tasks(backbone.repeat(TASKS, axis=0), exits=True)))) == TASKS
    return time.perf_counter() - start


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two workers need two cores")
def test_two_ray_workers_are_worth_nearly_two(
    problem: Problem, capsys: pytest.CaptureFixture[str], hwbench_seconds: HwbenchSeconds
) -> None:
    """At least 1.7 times the evaluations, the better of two rounds each."""
    took: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(2):
        for workers, each in took.items():
            with ray.open(ray.Options(workers=workers)) as engine:
                each.append(seconds(engine, problem))
    one, two = (min(each) for each in took.values())
    hwbench_seconds(one, "one worker")
    hwbench_seconds(two, "two workers")
    with capsys.disabled():
        print(f"\n{TASKS} evaluations (exits trained), best of 2: one worker {one:.1f} s, two {two:.1f} s")
        print(f"two Ray workers against one: {one / two:.2f}x (asked: 1.7)")
    assert one / two >= 1.7
