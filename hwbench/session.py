"""A session: a fresh process on the board that loads workloads, times windows and answers inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from hwbench.evidence import MEASURED, Evidence, join
from hwbench.measurement import Summary, Trace
from hwbench.setting import Setting
from hwbench.target import Probe
from hwbench.workload import Plan, Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Who answers: protocol and versions, the board's identity, and what it can do.

    evidence: what its numbers are; nothing but a simulation says other than measured.
    """

    protocol: int
    agent: str
    python: str
    runtime: str
    runtime_version: str
    board: Mapping[str, str | int | None]
    can: frozenset[str]
    evidence: Evidence = MEASURED


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A workload made ready for one setting: the file on the board and what the compiler said of it.

    notes: `unmapped_ops`, `on_chip_bytes`, …; whatever the backend's compiler printed that a row should carry.
    source: the artifact's file on the host, for messages.
    """

    block_key: str
    setting: Setting
    format: str
    path: str
    sha256: str
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    notes: Mapping[str, str | int | float] = field(default_factory=dict)
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A workload in the runtime: its real inputs and outputs, time to load, peak memory it added."""

    block_key: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    load_ms: float
    peak_memory_bytes: int | None
    notes: Mapping[str, str | int | float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSpec:
    """How long to look.

    warmup: a count, or None = until the running median settles.  max_time_s bounds warm-up and runs together;
    the host's deadline is twice that.  probe_hz: how often probes are read while the window is open.
    affinity: CPU numbers to run on; () = leave as found.
    """

    warmup: int | None = None
    min_runs: int = 50
    min_time_s: float = 0.2
    max_time_s: float = 10.0
    probe_hz: float = 50.0
    affinity: tuple[int, ...] = ()


REPORT_WINDOW = WindowSpec(warmup=100, min_runs=1000, min_time_s=0.2, max_time_s=60.0)  # as the papers report


@dataclass(frozen=True, slots=True, kw_only=True)
class RawWindow:
    """What was seen: (n,) int64 nanoseconds of warm-ups, starts and runs, probe traces, noise, flags.

    summary: a tool that keeps single runs to itself gives this, with one start and one value in their place.
    """

    warmup_ns: np.ndarray
    start_ns: np.ndarray
    run_ns: np.ndarray
    traces: Mapping[str, Trace]
    noise: Mapping[str, float]
    flags: tuple[str, ...]
    peak_memory_bytes: int | None
    summary: Summary | None = None

    @property
    def end_ns(self) -> int:
        """Board clock when the last run ended."""
        return int(self.start_ns[-1] + self.run_ns[-1]) if self.summary is None else self.summary.end_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Real inputs run through a plan, sample by sample at batch 1.

    node: (N,) int16 index into plan.nodes of the node where each sample left.  answer: (N,) int64 class.
    score: (N,) float32 of that node.  t_ns: (N,) int64 from the input in its buffer to the verdict.
    node_scores: (N, nodes) float32, NaN where a node did not run; of a node with patience, how many in a row, itself
    among them, say the same.  traces: probes over the whole run.
    replayed: another machine decided; t_ns are sums of what each graph alone takes on the board, nothing was run there.
    """

    node: np.ndarray
    answer: np.ndarray
    score: np.ndarray
    t_ns: np.ndarray
    node_scores: np.ndarray
    start_ns: int
    end_ns: int
    traces: Mapping[str, Trace] = field(default_factory=dict)
    noise: Mapping[str, float] = field(default_factory=dict)
    replayed: bool = False

    @property
    def evidence(self) -> Evidence:
        """Of t_ns: measured, or derived from what was."""
        return join(MEASURED) if self.replayed else MEASURED


class Session(Protocol):
    """AgentSession (an agent process), a vendor's tool, or a simulation; a context manager."""

    hello: Hello

    def __enter__(self) -> Session: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def load(self, prepared: Prepared) -> Loaded: ...
    def drop(self, block_key: str) -> None: ...
    def window(self, chain: Sequence[str], how: WindowSpec, probes: Sequence[Probe]) -> RawWindow:
        """Time a chain of loaded workloads (one for a block), each feeding the next its first output.

        A session that cannot `answer` may refuse more than one with PermanentDeviceError.
        """

    def idle(self, seconds: float, probes: Sequence[Probe]) -> Mapping[str, Trace]:
        """Read the probes while nothing runs, in the clock of the windows."""

    def answer(self, plan: Plan, data: Path, probes: Sequence[Probe], *, repeats: int = 1) -> Answers:
        """Run inputs (`.npy`, (N, …) float32 as the graph takes them) through a plan of loaded workloads.

        repeats: each sample is run so often in a row and its median time kept.
        Raises PermanentDeviceError naming the runtimes that can, where this one cannot.
        """
