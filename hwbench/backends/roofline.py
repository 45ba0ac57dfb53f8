"""An analytic board: latency and energy of a described workload, worked out instead of measured.

For each operation, computing and moving its data overlap (a smooth maximum), and a call of the runtime is paid once:

    latency = call + Σ ((((macs + o · outputs) / peak / f)^p + (bytes / bandwidth / m)^p)^(1/p) + op)

over the operations that are not fused into the one before them, with o what handing out an element costs, and f and m
the clocks of processor and memory over the highest of their grids. A pool moves its input several times. Above what
the board draws doing nothing, with s the share that a stalled part still draws,

    power = static + dynamic · f · V(f)² · (s + (1 − s) · busy) + memory · m · (s + (1 − s) · moving)

Williams, Waterman and Patterson, "Roofline", CACM 52(4), 2009 (its maximum made smooth); CMOS power f · V². Nothing is
opened and nobody sleeps: time is virtual, and the meter reads a virtual counter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from hwbench.errors import ConfigError, PermanentDeviceError, nearest
from hwbench.evidence import Evidence
from hwbench.link import Link
from hwbench.measurement import Trace
from hwbench.session import Answers, Hello, Loaded, Prepared, RawWindow, Session, WindowSpec
from hwbench.setting import Setting
from hwbench.target import Probe, Simulation
from hwbench.workload import Bundle, Op, Plan, Workload

_VERSION = "2"
_BYTES = {"fp32": 4, "fp16": 2, "int8": 1}
# Samples of the virtual counter in a window: more than an energy needs (hwbench.energy.MIN_SAMPLES).
_SAMPLES = 25


class Options(BaseModel):
    """What `Target.simulated` tells: the board's parameters by unit and precision, and the grids of its clocks.

    noise_percent: how far a session strays, one standard deviation; each draws anew, from `seed`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    simulation: dict[str, dict[str, Simulation]] = Field(min_length=1)
    grids: dict[str, tuple[float, ...]] = {}
    noise_percent: float = Field(default=0.0, ge=0, le=50)
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one run.  energy_uj: above what the board draws doing nothing."""

    latency_us: float
    energy_uj: float


def cost(simulation: Simulation, workload: Workload, setting: Setting, grids: Mapping[str, Sequence[float]]) -> Cost:
    """One run of a workload in one call.

    grids: MHz by clock name. A clock that the setting does not name is at its highest.
    Raises ConfigError where the workload's operations are not known.
    """
    if not workload.ops:
        raise ConfigError(
            f"{workload.block_key}: its operations are not known, so it cannot be simulated; "
            "take a space, or a model that an exporter describes"
        )
    once = np.ones((1, len(workload.ops)))
    latency_us, energy_uj = costs(simulation, Work.of(workload.ops), once, setting, grids)
    return Cost(latency_us=float(latency_us[0]), energy_uj=float(energy_uj[0]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Work:
    """What K operations do, at batch 1: (K,) multiply-accumulates, weights, elements read and written, and kinds."""

    macs: np.ndarray
    weights: np.ndarray
    read: np.ndarray
    written: np.ndarray
    kind: np.ndarray

    @classmethod
    def of(cls, ops: Sequence[Op]) -> Work:
        """Of operations as they are described."""
        counts = np.array([[op.macs, op.weight_count, op.read_count, op.write_count] for op in ops], np.float64)
        macs, weights, read, written = counts.reshape(-1, 4).T
        return cls(macs=macs, weights=weights, read=read, written=written, kind=np.array([op.kind for op in ops]))


def costs(
    simulation: Simulation, work: Work, times: np.ndarray, setting: Setting, grids: Mapping[str, Sequence[float]]
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) µs and µJ of n networks in one call each; times: (n, K) how often each executes an operation of `work`."""
    compute, volt = _clock(simulation.compute_clock, setting, grids, simulation.volt_low)
    memory, _ = _clock(simulation.memory_clock, setting, grids, 1.0)
    apart = ~np.isin(work.kind, simulation.fused)
    reads = np.where(work.kind == "pool", simulation.pool_reads, 1.0)
    macs = (work.macs + simulation.output_macs * work.written) * setting.batch
    moved = (work.weights + (work.read * reads + work.written) * setting.batch) * _BYTES[setting.precision]
    # GMAC/s are 1e3 MACs a microsecond, as are GB/s bytes.
    busy_us = apart * macs / (simulation.peak_gops * compute * 1e3)
    moving_us = apart * moved / (simulation.bandwidth_gbps * memory * 1e3)
    each_us = _smooth_maximum(busy_us, moving_us, simulation.blend) + apart * simulation.op_us
    # Not a product of matrices, whose last digits depend on the machine: tables are the same to the byte.
    awake_us, all_busy_us, all_moving_us = ((times * us).sum(axis=1) for us in (each_us, busy_us, moving_us))
    latency_us = simulation.call_us + awake_us
    ticking, working = simulation.stalled, 1 - simulation.stalled
    energy_nj = simulation.static_mw * latency_us
    # A call is work of the host processor, not of the unit.
    energy_nj += simulation.dynamic_mw * compute * volt**2 * (ticking * awake_us + working * all_busy_us)
    energy_nj += simulation.memory_mw * memory * (ticking * awake_us + working * all_moving_us)
    return latency_us, energy_nj / 1e3


