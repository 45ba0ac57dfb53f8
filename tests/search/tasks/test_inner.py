"""The inner search finds what enumeration finds, keeps limits, and repeats itself."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from hwbench.errors import ConfigError
from hwbench.evidence import DECLARED, MEASURED
from hwbench.setting import Setting
from hwbench.store import Json
from search.cascade import Cascade, quantile_levels
from search.front import nondominated
from search.task import Task, run
from search.tasks.inner import Canonical, Change, Choices, Patient, clock_axes

SETTING = Setting(unit="cpu", precision="fp32")


def cascade(rng: np.random.Generator, stages: int = 4, levels: int = 3, points: int = 2) -> Cascade:
    """Later stages are right more often, scores tell, and the second point is slower and saves energy."""
    label = rng.integers(0, 10, 300)
    right = rng.random((300, stages)) < np.linspace(0.6, 0.95, stages)
    score = right * 0.5 + rng.random((300, stages))
    speed = np.linspace(1.0, 2.0, points)[:, None]
    return Cascade(
        label=label,
        answer=np.where(right, label[:, None], (label[:, None] + 1) % 10),
        score=score,
        levels=quantile_levels(score, levels),
        step={"latency_ms": speed * np.ones((1, stages)), "energy_mj": np.ones((1, stages)) / speed},
        ask={"latency_ms": speed * np.full((1, stages), 0.05), "energy_mj": np.full((1, stages), 0.04) / speed},
        settings=((SETTING,) * points,) * stages,
        evidence={"latency_ms": MEASURED, "energy_mj": MEASURED, "size_bytes": DECLARED},
        resident={"size_bytes": np.append(np.full(stages - 1, 10), 1000)},
    )


def patient(rng: np.random.Generator, exits: int = 4, points: int = 2) -> Cascade:
    """The same, with exits in a row that agree; patience from 1 to the number of exits."""
    levels = np.repeat(np.arange(1, max(exits, 1) + 1)[:, None], exits + 1, axis=1)
    return replace(cascade(rng, stages=exits + 1, points=points), patience=True, levels=levels)


def task(of: Cascade, **args: Json | list[str] | int) -> Task:
    asked = {"objectives": ["accuracy", "latency_ms"], "generations": 40, "population": 40, **args}
    return Task(kind="inner", args=asked, arrays=of.to_arrays())


def test_the_front_is_the_one_that_enumeration_finds(rng: np.random.Generator) -> None:
    """All 4³ × 2 choices are evaluated; the search evaluates a part of them and ends with the same values."""
    one = cascade(rng)
    every = np.array(list(itertools.product(range(4), range(4), range(4), range(2))))
    placed = np.c_[every[:, :3] < 3, np.ones(len(every), bool)]
    outcome = one.evaluate(placed, np.where(placed, np.c_[every[:, :3], every[:, :1]], 0), every[:, 3:])
    costs = np.c_[-outcome.accuracy, outcome.metrics["latency_ms"]]
    best = costs[nondominated(costs)]
    found = run(task(one)).arrays["values"]
    np.testing.assert_array_equal(np.unique(best * (-1, 1), axis=0), np.unique(found, axis=0))


def test_the_arrays_say_what_the_cascade_expects(rng: np.random.Generator) -> None:
    """Values, coverage and metrics belong to the choices beside them, from cheap to costly."""
    one = cascade(rng, stages=6)
    result = run(task(one, objectives=["accuracy", "energy_mj", "size_bytes"], generations=5))
    arrays = result.arrays
    outcome = one.evaluate(arrays["placed"], arrays["level"], arrays["point"])
    np.testing.assert_array_equal(arrays["coverage"], outcome.coverage)
    np.testing.assert_array_equal(arrays["oracle_accuracy"], outcome.oracle_accuracy)
    for name, metric in outcome.metrics.items():
        np.testing.assert_array_equal(arrays[f"metric.{name}"], metric)
    expected = np.c_[outcome.accuracy, outcome.metrics["energy_mj"], outcome.metrics["size_bytes"]]
    np.testing.assert_array_equal(arrays["values"], expected)
    assert (np.diff(arrays["values"][:, 1]) >= 0).all()
    # Duplicates of the first population are not evaluated; at the end each archived choice at most once more.
    assert 4 * 40 < result.values["evaluations"] <= 5 * 40 + 5 * 40
    # An exit where nobody leaves only costs.
    assert not (arrays["placed"] & (arrays["coverage"] == 0))[:, :-1].any()
    assert arrays["placed"][:, -1].all()
    assert not arrays["level"][~arrays["placed"]].any()


def test_the_same_task_gives_the_same_bytes_and_another_seed_others(rng: np.random.Generator) -> None:
    """All randomness comes from the task's key."""
    one = cascade(rng, stages=9, levels=16)
    first, again, other = (run(task(one, generations=4, seed=seed)).arrays for seed in (0, 0, 1))
    assert {name: array.tobytes() for name, array in first.items()} == {n: a.tobytes() for n, a in again.items()}
    assert first["values"].tobytes() != other["values"].tobytes()


