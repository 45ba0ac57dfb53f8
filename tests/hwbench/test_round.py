"""One round keeps what it can and knows which cell was open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hwbench import journal
from hwbench.board import Board, open_board
from hwbench.measurement import Cell, Window
from hwbench.round import Round
from hwbench.session import WindowSpec
from hwbench.setting import Setting
from hwbench.store import Store
from hwbench.target_file import find_target
from tests.doubles.networks import matmul_bundle
from tests.doubles.sessions import Event, Watched, WatchedBackend

_SETTING = Setting(unit="cpu", precision="fp32", threads=1)


@pytest.fixture
def board() -> Iterator[Board]:
    with open_board(find_target("host")) as opened:
        yield opened


class _Run:
    """A round over two cells, what it kept, and how long it slept."""

    def __init__(self, board: Board, folder: Path, before: Event, clock: Callable[[], float] = lambda: 0.0) -> None:
        bundle = matmul_bundle(folder / "bundle", [4, 8])
        board.backend = WatchedBackend(board.backend, before=before)
        self.kept: list[str] = []
        self.failed: list[str] = []
        self.slept: list[float] = []
        with Store(folder / "store.sqlite") as store:
            Round(
                board=board,
                bundle=bundle,
                store=store,
                how=WindowSpec(warmup=1, min_runs=5, min_time_s=0.0, max_time_s=1.0),
                number=4,
                keep=self._keep,
                fail=lambda cell, error: self.failed.append(cell.block_key),
                sleep=self.slept.append,
                clock=clock,
            ).run([Cell(block_key=w.block_key, setting=_SETTING) for w in bundle.workloads])
            self.notes = list(journal.sessions(store))

    def _keep(self, window: Window) -> str:
        self.kept.append(window.cell.block_key)
        return f"key {len(self.kept)}"


def _die_at(*windows: int) -> Event:
    """kill -9 the agent in these windows, counted from 1 over all processes."""
    seen: list[str] = []

    def before(session: Watched, block_key: str) -> None:
        seen.append(block_key)
        if len(seen) in windows:
            session.kill()

    return before


def test_quiet_round_visits_control_cells_and_control(board: Board, tmp_path: Path) -> None:
    """The smallest workload stands at both ends and is a cell too."""
    seen: list[str] = []
    run = _Run(board, tmp_path, lambda session, key: seen.append(key))
    assert seen == ["matmul-4", "matmul-4", "matmul-8", "matmul-4"]
    assert run.kept == ["matmul-4", "matmul-8"]
    assert [(n.session, n.flags, len(n.control_ms)) for n in run.notes] == [(4, (), 2)]


@pytest.mark.parametrize(("cost_s", "looks"), [(0.05, 3), (60.0, 2)])
def test_a_long_round_looks_at_its_control_between_the_cells(
    board: Board, tmp_path: Path, cost_s: float, looks: int
) -> None:
    """After a hundred seconds, where a look costs little; one that took a minute is due again only after twenty."""
    clock = iter([0.0, cost_s, *(cost_s + 100.0 + n for n in range(99))])
    run = _Run(board, tmp_path, lambda session, key: None, clock=lambda: next(clock))
    assert [len(note.control_ms) for note in run.notes] == [looks]
    assert run.notes[0].noise.grade is not None
    assert run.notes[0].noise.control_percent is not None


def test_agent_that_dies_at_the_last_control_fails_no_cell(board: Board, tmp_path: Path) -> None:
    """Everything was kept by then; the note says that the end is missing."""
    run = _Run(board, tmp_path, _die_at(4))
    assert (run.kept, run.failed) == (["matmul-4", "matmul-8"], [])
    assert [n.flags for n in run.notes] == [("interrupted",)]


def test_pauses_between_tries_grow(board: Board, tmp_path: Path) -> None:
    """The second cell's window dies twice: half a second, then a second, beside the quiet before the cells."""
    # Windows 1 and 2 pass; 3 dies. Of the next process 4 (control) passes and 5 dies; the third passes.
    run = _Run(board, tmp_path, _die_at(3, 5))
    assert (run.kept, run.failed) == (["matmul-4", "matmul-8"], [])
    assert [s for s in run.slept if s >= 0.5] == [0.5, 1.0]
    assert [n.flags for n in run.notes] == [("interrupted",), ()]
