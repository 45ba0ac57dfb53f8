"""What a search found, in six lines for people or as JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from hwbench.target import SIMULATOR
from search.front import NEAR, Front, Promise
from search.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Of a finished run.

    computed: seconds of all tasks, whenever and wherever they ran.  least_violation: of the limits, over all choices of
    all inner searches, relative; 0 = some choice keeps them, None = nothing was asked.
    missed: the same of each limit alone and of each two, by their metrics; empty where an older version asked.
    """

    run: Run
    front: Front
    backbones: int
    searched: int
    computed_s: float
    least_violation: float | None
    missed: Mapping[str, float]

    @classmethod
    def of(cls, run: Run, front: Front) -> Summary:
        """Read the run's store."""
        facts = list(run.store.facts())
        inner = [f.key for f in facts if f.kind == "inner"]
        values = [r.values for key in inner if (r := run.store.get(key))]
        missed: dict[str, float] = {}
        for limits, least in (pair for told in values for pair in told.get("missed", {}).items()):
            missed[limits] = min(least, missed.get(limits, math.inf))
        return cls(
            run=run,
            front=front,
            backbones=sum(f.args.get("exits") is False for f in facts),
            searched=len(inner),
            computed_s=sum(f.seconds or 0.0 for f in facts),
            least_violation=min((told["least_violation"] for told in values), default=None),
            missed=missed,
        )

    def contradiction(self) -> str:
        """Which of several limits nothing met: one alone, else which two together; empty where that is unknown."""
        limits = self.run.config.constraints
        for metrics, least in sorted(self.missed.items(), key=lambda item: len(item[0].split())):
            if least > 0 and len(limits) > 1:
                said = [f"{name} {limits[name]:g}" for name in metrics.split()]
                what = f"{said[0]} alone was" if len(said) == 1 else f"{' and '.join(said)} were never kept together,"
                return f"{what} missed by {least:.1%} at least"
        return ""

    def to_text(self) -> str:
        """Six lines, then what to do next."""
        folder, promises = self.run.folder, self.front.promises
        reference = ", ".join(
            f"{o.name} {r:.4g}" for o, r in zip(self.front.objectives, self.front.reference, strict=True)
        )
        lines = [
            f"searched  {self.backbones} backbones, {self.searched} with exits, {self.computed_s:.0f} s of computing",
            f"front     {len(promises)} designs, hypervolume {self.front.hypervolume():.6g} (reference: {reference})",
        ]
        if promises:
            best = max(promises, key=lambda p: p.metrics["accuracy"])
            near = next(p for p in promises if p.metrics["accuracy"] >= best.metrics["accuracy"] - NEAR)
            evidence = {o.name: str(near.evidence[o.name]) for o in self.front.objectives[1:]}
            simulated = self.run.config.backend == SIMULATOR
            target = self.run.config.target
            verify = (
                f"hwbench profile --target {target}: measure it"
                if simulated
                else f"search verify {folder} --designs 10"
            )
            lines += [
                f"surest    {self._said(best)}",
                f"near it   {self._said(near)}",
                f"cheapest  {self._said(promises[0])}",
                f"evidence  accuracy on val; {', '.join(f'{name} {e}' for name, e in evidence.items())}",
                *([f"simulated {target} is an analytic board here: nothing of this was measured"] if simulated else []),
                "",
                f"next: {verify}",
                f"      search report {folder}",
            ]
        return "\n".join(lines)

    def to_json(self) -> str:
        """The same, and every design's objectives."""
        names = [o.name for o in self.front.objectives]
        return json.dumps(
            {
                "folder": str(self.run.folder),
                "backbones": self.backbones,
                "inner_searches": self.searched,
                "computed_s": round(self.computed_s, 3),
                "hypervolume": self.front.hypervolume(),
                "reference": dict(zip(names, self.front.reference, strict=True)),
                "least_violation": self.least_violation,
                "designs": [
                    {"design": p.design.key, **{name: p.metrics[name] for name in names}} for p in self.front.promises
                ],
            },
            indent=1,
        )

    def _said(self, promise: Promise) -> str:
        costs = [f"{promise.metrics[o.name]:.4g} {o.unit or o.name}" for o in self.front.objectives[1:]]
        exits = len(promise.design.stages) - 1
        return (
            f"{100 * promise.metrics['accuracy']:.1f} % at {', '.join(costs)}"
            f"  ({promise.design.key}: {exits} exit{'' if exits == 1 else 's'})"
        )
