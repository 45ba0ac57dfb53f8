"""No shipped table gets slower unseen: each is held against itself at a git revision, by the gate's own fixture.

HWBENCH_GATE_REVISION names it (a pull request's base, `origin/main`); by default it is the last commit, so that what is
changed and not yet committed is judged.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hwbench.pytest_plugin import HwbenchGate

ROOT = Path(__file__).parents[2]
REVISION = os.environ.get("HWBENCH_GATE_REVISION", "HEAD")


def _listed() -> list[str]:
    """Tables that the revision has, by their path in the checkout; none where there is no git."""
    argv = ["git", "-C", str(ROOT), "ls-tree", "-r", "--name-only", REVISION, "latency_tables/"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return []
    names = done.stdout.split() if done.returncode == 0 else []
    return [n for n in names if n.endswith(".csv") and not n.endswith((".parts.csv", ".clocks.csv"))]


def test_the_revision_is_there() -> None:
    """A revision that somebody named and that is not there must not pass as nothing to compare."""
    if "HWBENCH_GATE_REVISION" not in os.environ and not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    assert _listed(), f"{REVISION}: git knows no tables there"


@pytest.mark.hwbench(max_slowdown=0.03, strict=True)
@pytest.mark.parametrize("table", _listed())
def test_no_row_got_slower(table: str, hwbench_gate: HwbenchGate) -> None:
    """Rows that are slower, gone or renamed fail; a table that was thrown away fails too."""
    report = hwbench_gate(ROOT / table, base=f"{ROOT / table}@{REVISION}")
    assert report.verdict == "ok"
