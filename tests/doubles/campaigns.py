"""Short campaigns with the real agent, for tests of what happens around the windows."""

from __future__ import annotations

import numpy as np
import pytest

from hwbench import round
from hwbench.board import Board
from hwbench.campaign import campaign
from hwbench.measurement import Measurement
from hwbench.session import WindowSpec
from hwbench.setting import Setting
from hwbench.store import Store
from hwbench.workload import Bundle
from tests.doubles.sessions import Event, WatchedBackend

SETTINGS = [Setting(unit="cpu", precision="fp32", threads=1)]
HOW = WindowSpec(warmup=2, min_runs=10, min_time_s=0.0, max_time_s=1.0)


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses, and a short look at the control, at both ends only however busy this machine is."""
    monkeypatch.setattr(round, "_CONTROL_S", 1e9)
    monkeypatch.setattr(round, "BACKOFF_S", 0.0)
    monkeypatch.setattr(round, "_QUIET_S", 0.05)
    monkeypatch.setattr(round, "_CONTROL", WindowSpec(warmup=1, min_runs=3, min_time_s=0.0, max_time_s=1.0))


def watch(board: Board, *, before: Event | None = None, after: Event | None = None) -> WatchedBackend:
    """Be told of the board's windows from now on."""
    watched = WatchedBackend(board.backend, before=before, after=after)
    board.backend = watched
    return watched


def measure(
    board: Board, bundle: Bundle, store: Store, *, sessions: int = 2, how: WindowSpec = HOW, **more: object
) -> list[Measurement]:
    """A campaign on one board, always in the same orders; more: as `campaign` takes it, with `settings`."""
    settings = more.pop("settings", SETTINGS)
    rng = np.random.default_rng(0)
    return list(campaign([board], bundle, settings, store, sessions=sessions, rng=rng, how=how, **more))
