"""Every controller at equal energy: the same backbones, exits and answers, and only who decides is another one.

Everything is chosen on `val` (each controller gets the same inner search) and told on `test`. What an input costs is
the simulated table's; a learned gate's own time is in no table and is told beside: the segments of one network as ONNX,
with the gate and without.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from hwbench.onnx_graph import runtime_session
from hwbench.store import Result
from search import budgets, by_source, export, launch
from search.cascade import Cascade
from search.design import Design
from search.export import STATE
from search.found import choice
from search.router import ROUTERS, score_of
from search.strategy import inner_searches
from search.task import File, Task, run

TARGET, UNIT, INNER = "jetson-tx2", "gpu", "50x20"
SEEDS = (0, 1, 2)  # of exits, gates and searches
BACKBONES, DRAWN = 2, 11  # drawn at random beside the smallest and the largest; the seed of the draw
SHARES = np.array([0.5, 0.6, 0.7, 0.8, 0.9])  # of the static backbone's energy
DEFAULT = "max_softmax"


def problem(router: str, seed: int) -> tuple[launch.Config, Any]:
    """Exits shared by all backbones, at the fastest clocks: only the controller differs."""
    config = launch.configure(
        objectives=("energy",), limits={}, target=TARGET, space="digits", backend="roofline", table=None,
        checkpoint=None, exits="shared", dataset=None, problem="exits", strategy="nested", seed=seed,
        options={"unit": UNIT, "router": router, "clocks": "default"}, command=["controllers"],
        budget=budgets.budget("small", outer="4x1", inner=INNER, survivors=1),
    )  # fmt: skip
    return config, launch.open_problem(config)


class Trained:
    """One backbone with exits and gates of one seed; answers `val` and `test` by any score, trained once."""

    def __init__(self, genes: np.ndarray, seed: int) -> None:
        self.genes, self.seed = genes, seed
        config, asked = problem("learned", seed)
        self._task: Task = asked.tasks(genes[None], exits=True)[0]
        self._files = {"checkpoint": File.of(config.checkpoint.path)}
        self._known: dict[tuple[str, str], Result] = {("learned", "val"): run(self._task)}
        learned = self._known["learned", "val"].arrays
        self.state = {name: array for name, array in learned.items() if name.startswith(STATE)}

    def answers(self, score: str, split: str) -> Result:
        if (score, split) not in self._known:
            args = {**self._task.args, "score": score, "split": split}
            self._known[score, split] = run(replace(self._task, args=args, arrays=self.state, files=self._files))
        return self._known[score, split]

    def designs(self, router: str) -> list[tuple[Design, Cascade, Result]]:
        """What the inner search finds on `val` with this controller."""
        config, asked = problem(router, self.seed)
        on_val = self.answers(score_of(router), "val")
        dialogue = inner_searches(asked, config.budget, self.genes[None], np.random.default_rng(self.seed))
        next(dialogue)
        inner = dialogue.send([on_val])
        try:
            dialogue.send([run(task) for task in inner])
        except StopIteration as end:
            (front,) = end.value
        cascade = asked.cascade(self.genes, on_val)
        return [(promise.design, cascade, on_val) for promise in front.promises]

    def told(self, router: str) -> np.ndarray:
        """(len(SHARES), N) whether `test` is answered rightly by the design that is best on `val` at each energy."""
        designs = self.designs(router)
        chosen = [choice(cascade, on_val.arrays["positions"].tolist(), d) for d, cascade, on_val in designs]
        cascade = designs[0][1]
        placed, level, point = (np.stack(column) for column in zip(*chosen, strict=True))
        on_val = cascade.evaluate(placed, level, point)
        unseen = self.answers(score_of(router), "test").arrays
        answer, score = (unseen[n][:, -cascade.stages :] for n in ("answer", "score"))
        now = replace(cascade, label=unseen["label"], answer=answer, score=score)
        whole = float(problem(router, self.seed)[1].static(self.genes[None])["energy_mj"][0])
        found = []
        for share in SHARES:
            fits = np.flatnonzero(on_val.metrics["energy_mj"] <= share * whole)
            best = fits[np.argmax(on_val.accuracy[fits])] if len(fits) else int(on_val.metrics["energy_mj"].argmin())
            leaves = now.leaves_at(placed[best], level[best])
            found.append(answer[np.arange(len(leaves)), leaves] == now.label)
        return np.array(found)


def test_controllers_at_equal_energy(capsys: pytest.CaptureFixture[str]) -> None:
    """Mean accuracy on `test` over backbones, seeds and energies, against the default on the same draws of sources."""
    space = problem(DEFAULT, 0)[1].space
    drawn = [space.smallest(), *space.sample(BACKBONES, np.random.default_rng(DRAWN)), space.largest()]
    right: dict[str, list[np.ndarray]] = {router: [] for router in ROUTERS}
    source = None
    for genes in drawn:
        for seed in SEEDS:
            trained = Trained(genes, seed)
            for router in ROUTERS:
                right[router].append(trained.told(router))
            source = trained.answers(DEFAULT, "test").arrays["source"]
    every = {router: np.array(found) for router, found in right.items()}  # (runs, energies, N)
    default = every[DEFAULT]
    lines = [
        "",
        f"{TARGET} {UNIT} (simulated), fastest clocks, inner {INNER}; {len(drawn)} backbones, seeds {SEEDS}, "
        f"{default.shape[-1]} samples of test; accuracy in %, at {', '.join(f'{s:.0%}' for s in SHARES)} of the static "
        "energy, mean; points against the default with 95 % over source images; runs won and lost",
    ]
    gains = {}
    for router, found in every.items():
        difference = (found.astype(float) - default).mean(axis=(0, 1))
        counted = by_source.counts(difference, source)
        low, high = 100 * np.quantile(by_source.resampled(counted, np.random.default_rng(0)), [0.025, 0.975])
        gains[router] = 100 * difference.mean()
        per_run = (found.mean(axis=-1) - default.mean(axis=-1)).mean(axis=1)
        accuracy = 100 * found.mean(axis=(0, 2))
        lines.append(
            f"  {router:<12} {' '.join(f'{a:5.2f}' for a in accuracy)}  {accuracy.mean():5.2f}  "
            f"{gains[router]:+.2f} ({low:+.2f} to {high:+.2f})  {(per_run > 0).sum()} : {(per_run < 0).sum()}"
        )
    with capsys.disabled():
        print("\n".join(lines))
    # Entropy and margin order inputs much as the default does; a gate that learned nothing would lose several points.
    assert gains["learned"] > -0.2


def test_what_a_gate_adds_to_a_segment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Up to one and the same exit of the largest network, in ONNX Runtime, alternately, one thread."""
    config, asked = problem("learned", 0)
    genes = asked.space.largest()
    trained = Trained(genes, 0)
    found = next(d for d, *_ in trained.designs("learned") if len(d.stages) > 1)
    sessions = {}
    for router in (DEFAULT, "learned"):
        ends = (found.stages[0], found.stages[-1])
        design = replace(found, stages=tuple(replace(stage, router=router) for stage in ends))
        made = export.bundle(
            design, checkpoint=config.checkpoint.path, state=trained.state, dataset=config.dataset,
            formats=("onnx",), out=tmp_path / router,
        )  # fmt: skip
        sessions[router] = runtime_session(onnx.load(made.path(made.workloads[0], "onnx")))
    x = np.zeros((1, 1, 32, 32), np.float32)
    times: dict[str, list[float]] = {router: [] for router in sessions}
    for _ in range(3000):
        for router, session in sessions.items():
            began = time.perf_counter()
            session.run(None, {"image": x})
            times[router].append(time.perf_counter() - began)
    plain, gated = (1e6 * float(np.median(times[router])) for router in (DEFAULT, "learned"))
    with capsys.disabled():
        print(f"\nfirst segment of the largest digits network: {plain:.1f} µs, with a gate {gated:.1f} µs")
    assert gated - plain < 0.1 * plain