def test_every_choice_keeps_the_limits(rng: np.random.Generator) -> None:
    one = cascade(rng, stages=6)
    arrays = run(task(one, limits={"latency_ms": 3.0, "accuracy": 0.7})).arrays
    assert len(arrays["values"]) > 1
    assert (arrays["metric.latency_ms"] <= 3.0).all()
    assert (arrays["accuracy"] >= 0.7).all()


def test_limits_that_nothing_keeps_give_an_empty_front_and_the_distance(rng: np.random.Generator) -> None:
    result = run(task(cascade(rng), limits={"size_bytes": 500.0}))
    assert len(result.arrays["values"]) == 0
    assert result.values["least_violation"] == 1.0
    assert result.values["missed"] == {"size_bytes": 1.0}


def test_limits_that_exclude_each_other_are_told_from_those_that_do_not(rng: np.random.Generator) -> None:
    """Each alone is kept by some choice, two are kept together, two never are."""
    one = cascade(rng, stages=6)
    free = run(task(one)).arrays
    cheap, sure = free["metric.latency_ms"].min(), free["accuracy"].max()
    limits = {"latency_ms": float(cheap) * 1.01, "accuracy": float(sure) - 0.05, "size_bytes": 2000.0}
    missed = run(task(one, limits=limits)).values["missed"]
    assert [0.0] * 3 == [missed.pop(name) for name in limits]
    assert missed["accuracy latency_ms"] > 0 == missed["accuracy size_bytes"]
    assert 3 == len(missed)


def test_the_first_population_holds_no_exit_and_each_single_exit(rng: np.random.Generator) -> None:
    """The static network is always among the candidates, so that dynamic ones have to beat it."""
    one = cascade(rng, stages=6)
    choices = Choices(one, (), ())
    placed, _, _ = choices.decode(choices.first(20, rng))
    assert placed[0].tolist() == [False] * 5 + [True]
    np.testing.assert_array_equal(placed[1:6, :-1], np.eye(5, dtype=bool))
    assert set(placed[6:].sum(axis=1)) >= {2, 4}


def test_a_mutation_changes_one_gene_on_average_and_stays_inside(rng: np.random.Generator) -> None:
    """Small integers really change, whatever their range; a gene with one value stays."""
    one = cascade(rng, stages=6, levels=5, points=1)
    choices = Choices(one, (), ())
    before = choices.first(4000, rng)
    after = Change()._do(choices, before, random_state=rng)
    assert ((after >= 0) & (after <= choices.xu)).all()
    assert (after[:, -1] == 0).all()
    assert (after != before).sum(axis=1).mean() == pytest.approx(5 / 6, abs=0.05)


def test_a_backbone_without_exits_has_its_points_to_choose_from(rng: np.random.Generator) -> None:
    """A single stage: one choice for each operating point, and no crash where only one is left."""
    both = run(task(cascade(rng, stages=1), objectives=["accuracy", "latency_ms", "energy_mj"]))
    assert both.arrays["point"].tolist() == [[0], [1]]
    single = run(task(cascade(rng, stages=1, points=1)))
    assert single.arrays["placed"].tolist() == [[True]]


def test_a_metric_that_the_cascade_does_not_know_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(ConfigError, match="memory_bytes is asked, but only accuracy, energy_mj,"):
        run(task(cascade(rng), objectives=["accuracy", "memory_bytes"]))


def at(*clocks: tuple[str, float | str]) -> Setting:
    return Setting(unit="gpu", precision="fp32", clocks=clocks)


GRID = tuple(at(("emc", e), ("gpu", g), ("mode", "MAXN")) for e in (204.0, 800.0, 1866.0) for g in (114.75, 727.0))


def test_each_clock_of_a_grid_is_a_gene_of_its_own() -> None:
    """A clock with one value is none; points that are no grid stay a list."""
    assert clock_axes(GRID) == (3, 2)
    assert clock_axes(GRID[:-1]) == (5,)
    assert clock_axes((GRID[1], GRID[0], *GRID[2:])) == (6,)
    assert clock_axes((SETTING,) * 4) == (4,)
    assert clock_axes((SETTING,)) == (1,)


def test_clock_genes_mean_the_operating_point_that_they_name(rng: np.random.Generator) -> None:
    """All six points of a grid of 3 × 2 are reached, each by its own pair of genes."""
    one = replace(cascade(rng, stages=1, points=6), settings=(GRID,))
    choices = Choices(one, (), ())
    genes = np.array([[e, g] for e in range(3) for g in range(2)])
    assert choices.decode(genes)[2][:, 0].tolist() == list(range(6))


