"""A table as a sweep over two clocks makes it, of a board that keeps a known law: what models between points face.

A block costs its smooth maximum of computing and moving; alone it pays a call besides, a network pays one for all. The
call has clocks of its own, so that no coefficient of a composition is the same at two points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hwbench.evidence import MEASURED
from hwbench.fit import tabulate
from hwbench.measurement import Cell, Interval, Measurement, Window
from hwbench.setting import Clocks, Setting
from hwbench.table import LatencyTable, Origin, RuntimeSection
from hwbench.workload import Bundle, Tensor, Workload

PLAIN = Setting(unit="gpu", precision="fp16")
GRID: tuple[Clocks, ...] = tuple(
    (("emc", emc), ("gpu", gpu))
    for gpu in (120.0, 320.0, 520.0, 730.0, 930.0, 1120.0, 1300.0)
    for emc in (800.0, 1600.0)
)
MEASURED_AT = tuple(GRID[i] for i in (0, 1, 12, 13, 3, 4, 7, 8, 10))
BLOCKS = tuple(f"block-{i}" for i in range(10))


def at(point: Clocks) -> Setting:
    """The setting at that operating point."""
    return Setting(unit=PLAIN.unit, precision=PLAIN.precision, clocks=point)


def networks(count: int) -> dict[str, tuple[tuple[str, int], ...]]:
    """What random networks execute."""
    rng = np.random.default_rng(1)
    found = {}
    for i in range(count):
        chosen = rng.choice(BLOCKS, size=int(rng.integers(3, 8)), replace=False)
        found[f"network-{i}"] = tuple((str(key), int(rng.integers(1, 4))) for key in sorted(chosen))
    return found


def call_ms(point: Clocks) -> float:
    """What a call costs."""
    return 8.0 / float(dict(point)["gpu"]) + 0.01


def inside_ms(key: str, point: Clocks) -> float:
    """What a block costs inside a network; every third is bound by memory."""
    number = int(key.partition("-")[2])
    gpu, emc = float(dict(point)["gpu"]), float(dict(point)["emc"])
    compute, memory = (20 + 15 * number) / gpu, (200 if number % 3 == 0 else 20) / emc
    return float((compute**3 + memory**3) ** (1 / 3))


def latency_ms(key: str, point: Clocks, parts: tuple[tuple[str, int], ...] = ()) -> float:
    """A block alone, or a network of these parts."""
    return call_ms(point) + math.fsum(n * inside_ms(p, point) for p, n in parts or ((key, 1),))


def energy_mj(ms: float, point: Clocks) -> float:
    """1.2 W at rest, 4 W more at the GPU's highest clock."""
    return float(ms * (1.2 + 4 * (float(dict(point)["gpu"]) / 1300) ** 2.5))


def swept(root: Path, *, points: Sequence[Clocks] = MEASURED_AT, count: int = 10, energy: bool = True) -> LatencyTable:
    """The table of all blocks and of so many networks, measured at these points."""
    executed = networks(count)
    bundle = Bundle(
        root=root,
        space="swept",
        workloads=tuple(
            Workload(
                block_key=key,
                kind="network" if key in executed else "block",
                inputs=(Tensor(name="x", dtype="float32", shape=(1, 8)),),
                outputs=(Tensor(name="y", dtype="float32", shape=(1, 10 + 90 * (key in BLOCKS))),),
                parts=executed.get(key, ()),
            )
            for key in (*BLOCKS, *executed)
        ),
    )

    def measurement(key: str, point: Clocks) -> Measurement:
        ms = latency_ms(key, point, executed.get(key, ()))
        cell = Cell(block_key=key, setting=at(point))
        window = Window(
            cell=cell,
            session=0,
            order=0,
            warmup_ns=np.zeros(0, dtype=np.int64),
            start_ns=np.arange(5, dtype=np.int64),
            run_ns=np.full(5, round(ms * 1e6), dtype=np.int64),
        )
        return Measurement(
            cell=cell,
            windows=(window,),
            latency_ms=Interval(value=ms),
            energy_mj=Interval(value=energy_mj(ms, point)) if energy else None,
            peak_memory_mb=None,
            flags=(),
            evidence={"latency": MEASURED, "energy": MEASURED} if energy else {"latency": MEASURED},
        )

    return tabulate(
        [measurement(w.block_key, point) for point in points for w in bundle.workloads],
        bundle,
        origin=Origin(target="made", backend="tensorrt", space="swept", boards=["b1"], created="2026-01-01"),
        runtime=RuntimeSection(name="tensorrt", version="8"),
    )
