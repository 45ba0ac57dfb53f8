"""Exits on a backbone: what a search asks for, what the answers become, and which chain a choice means."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import numpy as np
import pytest

from hwbench.errors import ConfigError, MissingRows
from hwbench.setting import Setting
from hwbench.store import Result, Store
from hwbench.table import LatencyTable
from models.space import load_space
from search import task
from search.found import Found, choice
from search.front import Front, Promise
from search.objective import static
from search.problems import exits
from search.run import Run
from tests.search.priced import FAST, SETTING, SLOW, table

DIGITS = load_space("digits")


def written(folder: Path, made: LatencyTable) -> Path:
    made.write(folder / "onnxruntime-digits")
    return folder / "onnxruntime-digits.csv"


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """Everything a search of exits needs, over a written table and a checkpoint that only has to exist."""
    checkpoint = tmp_path / "digits.safetensors"
    checkpoint.write_bytes(b"weights")
    return {
        "space": "digits",
        "target": "host",
        "backend": "onnxruntime",
        "table": written(tmp_path, table(DIGITS, (SLOW, FAST))),
        "checkpoint": checkpoint,
        "dataset": "digits32",
        "objectives": ("latency",),
    }


def opened(options: dict[str, Any], **changes: Any) -> exits.Exits:
    return exits.open(exits.Options(**{**options, **changes}))


def answers(problem: exits.Exits, genes: np.ndarray, rng: np.random.Generator, *, with_exits: bool = True) -> Result:
    """What an `answers` task returns, invented: later exits are right more often."""
    positions = [*(problem.positions(genes) if with_exits else []), -1]
    label = rng.integers(0, 10, 200).astype(np.int16)
    right = rng.random((200, len(positions))) < np.linspace(0.6, 0.95, len(positions))
    return Result(
        arrays={
            "label": label,
            "answer": np.where(right, label[:, None], (label[:, None] + 1) % 10).astype(np.int16),
            "score": (right * 0.5 + rng.random(right.shape)).astype(np.float32),
            "positions": np.array(positions, dtype=np.int16),
        }
    )


def test_static_metrics_are_those_of_the_fastest_point(options: dict[str, Any], rng: np.random.Generator) -> None:
    """Vectorised over backbones, at the clocks that run the largest one fastest."""
    problem = opened(options)
    genes = DIGITS.sample(7, rng)
    static = problem.static(genes)
    network = problem.costs.network(genes)
    assert problem.costs.settings[1] == FAST
    assert set(static) == {"latency_ms", "energy_mj", "macs", "size_bytes", "memory_bytes"}
    for name in ("latency_ms", "energy_mj"):
        np.testing.assert_array_equal(static[name], network[name][1])
    np.testing.assert_array_equal(static["size_bytes"], 4 * DIGITS.params(genes))


def test_the_reference_is_worse_than_every_backbone(options: dict[str, Any], rng: np.random.Generator) -> None:
    """Accuracy 0 and more than the largest backbone costs, known before the search."""
    problem = opened(options, objectives=("latency", "size"))
    assert [o.name for o in problem.objectives] == ["accuracy", "latency_ms", "size_bytes"]
    static = problem.static(np.concatenate([DIGITS.sample(50, rng), DIGITS.largest()[None]]))
    assert problem.reference[0] == 0.0
    assert problem.reference[1] > static["latency_ms"].max()
    assert problem.reference[2] > static["size_bytes"].max()


def test_a_task_is_known_by_genes_exits_and_the_checkpoints_bytes(options: dict[str, Any], tmp_path: Path) -> None:
    """The same weights elsewhere ask the same; other genes, other weights and no exits are other tasks."""
    two = np.stack([DIGITS.smallest(), DIGITS.largest()])
    smallest, largest = (asked.key for asked in opened(options).tasks(two, exits=True))
    (without,) = opened(options).tasks(two[:1], exits=False)
    assert len({smallest, largest, without.key}) == 3
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(options["checkpoint"].read_bytes())
    assert opened(options, checkpoint=copy).tasks(two, exits=True)[0].key == smallest
    copy.write_bytes(b"other weights")
    assert opened(options, checkpoint=copy).tasks(two, exits=True)[0].key != smallest


def test_a_cascade_has_a_stage_for_each_exit_and_the_backbones_cost(
    options: dict[str, Any], rng: np.random.Generator
) -> None:
    """Without exits it costs what `static` says; every operating point of the table is there to choose."""
    problem = opened(options)
    genes = DIGITS.largest()
    cascade = problem.cascade(genes, answers(problem, genes, rng))
    assert cascade.stages == len(problem.positions(genes)) + 1
    assert cascade.settings == ((SLOW, FAST),) * cascade.stages
    none = np.zeros((1, cascade.stages), bool)
    outcome = cascade.evaluate(none, none.astype(np.uint8), np.array([[1]]))
    static = problem.static(genes[None])
    for name in ("latency_ms", "energy_mj", "macs", "size_bytes", "memory_bytes"):
        np.testing.assert_allclose(outcome.metrics[name], static[name], rtol=1e-12)


def test_answers_without_exits_are_a_cascade_of_one_stage(options: dict[str, Any], rng: np.random.Generator) -> None:
    problem = opened(options)
    genes = DIGITS.smallest()
    assert problem.cascade(genes, answers(problem, genes, rng, with_exits=False)).stages == 1


def test_answers_of_other_exits_are_refused(options: dict[str, Any], rng: np.random.Generator) -> None:
    problem = opened(options)
    of_smallest = answers(problem, DIGITS.smallest(), rng)
    with pytest.raises(ConfigError, match="another version of the space"):
        problem.cascade(DIGITS.largest(), of_smallest)


def test_scores_that_are_no_numbers_are_refused(options: dict[str, Any], rng: np.random.Generator) -> None:
    problem = opened(options)
    genes = DIGITS.largest()
    result = answers(problem, genes, rng)
    result.arrays["score"][:, 0] = np.nan
    with pytest.raises(ConfigError, match="diverged"):
        problem.cascade(genes, result)


def test_a_design_chains_the_placed_exits_at_its_point(options: dict[str, Any], rng: np.random.Generator) -> None:
    """Its thresholds are the cascade's float32 values, the last stage has none, the key of the answers is in it."""
    problem = opened(options)
    genes = DIGITS.largest()
    (asked,) = problem.tasks(genes[None], exits=True)
    cascade = problem.cascade(genes, answers(problem, genes, rng))
    placed = np.zeros(cascade.stages, bool)
    placed[[1, 3]] = True
    level = np.full(cascade.stages, 5, np.uint8)
    design = problem.design(genes, asked, cascade, placed, level, np.array([1]))
    at = problem.positions(genes)
    assert [s.position for s in design.stages] == [at[1], at[3], -1]
    assert [s.threshold for s in design.stages] == [cascade.threshold(1, 5), cascade.threshold(3, 5), None]
    assert {s.setting for s in design.stages} == {FAST}
    assert design.answers == asked.key
    assert tuple(genes) == design.stages[0].genes


