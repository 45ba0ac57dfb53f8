"""A load that can be recognised in a power curve: bursts of work whose times the board knows.

A meter beside the board has a clock of its own; finding these bursts in its curve tells how the two clocks lie.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from hwbench.measurement import Trace
from hwbench.session import Session, WindowSpec

# Lengths without a common period, so that only one shift fits; each holds three samples of a meter of 10 Hz.
BURST_S = (0.4, 0.8, 0.3, 0.6, 1.0, 0.5)
PAUSE_S = (0.5, 0.3, 0.7, 0.4, 0.6, 0.5)


def play_marker(session: Session, block_key: str, *, sleep: Callable[[float], None] = time.sleep) -> Trace:
    """Run a loaded workload in bursts; returns the load's steps: from t_ns[i] on it was value[i] (1 busy, 0 idle).

    Takes 6.6 s.  The times are the board's own, of the first and the last run of each burst.
    """
    t_ns: list[int] = []
    value: list[float] = []
    for burst_s, pause_s in zip(BURST_S, PAUSE_S, strict=True):
        how = WindowSpec(warmup=0, min_runs=1, min_time_s=burst_s, max_time_s=burst_s)
        raw = session.window([block_key], how, ())
        t_ns += [int(raw.start_ns[0]), raw.end_ns]
        value += [1.0, 0.0]
        sleep(pause_s)
    return Trace(t_ns=np.array(t_ns, dtype=np.int64), value=np.array(value), unit="raw")