def peak_memory_bytes(workload: Workload, setting: Setting) -> int:
    """Weights, and the activations of the operation that needs most of them."""
    weights = sum(op.weight_count for op in workload.ops) if workload.params is None else workload.params
    activations = max((op.read_count + op.write_count for op in workload.ops), default=0)
    return (weights + activations * setting.batch) * _BYTES[setting.precision]


class Roofline:
    """The backend; its sessions are simulations."""

    name = "roofline"

    def __init__(self, options: Options) -> None:
        self.options = options
        self.workloads: dict[str, Workload] = {}
        self._sessions = 0

    def formats(self, precision: str) -> tuple[str, ...]:
        """None: a description is enough; ConfigError for a precision that nothing here simulates."""
        known = {name for of_unit in self.options.simulation.values() for name in of_unit}
        if precision not in known:
            raise ConfigError(f"{self.name}: no precision {precision!r}{nearest(precision, known)}")
        return ()

    def prepare(self, link: Link, bundle: Bundle, workload: Workload, setting: Setting) -> Prepared:
        """Nothing is compiled and nothing sent."""
        self.parameters(setting)
        self.workloads[workload.block_key] = workload
        return Prepared(
            block_key=workload.block_key, setting=setting, format="description", path="", sha256=workload.digest
        )

    def prepare_together(
        self, link: Link, bundle: Bundle, workloads: Sequence[Workload], setting: Setting
    ) -> list[Prepared]:
        """One by one."""
        return [self.prepare(link, bundle, workload, setting) for workload in workloads]

    def session(self, link: Link, setting: Setting) -> Session:
        """A simulation at the setting's operating point."""
        self.parameters(setting)
        self._sessions += 1
        return _Simulated(self, setting, self._sessions)

    def parameters(self, setting: Setting) -> Simulation:
        """Of that unit and precision; ConfigError with what there is."""
        of_unit = self.options.simulation.get(setting.unit, {})
        if setting.precision not in of_unit:
            known = [f"{unit}.{precision}" for unit, each in self.options.simulation.items() for precision in each]
            asked = f"{setting.unit}.{setting.precision}"
            raise ConfigError(f"{self.name}: no [simulation.{asked}] in the target{nearest(asked, known)}")
        return of_unit[setting.precision].at(setting.threads)

    @property
    def version(self) -> str:
        """Of the law, and a digest of all parameters: tables of two sets of them do not merge."""
        digest = hashlib.blake2b(self.options.model_dump_json().encode(), digest_size=6).hexdigest()
        return f"{_VERSION}-{digest}"


