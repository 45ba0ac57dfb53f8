"""Cells that belong together are measured one after the other, and in no fixed order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwbench.board import open_board
from hwbench.campaign import campaign
from hwbench.session import WindowSpec
from hwbench.store import Store
from hwbench.target_file import find_target
from tests.doubles.networks import matmul_bundle


@pytest.mark.parametrize("paired", [True, False])
def test_cells_that_belong_together_follow_each_other(tmp_path: Path, paired: bool) -> None:
    """Sizes 8 and 9, 10 and 11, … are pairs here: their places in every session are neighbours, either one first."""
    bundle = matmul_bundle(tmp_path / "bundle", range(8, 16))
    target = find_target("host")
    with open_board(target) as board, Store(tmp_path / "store.sqlite", durable=False) as store:
        measured = list(
            campaign(
                [board],
                bundle,
                target.settings(None, "found")[:1],
                store,
                sessions=3,
                rng=np.random.default_rng(0),
                how=WindowSpec(warmup=1, min_runs=1, min_time_s=0.0, max_time_s=1.0),
                together=(lambda cell: int(cell.block_key.partition("-")[2]) // 2) if paired else None,
            )
        )
    place = {int(m.cell.block_key.partition("-")[2]): [w.order for w in m.windows] for m in measured}
    steps = np.array([np.subtract(place[n + 1], place[n]) for n in range(8, 16, 2)])
    assert bool((np.abs(steps) == 1).all()) == paired
    assert len(set(steps.ravel().tolist())) > 1
    assert len({tuple(np.argsort([place[n][s] for n in place])) for s in range(3)}) == 3


def test_a_board_rests_between_its_sessions(tmp_path: Path) -> None:
    """Not before the first and not after the last; a campaign that goes on rests before what it still measures."""
    bundle, target = matmul_bundle(tmp_path / "bundle", (8, 9)), find_target("host")
    rests: list[float] = []
    how = WindowSpec(warmup=1, min_runs=1, min_time_s=0.0, max_time_s=1.0)
    with open_board(target) as board, Store(tmp_path / "store.sqlite", durable=False) as store:
        board.sleep = rests.append

        def measured(sessions: int) -> None:
            settings, rng = target.settings(None, "found")[:1], np.random.default_rng(0)
            list(campaign([board], bundle, settings, store, sessions=sessions, rng=rng, how=how, pause_s=62.5))

        measured(1)
        one = sum(rests)
        measured(3)
        two = sum(rests) - one
        measured(3)
    assert one < 62.5 <= two < 2 * 62.5
    assert two == sum(rests) - one
