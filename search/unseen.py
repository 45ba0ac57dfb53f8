"""What the designs of a finished search do on `test`, which no search has seen.

The networks, thresholds and operating points are those of the search; only the samples are new, so each cost is what
the table says, weighed by where the new samples leave. Without a board; `verify` asks the board.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hwbench.errors import ConfigError
from search import by_source
from search.cascade import Cascade, Outcome
from search.design import Design
from search.engine import Engine
from search.found import Found
from search.front import read_rows
from search.run import Run, write_whole
from search.task import Task
from search.verify import trained

COLUMNS = (
    *("design", "val_accuracy", "test_accuracy", "test_low", "test_high", "test_oracle_accuracy"),
    *("latency_ms", "energy_mj", "exit_rates", "samples"),
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Unseen:
    """One design on `test`.

    val_accuracy: what the search promised.  right (N,): whether the deployed chain answers each sample rightly.
    source (N,): what each sample was rendered from; None = each is its own.
    oracle_accuracy: some placed stage is right, an upper bound.  metrics: expected cost per input; a missing one is
    unknown.  exit_rates: share of the samples that leave at each of the design's stages.
    """

    design: Design
    val_accuracy: float
    right: np.ndarray
    source: np.ndarray | None
    oracle_accuracy: float
    metrics: dict[str, float]
    exit_rates: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        """Share of the samples answered rightly."""
        return float(self.right.mean())

    @property
    def counted(self) -> np.ndarray:
        """(G, 2) right answers and samples of each source image."""
        return by_source.counts(self.right, self.source)

    def interval(self) -> tuple[float, float]:
        """95 % of the accuracy, source images resampled."""
        low, high = np.quantile(by_source.resampled(self.counted, np.random.default_rng(0)), [0.025, 0.975])
        return float(low), float(high)


def unseen(
    opened: Run, engine: Engine, told: Callable[[int, int, str], None] = lambda *_: None, designs: Sequence[str] = ()
) -> list[Unseen]:
    """Every design of the front, or those of these keys, in its order; what was answered before is read from the store.

    told: (backbones done, backbones in all, what was done).  Raises ConfigError when the search is not through.
    """
    found = Found.of(opened)
    wanted = [d for d in found.designs if not designs or d.key in designs]
    asked = {
        key: _task(found, next(d for d in wanted if d.answers == key))
        for key in dict.fromkeys(str(d.answers) for d in wanted)
    }
    missing = [task for task in asked.values() if not opened.store.has(task.key)]
    for n, done in enumerate(engine.run(missing)):
        task = done.task
        opened.store.put(
            task.key, task.kind, task.args, done.result, reads=task.reads, seconds=done.seconds, worker=done.worker
        )
        told(n + 1, len(missing), str(task.args["space"]))
    return [_one(found, design, asked[str(design.answers)]) for design in wanted]


def write(opened: Run, rows: Sequence[Unseen]) -> None:
    """test.csv of the run folder; what is unknown is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        costs = [f"{row.metrics[m]:.6g}" if m in row.metrics else "" for m in ("latency_ms", "energy_mj")]
        numbers = (row.val_accuracy, row.accuracy, *row.interval(), row.oracle_accuracy)
        rates = ";".join(f"{rate:.6g}" for rate in row.exit_rates)
        writer.writerow([row.design.key, *(f"{n:.6g}" for n in numbers), *costs, rates, len(row.right)])
    write_whole(opened.folder / "test.csv", text.getvalue())


def read(folder: Path, designs: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a run's test.csv for the designs of these keys, in their order, cells as they stand.

    ConfigError where a design was not asked on `test` yet.
    """
    file, ask = folder / "test.csv", f"search test {folder}"
    rows = read_rows(file, COLUMNS, absent=f"write it with: {ask}", again=f"write it again with: {ask}")
    if missing := [key for key in designs if key not in rows]:
        raise ConfigError(
            f"{file}: {len(missing)} of the front's {len(designs)} designs are missing, first {missing[0]}; "
            f"write it again with: {ask}"
        )
    return [rows[key] for key in designs]


def to_text(rows: Sequence[Unseen]) -> str:
    """How far val and test are apart, and the surest and the cheapest designs."""
    gap = 100 * np.array([row.accuracy - row.val_accuracy for row in rows])
    lines = [
        f"{len(rows)} designs on {len(rows[0].right)} samples of test: accuracy {gap.mean():+.2f} points against val "
        f"on average, from {gap.min():+.2f} to {gap.max():+.2f}"
    ]
    surest = max(rows, key=lambda row: row.val_accuracy)
    for name, row in (("surest on val", surest), ("cheapest", rows[0])):
        low, high = row.interval()
        costs = ", ".join(f"{row.metrics[m]:.4g} {m.rpartition('_')[2].replace('mj', 'mJ')}" for m in row.metrics)
        lines.append(
            f"{name:<13}  {row.design.key}: {100 * row.accuracy:.1f} % ({100 * low:.1f} to {100 * high:.1f}), "
            f"on val {100 * row.val_accuracy:.1f} %, oracle {100 * row.oracle_accuracy:.1f} %; {costs}"
        )
    return "\n".join(lines)


def to_json(rows: Sequence[Unseen]) -> str:
    """The rows of test.csv."""
    said = []
    for row in rows:
        low, high = row.interval()
        said.append(
            {
                "design": row.design.key,
                "val_accuracy": row.val_accuracy,
                "test_accuracy": row.accuracy,
                "test_low": low,
                "test_high": high,
                "test_oracle_accuracy": row.oracle_accuracy,
                **{m: row.metrics.get(m) for m in ("latency_ms", "energy_mj")},
                "exit_rates": list(row.exit_rates),
                "samples": len(row.right),
            }
        )
    return json.dumps(said, indent=1)


def _task(found: Found, design: Design) -> Task:
    """The network behind a design, as the search trained it, answers `test`."""
    arguments = next(f.args for f in found.run.store.facts("answers") if f.key == design.answers)
    return Task(kind="answers", args={**arguments, "split": "test"}, **trained(found.run, design))


def _one(found: Found, design: Design, task: Task) -> Unseen:
    cascade, placed, level, point = found.choice(design)
    result = found.run.store.get(task.key)
    assert result is not None
    answer, score = (result.arrays[n][:, -cascade.stages :] for n in ("answer", "score"))
    now: Cascade = replace(cascade, label=result.arrays["label"], answer=answer, score=score)
    outcome: Outcome = now.evaluate(placed[None], level[None], point[None])
    leaves = now.leaves_at(placed, level)
    stages = placed.copy()
    stages[-1] = True
    return Unseen(
        design=design,
        val_accuracy=float(found.promises[design.key]["accuracy"]),
        right=answer[np.arange(len(leaves)), leaves] == result.arrays["label"],
        source=result.arrays.get("source"),
        oracle_accuracy=float(outcome.oracle_accuracy[0]),
        metrics={
            m: float(outcome.metrics[m][0])
            for m in ("latency_ms", "energy_mj")
            if m in outcome.metrics and not np.isnan(outcome.metrics[m][0])
        },
        exit_rates=tuple(outcome.coverage[0, stages].tolist()),
    )
