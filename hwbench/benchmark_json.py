"""Sessions in the JSON of pytest-benchmark, so that its `--benchmark-compare` and its readers go on working.

A round there is a session here: its median. Times are in seconds, as everything in that file. Only the standard
library is imported, since every run of pytest loads the plugin that uses this.
"""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from hwbench import provenance

# The version of pytest-benchmark whose fields these are.
_SCHEMA = "5.3.1"
# Tells our files from those of pytest-benchmark, whose rounds are no sessions.
TIMER = "hwbench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One row of one test.

    fullname: what pytest-benchmark matches by, the test's node id.  seconds: a value a session.
    told: what else is known, as plain values; `target`, `board` and `runtime` say where, and a gate asks for the same.
    """

    name: str
    fullname: str
    seconds: Sequence[float]
    told: Mapping[str, Any] = field(default_factory=dict)


def write(file: Path, benchmarks: Sequence[Benchmark], root: Path | None = None) -> None:
    """Write the file in one step; benchmarks without a session are left out.

    root: a folder in the checkout whose commit the file names; None = no commit.
    """
    checkout = None if root is None else provenance.checkout(root)
    text = {
        "machine_info": {
            "node": "",
            "processor": platform.processor(),
            "machine": platform.machine(),
            "python_implementation": platform.python_implementation(),
            "python_version": platform.python_version(),
            "system": platform.system(),
            "release": platform.release(),
            "cpu": {"brand_raw": provenance.machine().get("machine.cpu", "")},
        },
        "commit_info": {} if checkout is None else {"id": checkout[0], "dirty": checkout[1]},
        "benchmarks": [_entry(benchmark) for benchmark in benchmarks if benchmark.seconds],
        "datetime": datetime.now(timezone.utc).isoformat(),
        "version": _SCHEMA,
    }
    temporary = file.with_name(file.name + ".part")
    temporary.write_text(json.dumps(text, indent=1), encoding="utf-8")
    temporary.replace(file)


def _entry(benchmark: Benchmark) -> dict[str, Any]:
    return {
        "group": None,
        "name": benchmark.name,
        "fullname": benchmark.fullname,
        "params": None,
        "param": None,
        "extra_info": dict(benchmark.told),
        "options": {"timer": TIMER, "warmup": True},
        "stats": _stats(sorted(benchmark.seconds)) | {"data": list(benchmark.seconds), "iterations": 1},
    }


def _stats(seconds: Sequence[float]) -> dict[str, Any]:
    """The figures that pytest-benchmark keeps; quartiles are the medians of either half, as there."""
    n = len(seconds)
    mean, median = statistics.fmean(seconds), statistics.median(seconds)
    deviation = statistics.stdev(seconds) if n > 1 else 0.0
    first = statistics.median(seconds[: (n + 1) // 2])
    third = statistics.median(seconds[n // 2 :])
    range_ = third - first
    inside = [s for s in seconds if first - 1.5 * range_ <= s <= third + 1.5 * range_]
    far = sum(abs(s - mean) > deviation for s in seconds)
    return {
        "min": seconds[0],
        "max": seconds[-1],
        "mean": mean,
        "stddev": deviation,
        "rounds": n,
        "median": median,
        "iqr": range_,
        "q1": first,
        "q3": third,
        "iqr_outliers": n - len(inside),
        "stddev_outliers": far,
        "outliers": f"{far};{n - len(inside)}",
        "ld15iqr": inside[0],
        "hd15iqr": inside[-1],
        "ops": 1 / mean,
        "total": sum(seconds),
    }
