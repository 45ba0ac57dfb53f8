"""Measurements of real boards by others (HW-NAS-Bench, HELP, OneProxy: MIT), where somebody has them.

HWBENCH_PUBLISHED_DATA names the folder that holds `hwnasbench/`, `help/`, `oneproxy/`, `nasbench201/` and what else a
benchmark asks for.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest


def path(name: str) -> Path:
    """Where a file is; skips the test, saying why, where it is not there."""
    told = os.environ.get("HWBENCH_PUBLISHED_DATA")
    file = Path(told or "") / name
    if not told or not file.is_file():
        pytest.skip(f"HWBENCH_PUBLISHED_DATA names no folder with {name} (published measurements)")
    return file


def read(name: str) -> dict[str, np.ndarray]:
    """The columns of a Parquet file; skips as `path`."""
    parquet = pytest.importorskip("pyarrow.parquet")
    return {k: np.array(v) for k, v in parquet.read_table(path(name)).to_pydict().items()}


def cells() -> dict[str, dict[str, np.ndarray]]:
    """NAS-Bench-201 by publication: `hw`, `help` and `one`, each with `arch_str` and `flops_m` beside the boards."""
    found = {"hw": read("hwnasbench/nb201_cifar10_hw.parquet"), "one": read("oneproxy/nb201_1999_latency.parquet")}
    found["help"] = read("help/nb201_latency.parquet")
    accuracy = read("nasbench201/nb201_accuracy.parquet")
    names = dict(zip(found["hw"]["arch_idx"].tolist(), found["hw"]["arch_str"].tolist(), strict=True))
    flops = dict(zip(accuracy["arch_idx"].tolist(), accuracy["flops_m"].tolist(), strict=True))
    for columns in found.values():
        columns["arch_str"] = np.array([names[i] for i in columns["arch_idx"].tolist()])
        columns["flops_m"] = np.array([flops[i] for i in columns["arch_idx"].tolist()])
    return found
