"""A problem whose backbones answer at once: real space, real cascades, real inner searches, invented answers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hwbench.evidence import Evidence
from hwbench.setting import Setting
from hwbench.store import Result
from models.space import Block, Gene, Slot, Space
from search.cascade import Cascade, quantile_levels
from search.design import Design, Stage
from search.objective import Constraint, Objective, objectives
from search.strategy import Budget
from search.task import Task

SETTING = Setting(unit="cpu", precision="fp32", threads=1)
BUDGET = Budget(outer_generations=3, outer_population=6, survivors=2, inner_generations=3, inner_population=10)


def small_space(values: int = 4) -> Space:
    """Three genes of so many values each; every value is a block of its own."""
    genes = tuple(Gene(name=f"g{i}", values=tuple(range(values)), group="width") for i in range(3))
    blocks = tuple(
        Block(key=f"b{i}.{v}", kind="stem", in_shape=(1, 1, 1), out_shape=(1, 1, 1), ops=(), params=(v + 1) * (i + 1))
        for i in range(3)
        for v in range(values)
    )
    slots = tuple(Slot(genes=(i,), block=np.arange(values) + i * values) for i in range(3))
    return Space(name="toy", family="mobilenetv3", genes=genes, slots=slots, blocks=blocks)


class Toy:
    """Accuracy against latency, or what else is named; three exits."""

    def __init__(self, space: Space | None = None, names: tuple[str, ...] = ("latency",)) -> None:
        self.space = space or small_space()
        self.objectives: tuple[Objective, ...] = objectives(names)
        self.constraints: tuple[Constraint, ...] = ()
        self.default_point = 0
        worst = {"accuracy": 0.0, "latency_ms": 2.0, "size_bytes": 100.0}
        self.reference = tuple(worst[o.name] for o in self.objectives)

    def cost(self, genes: np.ndarray) -> np.ndarray:
        """(B,) from 0 to 1."""
        params = self.space.params(np.atleast_2d(genes))
        low, high = (self.space.params(g)[0] for g in (self.space.smallest(), self.space.largest()))
        return np.asarray((params - low) / (high - low))

    def static(self, genes: np.ndarray) -> Mapping[str, np.ndarray]:
        """Metrics of whole backbones."""
        cost = self.cost(genes)
        return {"latency_ms": 0.2 + cost, "size_bytes": 4.0 * self.space.params(genes)}

    def tasks(self, genes: np.ndarray, *, exits: bool) -> list[Task]:
        """One double each."""
        return [
            Task(
                kind="double",
                args={"space": "toy", "genes": g.tolist(), "exits": exits, "cost": float(self.cost(g)[0])},
            )
            for g in genes
        ]

    def cascade(self, genes: np.ndarray, result: Result) -> Cascade:
        """Four equal steps."""
        arrays = result.arrays
        share = (0.2 + self.cost(genes)) / 4 * np.ones((1, 4))
        return Cascade(
            label=arrays["label"],
            answer=arrays["answer"],
            score=arrays["score"],
            levels=quantile_levels(arrays["score"], 8),
            step={"latency_ms": share},
            ask={"latency_ms": np.full((1, 4), 0.01)},
            resident={"size_bytes": np.array([4.0, 4.0, 4.0, 4.0 * self.space.params(np.atleast_2d(genes))[0]])},
            settings=((SETTING,),) * 4,
            evidence={
                "latency_ms": Evidence(source="measured", derived=True),
                "size_bytes": Evidence(source="declared"),
            },
        )

    def design(
        self,
        genes: np.ndarray,
        answers: Task,
        cascade: Cascade,
        placed: np.ndarray,
        level: np.ndarray,
        point: np.ndarray,
    ) -> Design:
        """Stages of one backbone."""
        stages = [
            Stage(
                space="toy",
                genes=tuple(genes.tolist()),
                position=int(s) if s < 3 else -1,
                target="host",
                backend="onnxruntime",
                setting=SETTING,
                router="max_softmax",
                threshold=cascade.threshold(int(s), int(level[s])) if s < 3 else None,
            )
            for s in np.flatnonzero(placed)
        ]
        return Design(stages=tuple(stages), answers=answers.key)
