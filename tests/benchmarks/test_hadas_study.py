"""What exits and clocks bring on TX2 and AGX Xavier, GPU and CPU: Figures 1, 6, 7 and Table III of HADAS (paper 001).

The boards are simulated, the images are digits: the paper's figures stand beside ours to compare the shape, not the
size. Everything is chosen on `val` and told on `test`. Baselines come from a search that knows neither exits nor board
(accuracy against multiply-accumulates) and get the inner budget that our backbones get, as in section V-B; the paper
takes a0 to a6 of AttentiveNAS, of which no weights for digits exist. That exits with clocks beat exits alone on `val`
is inclusion of sets and proves nothing; on unseen data at equal accuracy it may fail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pytest

from hwbench.store import Result
from search import budgets, by_source, launch
from search.cascade import Cascade
from search.engine import Engine
from search.engines import local
from search.found import choice
from search.front import Front, Promise
from search.metrics import Measure, dominating
from search.problem import Problem
from search.strategies import nested
from search.strategy import Dialogue, inner_searches
from search.task import File, Task
from search.verify import spread

UNITS = (("jetson-tx2", "gpu"), ("jetson-tx2", "cpu"), ("jetson-agx-xavier", "gpu"), ("jetson-agx-xavier", "cpu"))
OUTER, INNER, SURVIVORS, SEED, BASELINES = "12x4", "50x70", 4, 7, 7
GAMMAS = (1.0, 2.0, 4.0)


class Lab:
    """Runs what a search asks, each question once: a backbone answers the same whatever board it is priced for."""

    def __init__(self, engine: Engine) -> None:
        self.known: dict[str, Result] = {}
        self._engine = engine

    def all(self, tasks: Sequence[Task]) -> list[Result]:
        missing = {t.key: t for t in tasks if t.key not in self.known}
        for done in self._engine.run(list(missing.values())):
            self.known[done.task.key] = done.result
        return [self.known[t.key] for t in tasks]

    def played(self, dialogue: Any) -> Any:
        """What a generator of tasks returns in the end."""
        try:
            step = next(dialogue)
            while True:
                step = dialogue.send(self.all(step))
        except StopIteration as end:
            return end.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A design on `test`: whether each sample is right, its oracle accuracy and energy; on `val`: accuracy, energy."""

    genes: tuple[int, ...]
    right: np.ndarray
    source: np.ndarray | None
    oracle: float
    energy_mj: float
    val: float

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())


class Board:
    """One processor of one simulated board, its clocks searched or left where they are fastest."""

    def __init__(self, lab: Lab, target: str, unit: str, **words: Any) -> None:
        self.lab = lab
        self.config = launch.configure(
            objectives=words.pop("objectives", ("energy",)), limits={}, target=target, space="digits",
            backend="roofline", table=None, checkpoint=None, exits="shared", dataset=None, problem="exits",
            options={"unit": unit, **words}, strategy="nested", seed=SEED, command=["study"],
            budget=budgets.budget("small", outer=OUTER, inner=INNER, survivors=SURVIVORS),
        )  # fmt: skip
        self.problem: Problem = launch.open_problem(self.config)

    def nested(self) -> Front:
        strategy = nested.open(nested.Options())
        dialogue: Dialogue = strategy.search(self.problem, self.config.budget, np.random.default_rng(SEED))
        return cast(Front, self.lab.played(dialogue))

    def inner(self, backbones: Sequence[tuple[int, ...]]) -> list[Front]:
        genes = np.array(backbones, np.int16)
        rng = np.random.default_rng(SEED)
        return cast(list[Front], self.lab.played(inner_searches(self.problem, self.config.budget, genes, rng)))

    def answers(self, genes: tuple[int, ...], *, exits: bool) -> tuple[Task, Result]:
        task = self.problem.tasks(np.array([genes], np.int16), exits=exits)[0]
        return task, self.lab.all([task])[0]

    def unseen(self, genes: tuple[int, ...]) -> Result:
        """The backbone with its exits answers `test`."""
        task, result = self.answers(genes, exits=True)
        state = {n: a for n, a in result.arrays.items() if n.startswith(("norm/", "head/"))}
        files = {"checkpoint": File.of(self.config.checkpoint.path)}
        return self.lab.all([Task(kind="answers", args={**task.args, "split": "test"}, arrays=state, files=files)])[0]

    def told(self, promise: Promise) -> Told:
        genes = promise.design.stages[0].genes
        _, on_val = self.answers(genes, exits=True)
        on_test = self.unseen(genes)
        cascade = self.problem.cascade(np.array(genes, np.int16), on_val)
        placed, level, point = choice(cascade, on_val.arrays["positions"].tolist(), promise.design)
        answer, score = (on_test.arrays[n][:, -cascade.stages :] for n in ("answer", "score"))
        now: Cascade = replace(cascade, label=on_test.arrays["label"], answer=answer, score=score)
        outcome = now.evaluate(placed[None], level[None], point[None])
        leaves = now.leaves_at(placed, level)
        return Told(
            genes=genes,
            right=answer[np.arange(len(leaves)), leaves] == now.label,
            source=on_test.arrays.get("source"),
            oracle=float(outcome.oracle_accuracy[0]),
            energy_mj=float(outcome.metrics["energy_mj"][0]),
            val=promise.metrics["accuracy"],
        )

    def static(self, genes: tuple[int, ...]) -> Told:
        """The backbone alone at the fastest clocks."""
        _, result = self.answers(genes, exits=True)
        on_test = self.unseen(genes)
        right = on_test.arrays["answer"][:, -1] == on_test.arrays["label"]
        energy = float(self.problem.static(np.array([genes], np.int16))["energy_mj"][0])
        return Told(
            genes=genes, right=right, source=on_test.arrays.get("source"), oracle=float(right.mean()),
            energy_mj=energy, val=float((result.arrays["answer"][:, -1] == result.arrays["label"]).mean()),
        )  # fmt: skip