class _Simulated:
    """A Session in virtual time."""

    def __init__(self, backend: Roofline, setting: Setting, number: int) -> None:
        self._backend = backend
        self._setting = setting
        self._number = number
        self._parameters = backend.parameters(setting)
        # With its own setting: one process serves several precisions, at one operating point.
        self._loaded: dict[str, tuple[Workload, Setting]] = {}
        self._now_ns = 0
        self.hello = Hello(
            protocol=0,
            agent="none",
            python="none",
            runtime=backend.name,
            runtime_version=backend.version,
            board={"model": "simulated"},
            can=frozenset({"window"}),
            evidence=Evidence(source="simulated"),
        )

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loaded.clear()

    def load(self, prepared: Prepared) -> Loaded:
        workload = self._backend.workloads.get(prepared.block_key)
        if workload is None or workload.digest != prepared.sha256:
            raise PermanentDeviceError(f"{prepared.block_key}: it was prepared for another board than this simulation")
        setting = replace(prepared.setting, clocks=self._setting.clocks)
        self._loaded[prepared.block_key] = workload, setting
        peak = peak_memory_bytes(workload, setting)
        return Loaded(
            block_key=workload.block_key,
            inputs=workload.inputs,
            outputs=workload.outputs,
            load_ms=peak / self._parameters.bandwidth_gbps / 1e6,
            peak_memory_bytes=peak,
        )

    def drop(self, block_key: str) -> None:
        self._loaded.pop(block_key, None)

    def window(self, chain: Sequence[str], how: WindowSpec, probes: Sequence[Probe]) -> RawWindow:
        if len(chain) != 1:
            raise PermanentDeviceError(f"{' → '.join(chain)}: a simulation prices one call at a time")
        one = self._cost(chain[0])
        run_ns = max(round(1e3 * one.latency_us * self._stray(chain[0])), 1)
        count = max(how.min_runs, _SAMPLES)
        warmup_ns = np.full(how.warmup or 0, run_ns, dtype=np.int64)
        self._now_ns += int(warmup_ns.sum())
        start_ns = self._now_ns + run_ns * np.arange(count, dtype=np.int64)
        # The counter is read where a run begins or ends, at the last of which the window does.
        reads = np.unique(np.linspace(0, count, _SAMPLES).round().astype(np.int64))
        each_uj = one.energy_uj + self._parameters.idle_mw * run_ns / 1e6
        counter = Trace(t_ns=self._now_ns + run_ns * reads, value=each_uj * reads, unit="uj")
        self._now_ns = int(start_ns[-1]) + run_ns
        return RawWindow(
            warmup_ns=warmup_ns,
            start_ns=start_ns,
            run_ns=np.full(count, run_ns, dtype=np.int64),
            traces={probe.name: counter for probe in probes},
            noise={},
            flags=(),
            peak_memory_bytes=None,
        )

    def idle(self, seconds: float, probes: Sequence[Probe]) -> Mapping[str, Trace]:
        t_ns = self._now_ns + np.linspace(0, seconds * 1e9, _SAMPLES).round().astype(np.int64)
        # A counter of a board that draws nothing would never move, and one that stands tells nothing.
        power = Trace(t_ns=t_ns, value=np.full(_SAMPLES, self._parameters.idle_mw), unit="mw")
        self._now_ns = int(t_ns[-1])
        return {probe.name: power for probe in probes}

    def answer(self, plan: Plan, data: Path, probes: Sequence[Probe], *, repeats: int = 1) -> Answers:
        raise PermanentDeviceError(
            f"plan {plan.name}: a simulation has no weights, so it cannot answer inputs; "
            "measure on the board itself, or with --target host"
        )

    def _cost(self, key: str) -> Cost:
        if key not in self._loaded:
            raise PermanentDeviceError(f"{key} is not loaded in this simulation")
        workload, setting = self._loaded[key]
        return cost(self._backend.parameters(setting), workload, setting, self._backend.options.grids)

    def _stray(self, key: str) -> float:
        options = self._backend.options
        if not options.noise_percent:
            return 1.0
        text = f"{options.seed} {self._number} {self._loaded[key][1]} {key}"
        drawn = np.random.default_rng(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big"))
        return float(np.exp(drawn.normal(0.0, options.noise_percent / 100)))


def open(options: Options | Mapping[str, Any], link: Link | None = None) -> Roofline:
    """The backend; link is not used."""
    return Roofline(options if isinstance(options, Options) else Options.model_validate(dict(options)))


def _clock(
    name: str | None, setting: Setting, grids: Mapping[str, Sequence[float]], volt_low: float
) -> tuple[float, float]:
    """(clock, voltage), each as a share of that at the highest clock."""
    grid = grids.get(name or "", ())
    value = dict(setting.clocks).get(name or "")
    if not grid or not isinstance(value, int | float):
        return 1.0, 1.0
    low, high = min(grid), max(grid)
    above = (value - low) / (high - low) if high > low else 1.0
    return value / high, volt_low + (1 - volt_low) * min(max(above, 0.0), 1.0)


def _smooth_maximum(a: np.ndarray, b: np.ndarray, p: float) -> np.ndarray:
    """(n,) (a^p + b^p)^(1/p), without overflow; 0 where both are."""
    most = np.maximum(a, b)
    safe = np.where(most > 0, most, 1.0)
    return np.asarray(most * ((a / safe) ** p + (b / safe) ** p) ** (1 / p))