def test_a_search_over_a_grid_finds_what_one_over_the_list_finds(rng: np.random.Generator) -> None:
    """Genes change the way, not the front."""
    listed = cascade(rng, stages=3, points=6)
    grid = replace(listed, settings=(GRID,) * 3)
    values = [np.unique(run(task(one)).arrays["values"], axis=0) for one in (listed, grid)]
    np.testing.assert_array_equal(*values)


def test_at_most_so_many_exits(rng: np.random.Generator) -> None:
    """The number of exits is a metric like any other, so it can be limited."""
    one = cascade(rng, stages=7)
    one = replace(
        one, resident={**one.resident, "exits": np.append(np.ones(6), 0)}, evidence={**one.evidence, "exits": DECLARED}
    )
    free, limited = (run(task(one, limits=limits)).arrays["placed"][:, :-1] for limits in ({}, {"exits": 1.0}))
    assert free.sum(axis=1).max() > 1
    assert limited.sum(axis=1).max() == 1


def every_patient(one: Cascade) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All placements × patiences × points, in the arguments of `evaluate`; also those that can leave nowhere."""
    exits, points = one.stages - 1, one.points
    every = np.array(list(itertools.product(*[(0, 1)] * exits, range(one.level_count), range(points))))
    placed = np.c_[every[:, :exits] == 1, np.ones(len(every), bool)]
    return placed, np.repeat(every[:, exits, None], exits + 1, axis=1), every[:, -1:]


def test_with_patience_the_front_is_the_one_that_enumeration_finds(rng: np.random.Generator) -> None:
    """2⁴ placements × 4 patiences × 2 points: no value is missed for a genome that was made canonical."""
    one = patient(rng)
    outcome = one.evaluate(*every_patient(one))
    costs = np.c_[-outcome.accuracy, outcome.metrics["latency_ms"]]
    best = costs[nondominated(costs)]
    found = run(task(one, generations=15)).arrays
    np.testing.assert_array_equal(np.unique(best * (-1, 1), axis=0), np.unique(found["values"], axis=0))
    assert len(set(found["level"].max(axis=1).tolist())) > 1
    again = one.evaluate(found["placed"], found["level"], found["point"])
    np.testing.assert_array_equal(again.accuracy, found["accuracy"])


def test_more_patience_than_exits_means_as_many_as_there_are(rng: np.random.Generator) -> None:
    """Such a genome could leave nowhere; it takes the one form of what it means, and what is canonical stays."""
    choices = Patient(patient(rng), (), ())
    given = [[1, 0, 1, 0, 3, 1], [0, 0, 0, 0, 2, 0], [1, 1, 1, 1, 3, 0], [1, 1, 1, 0, 0, 1]]
    genes = choices.canonical(np.array(given))
    assert genes.tolist() == [[1, 0, 1, 0, 1, 1], [0, 0, 0, 0, 0, 0], *given[2:]]
    placed, level, _ = choices.decode(genes)
    # At the last exit a run can be as long as there are exits, so every patience may be reached.
    assert (choices.cascade.threshold(0, int(level[0, 0])), placed[0].sum()) == (2.0, 3)
    np.testing.assert_array_equal(genes, choices.canonical(genes))
    first = choices.first(200, rng)
    np.testing.assert_array_equal(first, choices.canonical(first))
    np.testing.assert_array_equal(choices.decode(first)[0][:5, :-1], np.eye(5, 4, k=-1, dtype=bool))
    children = Change()._do(choices, first, random_state=rng)
    assert (children != choices.canonical(children)).any()
    np.testing.assert_array_equal(choices.canonical(children), Canonical()._do(choices, children))


def test_an_exit_where_nobody_leaves_stays_where_it_ends_or_lengthens_runs(rng: np.random.Generator) -> None:
    """With a patience of two nobody leaves at the first exit, and without it others would leave elsewhere."""
    one = patient(rng, exits=6, points=1)
    arrays = run(task(one, objectives=["accuracy", "latency_ms", "size_bytes"])).arrays
    waits = arrays["level"].max(axis=1) > 0
    placed, coverage = arrays["placed"][:, :-1], arrays["coverage"][:, :-1]
    assert waits.any()
    first = placed.argmax(axis=1)
    assert (coverage[waits, first[waits]] == 0).all()
    # Behind the last exit that is left there is none: it would only cost.
    last = 5 - placed[:, ::-1].argmax(axis=1)
    exits = placed.any(axis=1)
    assert (coverage[exits, last[exits]] > 0).all()


def test_with_patience_a_backbone_with_one_exit_or_none_can_be_searched(rng: np.random.Generator) -> None:
    """One exit: all leave there, or it is not placed."""
    none = run(task(patient(rng, exits=0, points=1))).arrays
    assert none["placed"].tolist() == [[True]]
    assert len(run(task(patient(rng, exits=1, points=1))).arrays["placed"]) == 2
