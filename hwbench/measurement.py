"""What a measurement is: traces, one window of one session, and a cell's value over its sessions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from hwbench.evidence import MEASURED, Evidence
from hwbench.setting import Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Samples in the board's monotonic clock.

    t_ns: (n,) int64.  value: (n,) float64 in `unit` (mw, uj, mv, ma, mhz, c, raw).
    alignment_error_ms: 0 when read on the board, else how far the clock of the meter may be off.
    """

    t_ns: np.ndarray
    value: np.ndarray
    unit: str
    alignment_error_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a vendor's tool tells of runs whose single times it keeps to itself; it stands beside one value for all.

    runs: how many there were.  end_ns: board clock when the last one ended.  median_ns: None where the tool has none.
    """

    runs: int
    end_ns: int
    mean_ns: float
    std_ns: float
    min_ns: float
    max_ns: float
    median_ns: float | None

    @property
    def location_ns(self) -> float:
        """The median; the mean where that is all there is."""
        return self.mean_ns if self.median_ns is None else self.median_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A value with the 95 % interval of its location; low and high are None with a single session."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Cell:
    """What is measured: one workload in one setting."""

    block_key: str
    setting: Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One cell in one session, as it came; statistics are computed from it, never stored instead of it.

    session, order: which fresh process, and the cell's place in its shuffled order.
    warmup_ns, run_ns: (n,) int64 raw durations.  start_ns: (n,) int64 board clock at each run's start.
    clocks_read: MHz (or mode) by clock name.  noise: steal_ms, switches and what else the agent could read,
    and what `profiler.measure` found of its steadiness.
    evidence: as the session said of itself.  flags: `unsteady`, `throttled`, `partly_on_cpu`, `summary_only`, …
    peak_memory_bytes: the runtime's own peak for this workload.
    summary: where a tool told it instead of single runs; `run_ns` then holds its median alone, or its mean.
    """

    cell: Cell
    session: int
    order: int
    warmup_ns: np.ndarray
    start_ns: np.ndarray
    run_ns: np.ndarray
    traces: Mapping[str, Trace] = field(default_factory=dict)
    clocks_read: Mapping[str, float | str] = field(default_factory=dict)
    temps_c: Mapping[str, float] = field(default_factory=dict)
    throttle: tuple[str, ...] = ()
    noise: Mapping[str, float] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    load_ms: float | None = None
    peak_memory_bytes: int | None = None
    energy_mj: float | None = None
    artifact_sha256: str | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)
    evidence: Evidence = MEASURED
    summary: Summary | None = None

    @property
    def runs(self) -> int:
        """How many runs the window stands for."""
        return int(self.run_ns.size) if self.summary is None else self.summary.runs

    @property
    def end_ns(self) -> int:
        """Board clock when the last run ended."""
        return int(self.start_ns[-1] + self.run_ns[-1]) if self.summary is None else self.summary.end_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A cell over its sessions: the median of the sessions' medians, with an interval over sessions.

    evidence: by metric (`latency`, `energy`).  energy_mj: net of idle, None when no meter answered.
    """

    cell: Cell
    windows: tuple[Window, ...]
    latency_ms: Interval
    energy_mj: Interval | None
    peak_memory_mb: float | None
    flags: tuple[str, ...]
    evidence: Mapping[str, Evidence]
