"""Goes back to the board: runs designs of a finished search there, and holds them against what was promised.

Promise and measurement stand on the same `val` samples, so that the chain is tested and not luck; `test` is opened
once, here, for the honest accuracy.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwbench.errors import ConfigError, Finding, Inconclusive
from hwbench.evidence import MEASURED, Evidence, join
from hwbench.measurement import Interval
from hwbench.store import Result
from hwbench.summary import over_sessions
from hwbench.table import LatencyTable
from hwbench.target import SIMULATOR
from models.space import load_space
from search.design import ADAPTER, Design
from search.export import STATE
from search.front import read_csv
from search.run import Run, read_designs, write_whole
from search.task import File, Task, run
from search.tasks.verify import CALM

# What the project asks of itself: mean latency within 5 % and accuracy within half a point of the promise.
LATENCY_BAND, ACCURACY_BAND = 0.05, 0.005
COLUMNS = (
    *("design", "predicted_latency_ms", "measured_latency_ms", "measured_low_ms", "measured_high_ms"),
    *("predicted_energy_mj", "measured_energy_mj", "predicted_accuracy", "measured_accuracy", "test_accuracy"),
    *("predicted_exit_rates", "measured_exit_rates", "samples", "drift_percent", "verdict"),
    "latency_evidence",
)
_ROUND = "verified attempts"
# Blocks of the table that run beside a design, to tell a drift of the machine from a broken promise.
_CONTROLS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """One design: what was promised and what the board did.

    latency_ms: mean over samples, median over fresh processes, with the interval over those.
    exit_rates: of the stages, in order.  test: result on the `test` split.  val: one result for each process.
    """

    design: Design
    promised: dict[str, float]
    promised_exit_rates: tuple[float, ...]
    latency_ms: Interval
    energy_mj: float | None
    accuracy: float
    exit_rates: tuple[float, ...]
    val: tuple[Result, ...]
    test: Result

    @property
    def latency_error(self) -> float:
        """Measured over promised, minus one."""
        return self.latency_ms.value / self.promised["latency_ms"] - 1

    @property
    def drift(self) -> float:
        """How much slower the table's own blocks ran beside this design than in the table, as a share."""
        return float(np.median([r.values["drift"] for r in self.val]))

    @property
    def latency_evidence(self) -> Evidence:
        """Derived where the board cannot branch, so that its exits were replayed from this machine's answers."""
        told = {r.values.get("latency_evidence", str(MEASURED)) for r in self.val}
        return join(*map(Evidence.parse, told)) if told != {str(MEASURED)} else MEASURED

    @property
    def verdict(self) -> str:
        """`kept`, or what was not, joined by +: `latency`, `accuracy`; `drifted` for a latency that the machine's own
        drift explains, which is then neither kept nor broken.
        """
        broken = []
        if abs(self.latency_error) > LATENCY_BAND:
            beside_drift = (1 + self.latency_error) / (1 + self.drift) - 1
            explained = abs(self.drift) > CALM and abs(beside_drift) <= LATENCY_BAND
            broken.append("drifted" if explained else "latency")
        if abs(self.accuracy - self.promised["accuracy"]) > ACCURACY_BAND:
            broken.append("accuracy")
        return "+".join(broken) or "kept"


def verify(
    opened: Run,
    *,
    count: int,
    sessions: int,
    repeats: int,
    allow_cpu_fallback: bool = False,
    told: Callable[[int, int, str], None] = lambda *_: None,
) -> list[Verified]:
    """Run `count` designs, spread over the front, in `sessions` fresh processes each; writes verify.csv.

    An interrupted verification goes on where it stopped; a finished one is done anew.
    allow_cpu_fallback: run on the processor what the design's accelerator cannot.
    told: (runs done, runs in all, what runs now).  Raises ConfigError when the search is not through.
    """
    options = {"allow_cpu_fallback": True} if allow_cpu_fallback else {}
    if opened.config.backend == SIMULATOR:
        raise ConfigError(
            f"{opened.folder}: searched over a simulated table, and a simulation has no weights that could answer; "
            f"measure the board (hwbench profile --target {opened.config.target}), search its table, verify that"
        )
    designs = read_designs(opened.folder)
    promises = read_csv(opened.folder / "front.csv")
    chosen = [designs[i] for i in spread(len(designs), count)]
    first = _last_attempts(opened)[1]
    attempts = range(first, first + sessions)
    # Designs take turns, so what the machine does meanwhile falls on all alike.
    order = [(a, d) for a in attempts for d in np.random.default_rng(a).permutation(len(chosen)).tolist()]
    asked = [(a, d, "val") for a, d in order] + [(0, d, "test") for d in range(len(chosen))]
    results: dict[tuple[int, int, str], Result] = {}
    for n, (attempt, d, split) in enumerate(asked):
        told(n, len(asked), f"{chosen[d].key} on {split}")
        results[attempt, d, split] = _answer(opened, _task(opened, chosen[d], split, attempt, repeats, options))
    told(len(asked), len(asked), "")
    verified = [
        _compare(design, promises[design.key], [results[a, d, "val"] for a in attempts], results[0, d, "test"])
        for d, design in enumerate(chosen)
    ]
    write_whole(opened.folder / "verify.csv", to_csv(verified))
    opened.store.set_meta(_ROUND, f"{attempts.start} {attempts.stop}")
    return verified