def test_an_inner_search_gives_designs_that_beat_the_static_backbone(
    options: dict[str, Any], rng: np.random.Generator
) -> None:
    """From answers to a front: task, designs, promises; at equal accuracy some exits are cheaper than none."""
    problem = opened(options, constraints={"latency_ms": 5.0})
    genes = DIGITS.largest()
    (asked,) = problem.tasks(genes[None], exits=True)
    cascade = problem.cascade(genes, answers(problem, genes, rng))
    found = task.run(
        task.Task(
            kind="inner",
            args={
                "objectives": [o.name for o in problem.objectives],
                "limits": {c.objective.name: c.limit for c in problem.constraints},
                "generations": 20,
                "population": 40,
            },
            arrays=cascade.to_arrays(),
        )
    )
    choices = [found.arrays[name] for name in ("placed", "level", "point")]
    designs = [problem.design(genes, asked, cascade, *one) for one in zip(*choices, strict=True)]
    front = Front.of(problem.objectives, problem.reference, Promise.of(cascade, *choices, designs))
    np.testing.assert_array_equal(front.values, found.arrays["values"])
    assert front.hypervolume() > 0
    static = problem.static(genes[None])["latency_ms"][0]
    final = (cascade.answer[:, -1] == cascade.label).mean()
    assert any(accuracy >= final and latency_ms < static for accuracy, latency_ms in front.values)


