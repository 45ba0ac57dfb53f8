"""The gate's error rates on recorded sessions of a real machine, replayed: a rule that gets worse fails here.

Recorded by tests/benchmarks/gate_pool.py; the benchmark draws more tables of them and prints the peers beside the gate.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.gate_pool import CONDITIONS, Pool
from tests.benchmarks.gate_trials import repeated, resampled, score

RECORDED = Path(__file__).parents[1] / "recordings" / "gate"
TABLES = 100


@pytest.fixture(params=CONDITIONS)
def pool(request: pytest.FixtureRequest) -> Pool:
    """120 sessions of 40 rows and two arms, on a machine as it was and beside a busy neighbour."""
    found = Pool.read(RECORDED / f"{request.param}.npz")
    assert found.sessions == 120
    return found


@pytest.mark.parametrize(("slowdown", "found"), [(0.0, 0.0), (0.03, 0.95), (0.05, 0.99)])
def test_tables_of_forty_rows(pool: Pool, slowdown: float, found: float) -> None:
    """At most one table in a hundred alarms falsely; one slower row is found as often as promised."""
    arms = pool.base, pool.new
    told = score(resampled(arms, np.random.default_rng(20_26)), slowdown, TABLES, "hwbench gate")
    assert told.alarms <= 0.01
    assert told.found >= found


def test_intervals_cover_what_all_sessions_say(pool: Pool) -> None:
    """95 % intervals of eight sessions drawn by chance."""
    assert 0.92 <= repeated(pool, 8, np.random.default_rng(20_26), draws=20).covered <= 0.98