def last(opened: Run) -> list[Verified]:
    """The last finished verification, from the store; [] where there was none."""
    attempts = range(*_last_attempts(opened))
    if not attempts:
        return []
    designs = {design.key: design for design in read_designs(opened.folder)}
    promises = read_csv(opened.folder / "front.csv")
    val: dict[str, dict[int, Result]] = {}
    test: dict[str, Result] = {}
    for fact in opened.store.facts("verify"):
        result = opened.store.get(fact.key)
        key = ADAPTER.validate_python(fact.args["design"]).key
        if result is None or key not in designs:
            continue
        if fact.args["split"] == "test":
            test[key] = result
        else:
            val.setdefault(key, {})[fact.args["attempt"]] = result
    found = [
        _compare(designs[k], promises[k], [r for a, r in sorted(answered.items()) if a in attempts], test[k])
        for k, answered in val.items()
        if k in test and attempts[-1] in answered
    ]
    return sorted(found, key=lambda v: v.promised["latency_ms"])


def _last_attempts(opened: Run) -> tuple[int, int]:
    """First attempt of the last finished verification, and the next that is free."""
    first, free = (opened.store.meta(_ROUND) or "0 0").split()
    return int(first), int(free)


def spread(n: int, count: int) -> list[int]:
    """`count` of n places, evenly spread, both ends among them."""
    return sorted({round(i) for i in np.linspace(0, n - 1, min(count, n))})


def to_csv(verified: Sequence[Verified]) -> str:
    """The text of verify.csv; what is unknown is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for v in verified:
        writer.writerow(
            [
                v.design.key,
                _number(v.promised.get("latency_ms")),
                _number(v.latency_ms.value),
                _number(v.latency_ms.low),
                _number(v.latency_ms.high),
                _number(v.promised.get("energy_mj")),
                _number(v.energy_mj),
                _number(v.promised.get("accuracy")),
                _number(v.accuracy),
                _number(v.test.values["accuracy"]),
                _rates(v.promised_exit_rates),
                _rates(v.exit_rates),
                len(v.val[0].arrays["label"]),
                f"{100 * v.drift:.2f}",
                v.verdict,
                str(v.latency_evidence),
            ]
        )
    return text.getvalue()


def _task(
    opened: Run, design: Design, split: str, attempt: int, repeats: int, backend_options: Mapping[str, bool]
) -> Task:
    return Task(
        kind="verify",
        args={
            "design": ADAPTER.dump_python(design, mode="json"),
            "dataset": opened.config.dataset,
            "split": split,
            "attempt": attempt,
            # Only `val` is timed against a promise; the median of a few runs in a row is free of what the measuring
            # loop itself does between two samples.
            "repeats": repeats if split == "val" else 1,
            "controls": _controls(opened, design),
            **({"backend_options": dict(backend_options)} if backend_options else {}),
        },
        **trained(opened, design),
        needs={f"board:{design.stages[0].target}": 1.0},
    )


def _controls(opened: Run, design: Design) -> dict[str, float]:
    """The slowest few blocks of the design's backbone, with their latency in the table."""
    space = load_space(opened.config.space)
    table = LatencyTable.read(opened.config.table.path)
    stage = design.stages[-1]
    ids = set(space.block_ids(np.array([stage.genes]))[0].tolist()) - {-1}
    keys = [space.blocks[i].key for i in ids]
    rows, _ = table.rows("latency_ms", keys, [stage.setting])
    slowest = np.argsort(-rows[0], kind="stable")[:_CONTROLS]
    return {keys[i]: float(rows[0, i]) for i in slowest}