def cheapest(promises: Sequence[Promise], accuracy: float) -> Promise:
    """The cheapest that is at least so accurate on `val`; where none is, the most accurate one."""
    good = [p for p in promises if p.metrics["accuracy"] >= accuracy]
    if good:
        return min(good, key=lambda p: p.metrics["energy_mj"])
    return max(promises, key=lambda p: p.metrics["accuracy"])


def gap(a: Told, b: Told) -> str:
    """Points by which a is more accurate on `test`, with 95 % over source images, both on the same draws."""
    draws = [by_source.resampled(by_source.counts(t.right, t.source), np.random.default_rng(SEED)) for t in (a, b)]
    low, high = 100 * np.quantile(draws[0] - draws[1], [0.025, 0.975])
    return f"{100 * (a.accuracy - b.accuracy):+.2f} points ({low:+.2f} to {high:+.2f})"


def plane(told: Sequence[Told]) -> np.ndarray:
    """(n, 2) costs on `test`: one minus accuracy, energy."""
    return np.array([[1 - t.accuracy, t.energy_mj] for t in told])


def of_val(promises: Sequence[Promise], accuracy: str = "accuracy") -> np.ndarray:
    return np.array([[1 - p.metrics[accuracy], p.metrics["energy_mj"]] for p in promises])


def versus(a: np.ndarray, b: np.ndarray) -> str:
    measure = Measure.of([a, b])
    ours, theirs = (measure.hypervolume(x) for x in (a, b))
    return (
        f"{len(a)} and {len(b)} designs, hypervolume {ours:.4f} against {theirs:.4f} ({100 * (ours / theirs - 1):+.1f} "
        f"%), ratio of dominance {100 * dominating(a, b):.0f} % against {100 * dominating(b, a):.0f} %"
    )


def conventional(lab: Lab) -> list[tuple[int, ...]]:
    """Backbones along the front of accuracy and multiply-accumulates, found without exits, clocks or a board."""
    board = Board(lab, *UNITS[0], objectives=("macs",), clocks="default")
    seen: dict[tuple[int, ...], float] = {}
    dialogue = nested.open(nested.Options()).search(
        board.problem, replace(board.config.budget, survivors=1, inner_generations=1), np.random.default_rng(SEED)
    )
    step = next(dialogue)
    try:
        while True:
            results = lab.all(step)
            for task, result in zip(step, results, strict=True):
                if task.kind == "answers":
                    seen[tuple(task.args["genes"])] = float(result.values["accuracy"])
            step = dialogue.send(results)
    except StopIteration:
        pass
    genes = list(seen)
    macs = board.problem.static(np.array(genes, np.int16))["macs"]
    order = np.argsort(macs)
    front = [i for n, i in enumerate(order) if all(seen[genes[i]] > seen[genes[j]] for j in order[:n])]
    return [genes[front[n]] for n in spread(len(front), BASELINES)]


def row(name: str, static: Told, exits: Told, clocks: Told) -> str:
    three = (static, exits, clocks)
    return (
        f"  {name:<4} {100 * static.accuracy:6.2f} {100 * exits.accuracy:6.2f} ({100 * exits.oracle:5.2f}) "
        f"{100 * clocks.accuracy:6.2f}   " + " ".join(f"{t.energy_mj:8.3f}" for t in three)
    )


@pytest.fixture(scope="module")
def lab() -> Any:
    with local.open(local.Options(workers=None)) as engine:
        yield Lab(engine)


