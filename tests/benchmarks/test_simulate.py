"""What a large space on an analytic board costs: AttentiveNAS over the whole grid of a TX2's clocks.

952 blocks (exits' heads among them) and 16 networks with their segments at 12 of 13 x 11 operating points, and a model
of each between them. Seconds are those of a processor: what a neighbour takes meanwhile does not count.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hwbench.pytest_plugin import HwbenchSeconds
from hwbench.setting import grid_points
from hwbench.table import LatencyTable
from hwbench.target_file import find_target
from models.space import load_space

MOST_S, MOST_MB = 60.0, 500.0


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_attentivenas_over_a_whole_grid_takes_a_minute_and_half_a_gigabyte(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], hwbench_seconds: HwbenchSeconds
) -> None:
    """One command, in a process of its own; then every operating point of the grid is answered for every block."""
    command = "sweep --target jetson-tx2 --simulate --unit gpu --precision fp16 --space attentivenas"
    before, start = _cpu_s(), time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "hwbench.cli", *command.split()],
        cwd=tmp_path,
        env={**os.environ, "HWBENCH_TABLES": str(tmp_path)},
        check=True,
        capture_output=True,
    )
    wall_s, seconds = time.monotonic() - start, _cpu_s() - before
    hwbench_seconds(seconds)
    memory_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
    table = LatencyTable.read(tmp_path / "jetson-tx2" / "roofline-attentivenas")
    with capsys.disabled():
        print(
            f"\nattentivenas on jetson-tx2: {len(table.row)} rows in {seconds:.1f} s ({wall_s:.1f} s by the clock), "
            f"{memory_mb:.0f} MB"
        )
    base = table.settings[0].without_clocks
    target = find_target("jetson-tx2")
    grid = [base.__class__(unit="gpu", precision="fp16", clocks=point) for point in grid_points(target.grid("gpu"))]
    blocks = sorted({row.cell.block_key for row in table.row.values() if row.kind == "block"})
    assert (len(load_space("attentivenas").blocks), 13 * 11) == (len(blocks), len(grid))
    for metric in ("latency_ms", "energy_mj"):
        values, evidence = table.rows(metric, blocks, grid)
        assert np.isfinite(values).all() and "simulated" in str(evidence)
    assert seconds <= MOST_S
    assert memory_mb <= MOST_MB
