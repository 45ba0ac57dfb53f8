"""How well a table predicts networks it never saw, measured whole here and now."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwbench import profiling
from hwbench.board import open_board
from hwbench.campaign import Progress
from hwbench.composition import Error
from hwbench.errors import ConfigError, Inconclusive
from hwbench.fit import samples
from hwbench.measurement import Cell
from hwbench.profiling import Job
from hwbench.setting import Setting
from hwbench.store import Store
from hwbench.table import LatencyTable
from hwbench.workload import Bundle

# Blocks measured again beside the networks: they tell how much faster or slower the machine is now than in the table.
_CONTROLS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """One metric in one setting: the error on unseen networks.

    bare: of the plain sum of rows, for comparison.  drift_percent: how much slower the table's own blocks run now; it
    is part of the error, as it is part of what a user of the table meets.
    predicted, measured: (n,) in the metric's unit.
    """

    metric: str
    setting: Setting
    error: Error
    bare: Error
    drift_percent: float
    predicted: np.ndarray
    measured: np.ndarray

    def as_json(self) -> dict[str, Any]:
        """Flat figures and the pairs behind them."""
        return {
            "metric": self.metric,
            "setting": str(self.setting),
            "mape": self.error.mape_percent,
            "bias": self.error.bias_percent,
            "spearman": self.error.spearman,
            "n": self.error.n,
            "bare_sum_mape": self.bare.mape_percent,
            "drift": self.drift_percent,
            "predicted": self.predicted.tolist(),
            "measured": self.measured.tolist(),
        }

    def line(self) -> str:
        """One line for a terminal."""
        error = self.error
        return (
            f"{self.metric} [{self.setting}]: mape {error.mape_percent:.2f} %, bias {error.bias_percent:+.2f} %, "
            f"spearman {error.spearman:.4f}, n {error.n} unseen networks "
            f"(bare sum of blocks: mape {self.bare.mape_percent:.1f} %; machine drift since the table: "
            f"{self.drift_percent:+.1f} %)"
        )


def validate(
    table: LatencyTable,
    job: Job,
    folder: Path,
    *,
    wait: bool = False,
    progress: Callable[[Progress], None] | None = None,
    phase: Callable[[str], None] = lambda text: None,
) -> list[Validation]:
    """Measure `job.networks` random networks of the job's space that are not in the table.

    wait: for a board in use.

    Raises Inconclusive when board or runtime are not the table's.
    """
    if not job.source.text.startswith("space:"):
        raise ConfigError("validation draws random networks from a space; name one with --space")
    folder.mkdir(parents=True, exist_ok=True)
    with (
        open_board(job.target, backend=job.backend, wait=wait) as board,
        tempfile.TemporaryDirectory(dir=folder) as scratch,
    ):
        phase("exporting")
        bundle = job.source.bundle(
            formats=profiling.formats(board.backend, job.settings),
            out=folder / "bundle",
            networks=job.networks,
            seed=job.seed,
        )
        unseen = _unseen(bundle, table, job)
        phase(f"measuring {len(unseen.workloads)} workloads")
        with Store(Path(scratch) / "store.sqlite") as store:
            measured = profiling.measure(job, [board], unseen, store, progress=progress)
            now = profiling.table_of(job, [board], unseen, measured)
    _same_place(table, now)
    parts = {w.block_key: w.parts for w in bundle.workloads if w.kind == "network"}
    return [_compare(table, now, parts, setting) for setting in job.settings]


def _unseen(bundle: Bundle, table: LatencyTable, job: Job) -> Bundle:
    """Networks that the table has no row of, and a few of its blocks as controls."""
    networks = [w for w in bundle.workloads if w.kind == "network" and w.block_key not in table.parts]
    if len(networks) < 2:
        raise ConfigError(
            f"{table.name}: the table knows all networks of seed {job.seed}; validate with another --seed"
        )
    blocks = np.random.default_rng(job.seed).permutation([w.block_key for w in bundle.blocks])[:_CONTROLS]
    return bundle.only([*(w.block_key for w in networks), *blocks.tolist()])


def _same_place(table: LatencyTable, now: LatencyTable) -> None:
    for what, then, here in (
        ("board", table.origin.boards, now.origin.boards),
        ("runtime", table.runtime, now.runtime),
    ):
        if then != here:
            raise Inconclusive(
                f"{table.name} was made on another {what} ({then}) than this one ({here}); profile here first"
            )


def _compare(
    table: LatencyTable, now: LatencyTable, parts: dict[str, tuple[tuple[str, int], ...]], setting: Setting
) -> Validation:
    metric = "latency_ms"
    composition = table.composition(metric, setting)
    # Rows of the table, values of today.
    mixed = {**table.row, **{c: r for c, r in now.row.items() if r.kind == "network"}}
    here = {key: value for key, value in parts.items() if Cell(block_key=key, setting=setting) in now.row}
    found = samples(mixed, here, {**now.returned, **table.returned}, metric, setting)
    predicted = found.predict(composition)
    controls = [c for c, r in now.row.items() if r.kind == "block" and c.setting == setting and c in table.row]
    ratios = [now.row[c].latency_ms.value / table.row[c].latency_ms.value for c in controls]
    return Validation(
        metric=metric,
        setting=setting,
        error=Error.of(predicted, found.measured),
        bare=Error.of(found.sums, found.measured),
        drift_percent=100 * (float(np.median(ratios)) - 1) if ratios else float("nan"),
        predicted=predicted,
        measured=found.measured,
    )