def test_the_clocks_are_searched_and_all_else_must_be_one(tmp_path: Path, options: dict[str, Any]) -> None:
    """Several threads or units are a choice for the user; clocks as found are no point beside set ones."""
    two = Setting(unit="cpu", precision="fp32", threads=2)
    made = table(DIGITS, (SETTING, SLOW, FAST, two))
    chosen = exits.Options(**options)
    with pytest.raises(ConfigError, match=r"choose unit and threads .*threads=1, .*threads=2"):
        exits.points(made, chosen)
    assert exits.points(made, chosen.model_copy(update={"threads": 1})) == (SLOW, FAST)
    assert exits.points(made, chosen.model_copy(update={"threads": 2})) == (two,)
    with pytest.raises(ConfigError, match="no row has the unit, precision and threads"):
        exits.points(made, chosen.model_copy(update={"precision": "int8"}))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"target": "pi5"}, "is the table of host onnxruntime digits, not of pi5 onnxruntime digits"),
        ({"backend": "litert"}, "hwbench profile --target host --backend litert --space digits"),
        ({"space": "sdu"}, "not of host onnxruntime sdu"),
        ({"space": "digts"}, "did you mean 'digits'"),
        ({"objectives": ("enrgy",)}, "did you mean 'energy'"),
        ({"constraints": {"latency": 1.0}}, "unknown metric 'latency'"),
        ({"checkpoint": Path("nowhere.safetensors")}, "search train --space digits"),
        ({"table": Path("nowhere.csv")}, "hwbench profile"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_search(
    options: dict[str, Any], changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        opened(options, **changes)


def test_energy_needs_energy_rows(options: dict[str, Any], tmp_path: Path) -> None:
    silent = written(tmp_path / "silent", table(DIGITS, energy=False))
    assert "energy_mj" not in opened(options, table=silent).static(DIGITS.largest()[None])
    said = r"all rows are without energy_mj; give target host a \[\[meter\]\] or \[power\], then measure again: hwbench"
    with pytest.raises(MissingRows, match=said) as caught:
        opened(options, table=silent, objectives=("energy",))
    assert "\n" not in str(caught.value)


def test_exits_stand_behind_the_fifth_layer_at_the_earliest(options: dict[str, Any], rng: np.random.Generator) -> None:
    """Answers of all exits serve; the design names the right ones, and the backbone costs what it did."""
    every, late = opened(options), opened(options, first_layer=5)
    genes = DIGITS.largest()
    assert len(every.positions(genes)) - len(late.positions(genes)) == 4
    assert late.positions(genes) == every.positions(genes)[4:]
    # A stage more shallow counts its running layers only.
    shallow = DIGITS.smallest()
    assert late.positions(shallow) == []
    result = answers(every, genes, rng)
    whole, cut = every.cascade(genes, result), late.cascade(genes, result)
    np.testing.assert_array_equal(whole.answer[:, 4:], cut.answer)
    np.testing.assert_allclose(cut.step["macs"].sum(axis=1), whole.step["macs"].sum(axis=1), rtol=1e-12)
    placed = np.zeros(cut.stages, bool)
    placed[0] = True
    (asked,) = late.tasks(genes[None], exits=True)
    design = late.design(genes, asked, cut, placed, np.zeros(cut.stages, np.uint8), np.array([0]))
    assert [s.position for s in design.stages] == [every.positions(genes)[4], -1]


def test_a_score_has_the_static_backbone_as_its_measure(options: dict[str, Any], rng: np.random.Generator) -> None:
    """E_b and L_b at the default point; backbones are compared by accuracy, latency and energy, as in equation 3."""
    problem = opened(options, objectives=("score",), gamma=2.0)
    genes = DIGITS.largest()
    rule = problem.cascade(genes, answers(problem, genes, rng)).rule
    assert rule is not None
    whole = problem.static(genes[None])
    assert rule.baseline == {name: whole[name][0] for name in ("latency_ms", "energy_mj")}
    assert (rule.gamma, problem.reference) == (2.0, (0.0, 0.0))
    assert [o.name for o in static(problem.objectives)] == ["accuracy", "latency_ms", "energy_mj"]
    assert opened(options).cascade(genes, answers(problem, genes, rng)).rule is None


def test_a_score_without_energy_is_refused(options: dict[str, Any], tmp_path: Path) -> None:
    silent = written(tmp_path / "silent", table(DIGITS, energy=False))
    with pytest.raises(MissingRows, match="without energy_mj"):
        opened(options, table=silent, objectives=("score",))


def test_another_router_asks_another_score_and_the_default_keeps_its_key(options: dict[str, Any]) -> None:
    genes = DIGITS.largest()[None]
    default, entropy = (opened(options, router=r).tasks(genes, exits=True)[0] for r in ("max_softmax", "entropy"))
    assert "score" not in default.args
    assert entropy.args["score"] == "entropy"
    with pytest.raises(ValueError, match="router"):
        opened(options, router="certainty")


def test_patience_asks_for_no_score_of_its_own_and_one_number_for_all_exits(
    options: dict[str, Any], rng: np.random.Generator
) -> None:
    """Its answers are those of the default, so a run of the one knows what the other computed."""
    genes = DIGITS.largest()
    default, problem = opened(options), opened(options, router="patience", levels=3)
    (asked,) = problem.tasks(genes[None], exits=True)
    assert default.tasks(genes[None], exits=True)[0].key == asked.key
    result = answers(problem, genes, rng)
    cascade = problem.cascade(genes, result)
    exits_there = len(problem.positions(genes))
    assert cascade.patience and not default.cascade(genes, result).patience
    np.testing.assert_array_equal(cascade.levels, np.arange(1, exits_there + 1)[:, None] * np.ones(exits_there + 1))
    placed = np.isin(np.arange(cascade.stages), [1, 3, 4])
    design = problem.design(genes, asked, cascade, placed, np.full(cascade.stages, 1, np.uint8), np.array([1]))
    assert [(s.router, s.threshold) for s in design.stages] == [("patience", 2.0)] * 3 + [("patience", None)]
    (found, level, _) = choice(cascade, result.arrays["positions"].tolist(), design)
    np.testing.assert_array_equal(np.append(placed[:-1], True), found)
    assert {1} == set(level[placed].tolist())
    none = problem.cascade(genes, answers(problem, genes, rng, with_exits=False))
    assert (1, 1) == (none.stages, none.level_count)


def test_a_report_finds_the_choice_of_a_design_again(
    options: dict[str, Any], rng: np.random.Generator, tmp_path: Path
) -> None:
    """From the stored answers of all exits, also where the search used the later ones only."""
    problem = opened(options, first_layer=5)
    genes = DIGITS.largest()
    (asked,) = problem.tasks(genes[None], exits=True)
    result = answers(opened(options), genes, rng)
    cascade = problem.cascade(genes, result)
    placed = np.zeros(cascade.stages, bool)
    placed[[0, 3, -1]] = True
    level = np.where(placed, 5, 0).astype(np.uint8)
    level[-1] = 0
    design = problem.design(genes, asked, cascade, placed, level, np.array([1]))
    with Store(tmp_path / "store.sqlite") as store:
        store.put(asked.key, asked.kind, asked.args, result)
        run = create_autospec(Run, instance=True, store=store)
        found = Found(run=run, problem=problem, table=None, designs=(design,), promises={}, verified=())  # type: ignore[arg-type]
        _, *choice = found.choice(design)
        assert found.metric("exits").tolist() == [2.0]
    for told, expected in zip(choice, (placed, level, [1]), strict=True):
        np.testing.assert_array_equal(told, expected)
