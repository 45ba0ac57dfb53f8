"""The marker's bursts are where it says, in the board's clock."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from hwbench import marker
from hwbench.board import open_board
from hwbench.setting import Setting
from hwbench.target_file import find_target
from tests.doubles.networks import matmul_bundle
from tests.doubles.sessions import Watched

_SETTING = Setting(unit="cpu", precision="fp32", threads=1)


def test_steps_alternate_and_lie_inside_what_the_host_saw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here board and host share a clock: every burst lies between the host's asking and its answer."""
    monkeypatch.setattr(marker, "BURST_S", (0.02, 0.05, 0.03))
    monkeypatch.setattr(marker, "PAUSE_S", (0.02, 0.01, 0.02))
    bundle = matmul_bundle(tmp_path / "bundle", [4])
    asked: list[int] = []
    answered: list[int] = []
    with open_board(find_target("host")) as board:
        prepared = board.prepare(bundle, bundle.workloads[0], _SETTING)
        watched = Watched(
            board.session(_SETTING),
            lambda *_: asked.append(time.monotonic_ns()),
            lambda *_: answered.append(time.monotonic_ns()),
        )
        with watched as session:
            session.load(prepared)
            steps = marker.play_marker(session, prepared.block_key)
    assert steps.value.tolist() == [1.0, 0.0] * 3
    assert np.all(np.diff(steps.t_ns) > 0)
    assert all(a <= t for a, t in zip(asked, steps.t_ns[::2], strict=True))
    assert all(t <= b for b, t in zip(answered, steps.t_ns[1::2], strict=True))


def test_its_real_pattern_has_no_period() -> None:
    """Shifted by whole bursts it no longer fits, so only one alignment is right."""
    edges = np.cumsum(np.array([marker.BURST_S, marker.PAUSE_S]).T.ravel())
    t_s = np.arange(0, edges[-1], 0.01)
    busy = (np.searchsorted(edges, t_s, side="right") % 2 == 0).astype(float)
    shifts = [np.corrcoef(busy[n:], busy[:-n])[0, 1] for n in range(30, t_s.size // 2)]
    assert max(shifts) < 0.8
