"""Whether imported latencies can be true: against what a board's peaks allow, and against each other.

A wrong unit is off by 1000. No device is ten times faster than its own peak, and a table whose values fall into two
groups that lie a thousandfold apart, with nothing between them, was written in two units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from hwbench.errors import ConfigError
from hwbench.importer import Entry
from hwbench.statistics import median
from hwbench.target import Simulation
from hwbench.workload import Workload

_BYTES = {"fp32": 4, "fp16": 2, "int8": 1}
# Peaks are fitted, not printed by the maker: a bound is believed within this factor.
_SLACK = 10.0
# Widest gap between neighbours that tables of one unit show, and how far two units are apart.
_GAP, _UNIT_LOW, _UNIT_HIGH = 100.0, 200.0, 5000.0


def bound_ms(workload: Workload, simulation: Simulation, precision: str, batch: int) -> float:
    """The least time that computing or moving the workload's data takes at the board's peaks; 0 without operations."""
    if precision not in _BYTES:
        return 0.0
    total_us = 0.0
    for op in workload.ops:
        moved = (op.weight_count + batch * (op.read_count + op.write_count)) * _BYTES[precision]
        # Data may stay in caches, which are up to ten times faster than the memory that the peak is of.
        total_us += max(batch * op.macs / simulation.peak_gops, moved / simulation.bandwidth_gbps / 1e1) / 1e3
    return total_us / 1e3


def check_bound(entry: Entry, least_ms: float) -> None:
    """ConfigError where a row claims to be faster than its board can compute."""
    if entry.latency_ms is not None and entry.latency_ms.value * _SLACK < least_ms:
        raise ConfigError(
            f"{entry.where}: {entry.key} in {entry.latency_ms.value:g} ms, but at the board's peak it takes "
            f"{least_ms:.3g} ms; looks like a wrong unit (s read as ms, or ms read as us): check it"
        )


def check_together(entries: Sequence[Entry]) -> None:
    """ConfigError where a minority of rows lies a thousandfold off the others, with nothing between."""
    told = sorted(((e.latency_ms.value, e) for e in entries if e.latency_ms is not None), key=lambda pair: pair[0])
    for i in range(1, len(told)):
        if told[i][0] <= _GAP * told[i - 1][0]:
            continue
        low, high = told[:i], told[i:]
        factor = math.exp(median([math.log(v) for v, _ in high]) - median([math.log(v) for v, _ in low]))
        few = low if len(low) <= len(high) else high
        if len(told) >= 3 and _UNIT_LOW <= factor <= _UNIT_HIGH:
            value, entry = few[0]
            how = "looks like s read as ms" if few is low else "looks like us read as ms"
            raise ConfigError(
                f"{entry.where}: {entry.key} is {value:g} ms, about {factor:.0f} times off the other rows: {how}; "
                "give the right unit, or --trust-units where it is true"
            )