@pytest.fixture(scope="module")
def baselines(lab: Lab) -> list[tuple[int, ...]]:
    return conventional(lab)


@pytest.mark.parametrize(("target", "unit"), UNITS)
def test_exits_and_clocks_at_equal_accuracy(
    lab: Lab, baselines: list[tuple[int, ...]], target: str, unit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Table III, Figures 1 and 6, on one processor."""
    whole, fast = Board(lab, target, unit), Board(lab, target, unit, clocks="default")
    ours = whole.nested()
    theirs = whole.inner(baselines)
    together = theirs[0].merge(*theirs[1:])
    names = {f"a{n}": genes for n, genes in enumerate(baselines)}
    static = {name: fast.static(genes) for name, genes in names.items()}
    largest = f"a{len(baselines) - 1}"
    levels = [static[largest].val, static[f"a{len(baselines) // 2}"].val, static["a0"].val]
    found = {f"b{n + 1}": cheapest(ours.promises, level) for n, level in enumerate(levels)}

    lines = [
        "",
        f"{target} {unit}, evidence {ours.promises[0].evidence['energy_mj']}; outer {OUTER}, {SURVIVORS} survivors, "
        f"inner {INNER}, seed {SEED}; {len(static['a0'].right)} samples of test",
        "       accuracy on test, %                energy, mJ per input",
        "       static exits (oracle) + clocks     static    exits + clocks",
    ]
    told: dict[str, Told] = {}
    for n, (name, genes) in enumerate(names.items()):
        dynamic = cheapest(fast.inner([genes])[0].promises, static[name].val)
        told[name] = whole.told(cheapest(theirs[n].promises, static[name].val))
        lines.append(row(name, static[name], fast.told(dynamic), told[name]))
    for (name, promise), level in zip(found.items(), levels, strict=True):
        genes = promise.design.stages[0].genes
        told[name] = whole.told(promise)
        dynamic = cheapest(fast.inner([genes])[0].promises, level)
        same = next((f"  = {a}" for a, b in names.items() if b == genes), "")
        lines.append(row(name, fast.static(genes), fast.told(dynamic), told[name]) + same)
    b1, dynamic_a = told["b1"], told[largest]
    on_test = [plane([whole.told(p) for p in front.promises]) for front in (ours, together)]
    lines += [
        f"  energy of b1: {b1.energy_mj / static[largest].energy_mj:.2f} of {largest} static "
        f"({gap(b1, static[largest])}), {b1.energy_mj / dynamic_a.energy_mj:.2f} of {largest} with exits and clocks "
        f"({gap(b1, dynamic_a)}); paper, TX2 GPU, measured: 0.28 and 0.43",
        f"  largest gain over its own backbone: {100 * gain(whole, fast, ours):.0f} % ours, "
        f"{100 * gain(whole, fast, together):.0f} % theirs (paper, Carmel CPU: 63 and 52 %)",
        f"  val:  {versus(of_val(ours.promises), of_val(together.promises))}",
        f"  test: {versus(*on_test)} (paper, TX2 GPU: 16 % more hypervolume, ratio of dominance 95 points more)",
    ]
    with capsys.disabled():
        print("\n".join(lines))
    assert b1.energy_mj < static[largest].energy_mj


def gain(whole: Board, fast: Board, front: Front) -> float:
    """The largest share of its backbone's static energy that a design saves, no less accurate than that on `val`."""
    gains = [0.0]
    for promise in front.promises:
        genes = promise.design.stages[0].genes
        alone = fast.static(genes)
        if promise.metrics["accuracy"] >= alone.val:
            gains.append(1 - whole.told(promise).energy_mj / alone.energy_mj)
    return max(gains)


def test_dissimilarity(lab: Lab, baselines: list[tuple[int, ...]], capsys: pytest.CaptureFixture[str]) -> None:
    """Figure 7: the inner search of one backbone by accuracy and score, with and without dissimilar exits."""
    fronts: Mapping[float, Front] = {
        gamma: Board(lab, *UNITS[0], objectives=("score",), gamma=gamma).inner([baselines[-1]])[0]
        for gamma in (0.0, *GAMMAS)
    }
    lines = ["", f"{' '.join(UNITS[0])}, inner {INNER} on a{len(baselines) - 1}, seed {SEED}: with γ against γ = 0"]
    for gamma in GAMMAS:
        for accuracy in ("accuracy", "oracle_accuracy"):
            a, b = (of_val(fronts[g].promises, accuracy) for g in (gamma, 0.0))
            lines.append(f"  γ = {gamma:g}, {accuracy} and energy: {versus(a, b)}")
    lines.append("  (paper: 41 points more in the ratio of dominance)")
    with capsys.disabled():
        print("\n".join(lines))
    assert all(f.promises for f in fronts.values())
