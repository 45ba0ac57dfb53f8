"""What a link over ssh costs: nothing of what is timed, and little of a campaign's time.

Ratios within one run. sshd is on loopback, so board and host share the processor: the hardest case, since everything
the host does meanwhile is taken from the board.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hwbench import agent_session
from hwbench.board import open_board
from hwbench.campaign import campaign
from hwbench.links import local, ssh
from hwbench.pytest_plugin import HwbenchSeconds
from hwbench.session import WindowSpec
from hwbench.store import Store
from hwbench.target import Target
from tests.benchmarks.test_harness import CPU1, one_millisecond, prepared
from tests.doubles.networks import matmul_bundle
from tests.doubles.sshd import Sshd

ROUNDS = 15
CELLS = 200


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print past pytest's capture."""

    def told(text: str) -> None:
        with capsys.disabled():
            print("\n" + text)

    return told


def test_a_median_over_ssh_is_the_local_one(
    tmp_path: Path, sshd: Sshd, say: Callable[[str], None], hwbench_seconds: HwbenchSeconds
) -> None:
    """Agent-timed median of 1 ms of work through sshd ÷ through the local link; rounds interleaved, their median."""
    file = one_millisecond(tmp_path)
    how = WindowSpec(min_runs=300, min_time_s=0.3)
    ratios, here_ms, there_ms = [], [], []
    with (
        ssh.open(sshd.options()) as link,
        agent_session.start(local.open({}), "ort", CPU1) as here,
        agent_session.start(link, "ort", CPU1) as there,
    ):
        here.load(prepared(file))
        there.load(prepared(file))
        for i in range(ROUNDS):
            # What drifts from one to the next falls on both alike.
            order = (here, there) if i % 2 else (there, here)
            took = {session: float(np.median(session.window(["work"], how, ()).run_ns)) / 1e6 for session in order}
            here_ms.append(took[here])
            there_ms.append(took[there])
            ratios.append(took[there] / took[here])
    ratio = float(np.median(ratios))
    hwbench_seconds(np.array(there_ms) / 1e3, "over ssh")
    hwbench_seconds(np.array(here_ms) / 1e3, "local")
    say(
        "ssh                              over ssh ms  local ms   ratio   allowed\n"
        f"1 ms of work ({ROUNDS} rounds)         {np.median(there_ms):11.4f}  {np.median(here_ms):8.4f}  {ratio:6.4f}"
        "    1.0100"
    )
    assert ratio <= 1.01


def test_a_campaign_over_ssh_spends_its_time_measuring(
    tmp_path: Path, sshd: Sshd, say: Callable[[str], None], hwbench_seconds: HwbenchSeconds
) -> None:
    """Warm-ups and windows of 200 cells ÷ the wall time of their campaign, from opening the board to the last value."""
    bundle = matmul_bundle(tmp_path / "bundle", sizes=range(40, 40 + CELLS))
    target = Target.model_validate(
        {
            "schema": 1,
            "name": "loopback",
            "title": "sshd on loopback",
            "link": [{"kind": "ssh", **{k: v if isinstance(v, int) else str(v) for k, v in sshd.options().items()}}],
            "backend": [{"kind": "onnxruntime", "units": ["cpu"], "precisions": ["fp32"], "threads": [1]}],
            # As many readings around each window as a board has that tells its temperature, throttling and clock.
            "sensor": [
                {"name": "soc", "read": "file:/proc/sys/kernel/pid_max", "unit": "mc"},
                {"name": "throttle.soc", "read": "file:/proc/sys/kernel/threads-max", "unit": "raw"},
            ],
            "clock": [
                {"kind": "fixed", "name": "cpu", "read": "file:/proc/sys/kernel/pid_max", "unit": "khz"},
            ],
        }
    )
    begin = time.monotonic()
    with Store(tmp_path / "store.sqlite") as store, open_board(target) as board:
        measured = list(campaign([board], bundle, target.settings(), store, sessions=1, rng=np.random.default_rng(0)))
    wall_s = time.monotonic() - begin
    hwbench_seconds(wall_s)
    windows = [window for measurement in measured for window in measurement.windows]
    warm_s = sum(float(w.warmup_ns.sum()) for w in windows) / 1e9
    runs_s = sum(float(w.run_ns.sum()) for w in windows) / 1e9
    say(
        "ssh                              cells  wall s  windows s  warm-up s  windows  allowed  together  allowed\n"
        f"campaign over ssh                {len(windows):5}  {wall_s:6.1f}  {runs_s:9.1f}  {warm_s:9.1f}  "
        f"{runs_s / wall_s:7.1%}    60.0%  {(runs_s + warm_s) / wall_s:8.1%}    80.0%"
    )
    assert CELLS == len(windows)
    assert runs_s / wall_s >= 0.60
    assert (runs_s + warm_s) / wall_s >= 0.80