def trained(opened: Run, design: Design) -> dict[str, Any]:
    """What a task reads to build a design's network again: `arrays` and `files` of a Task.

    Raises ConfigError where the search's answers or its supernet are no longer there.
    """
    found = opened.store.get(design.answers) if design.answers else None
    if found is None:
        raise ConfigError(
            f"{opened.store.path}: the weights of design {design.key} are gone; run: search resume {opened.folder}"
        )
    pinned = opened.config.checkpoint
    file = File.of(pinned.path)
    if file.sha256 != pinned.sha256:
        raise ConfigError(f"{pinned.path} is not the checkpoint that was searched; put that one back")
    return {
        "arrays": {name: array for name, array in found.arrays.items() if name.startswith(STATE)},
        "files": {"checkpoint": file},
    }


def _answer(opened: Run, task: Task) -> Result:
    """From the store, or from the board, in this process: it owns the board, and nothing else may run meanwhile."""
    found = opened.store.get(task.key)
    if found is None:
        found = run(task)
        opened.store.put(task.key, task.kind, task.args, found, reads=task.reads)
    return found


def _compare(design: Design, promise: dict[str, str], val: list[Result], test: Result) -> Verified:
    energies = [r.values["energy_mj"] for r in val if r.values["energy_mj"] is not None]
    names = ("latency_ms", "energy_mj", "accuracy")
    return Verified(
        design=design,
        promised={name: float(promise[name]) for name in names if promise[name]},
        promised_exit_rates=tuple(float(r) for r in promise["exit_rates"].split(";")),
        latency_ms=over_sessions([r.values["latency_ms"] for r in val]),
        energy_mj=float(np.median(energies)) if energies else None,
        accuracy=float(val[-1].values["accuracy"]),
        exit_rates=tuple(val[-1].values["exit_rates"]),
        val=tuple(val),
        test=test,
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _rates(rates: Sequence[float]) -> str:
    return ";".join(f"{rate:.6g}" for rate in rates)


def summary(verified: Sequence[Verified]) -> str:
    """One line: how many promises were kept, and by how much the others were not."""
    kept = sum(v.verdict == "kept" for v in verified)
    drifted = sum("drifted" in v.verdict for v in verified)
    latency = 100 * float(np.median([abs(v.latency_error) for v in verified]))
    points = 100 * max(abs(v.accuracy - v.promised["accuracy"]) for v in verified)
    undecided = f", {drifted} undecided because the machine drifted" if drifted else ""
    return (
        f"{kept} of {len(verified)} designs kept their promise{undecided} (latency within {100 * LATENCY_BAND:.0f} %, "
        f"accuracy within {100 * ACCURACY_BAND:.1f} points); median latency error {latency:.1f} %, largest accuracy "
        f"error {points:.2f} points"
    )


def judge(verified: Sequence[Verified], folder: Path) -> None:
    """Raises Finding when fewer than nine in ten promises were kept, Inconclusive when a drift may explain that."""
    kept = sum(v.verdict == "kept" for v in verified)
    broken = sum(v.verdict not in ("kept", "drifted") for v in verified)
    if broken > 0.1 * len(verified):
        raise Finding(
            f"{folder}: {kept} of {len(verified)} promises kept, {broken} broken; see {folder / 'verify.csv'}"
        )
    if kept < 0.9 * len(verified):
        drift = 100 * float(np.median([v.drift for v in verified]))
        raise Inconclusive(
            f"{folder}: {kept} of {len(verified)} promises kept, but the machine now runs the table's own blocks "
            f"{drift:+.0f} % slower than when they were measured; wait for a quiet moment, or profile again"
        )


def to_text(verified: Sequence[Verified]) -> str:
    """A line a design, then the summary."""
    lines = [
        f"{v.design.key}  {v.promised['latency_ms']:.4g} ms promised, {v.latency_ms.value:.4g} "
        f"{'replayed' if v.latency_evidence.derived else 'measured'} "
        f"({100 * v.latency_error:+.1f} %); {100 * v.promised['accuracy']:.2f} % promised, {100 * v.accuracy:.2f} "
        f"measured, {100 * v.test.values['accuracy']:.2f} on test; {v.verdict}"
        for v in verified
    ]
    return "\n".join([*lines, summary(verified)])


def to_json(verified: Sequence[Verified]) -> str:
    """The columns of verify.csv, a record a design."""
    return json.dumps(list(csv.DictReader(io.StringIO(to_csv(verified)))), indent=1)
