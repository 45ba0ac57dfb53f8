"""A campaign with the real agent: order, resume, accidents, energy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwbench import journal, round
from hwbench.board import Board, open_board
from hwbench.campaign import CellsFailed, Progress, campaign, plan
from hwbench.errors import ConfigError, TransientDeviceError
from hwbench.evidence import DECLARED, MEASURED
from hwbench.measurement import Measurement
from hwbench.session import WindowSpec
from hwbench.setting import Setting
from hwbench.store import Store
from hwbench.target_file import find_target
from hwbench.workload import Bundle, artifact_of
from tests.doubles.campaigns import HOW, SETTINGS, measure, quick, watch
from tests.doubles.networks import matmul_bundle
from tests.doubles.sessions import Watched


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return matmul_bundle(tmp_path / "bundle", [4, 8, 16])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "run" / "store.sqlite") as opened:
        yield opened


@pytest.fixture
def board() -> Iterator[Board]:
    with open_board(find_target("host")) as opened:
        yield opened


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)


def test_each_cell_is_measured_once_a_session(board: Board, bundle: Bundle, store: Store) -> None:
    """Three cells, two sessions: every cell has two windows, an interval, measured latency and declared energy."""
    told: list[Progress] = []
    found = measure(board, bundle, store, progress=told.append)
    assert [m.cell.block_key for m in found] == ["matmul-4", "matmul-8", "matmul-16"]
    for measurement in found:
        assert [w.session for w in measurement.windows] == [0, 1]
        assert measurement.latency_ms.low is not None
        assert measurement.evidence == {"latency": MEASURED, "energy": DECLARED}
        assert measurement.windows[0].provenance["runtime"].startswith("ort ")
    assert [(p.done, p.total, p.resumed) for p in told] == [(n, 6, False) for n in range(1, 7)]


def test_sessions_visit_the_cells_in_orders_of_their_own(board: Board, tmp_path: Path, store: Store) -> None:
    """Shuffled anew each time, all cells in each."""
    bundle = matmul_bundle(tmp_path / "many", range(4, 12))
    measure(board, bundle, store, sessions=3)
    orders = [
        [w.cell.block_key for w in sorted(journal.windows(store), key=lambda w: w.order) if w.session == n]
        for n in range(3)
    ]
    assert all(sorted(order) == sorted(orders[0]) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_each_session_is_a_process_and_leaves_a_note(board: Board, bundle: Bundle, store: Store) -> None:
    """With the control workload at its beginning and at its end."""
    watched = watch(board)
    measure(board, bundle, store)
    notes = list(journal.sessions(store))
    # One more asks who is there.
    assert watched.opened == 3
    assert [note.session for note in notes] == [0, 1]
    assert all(len(note.control_ms) == 2 and note.drift_percent is not None for note in notes)


def test_finished_campaign_measures_nothing_again(board: Board, bundle: Bundle, store: Store) -> None:
    """The same windows make the same values."""
    first = measure(board, bundle, store)
    watched = watch(board)
    told: list[Progress] = []
    again = measure(board, bundle, store, progress=told.append)
    assert watched.opened == 0
    assert all(p.resumed for p in told)
    assert [(m.cell, m.latency_ms, m.energy_mj, m.flags) for m in again] == [
        (m.cell, m.latency_ms, m.energy_mj, m.flags) for m in first
    ]


def test_more_sessions_measure_only_those(board: Board, bundle: Bundle, store: Store) -> None:
    """Two are there, the third is added."""
    measure(board, bundle, store, sessions=2)
    kept = [w.run_ns.tolist() for w in journal.windows(store)]
    measure(board, bundle, store, sessions=3)
    after = list(journal.windows(store))
    assert [w.run_ns.tolist() for w in after[:6]] == kept
    assert Counter(w.session for w in after) == {0: 3, 1: 3, 2: 3}


def test_killed_agent_costs_only_the_open_cell(board: Board, bundle: Bundle, store: Store) -> None:
    """The agent dies in its third window: a fresh one goes on with that cell, and no window is measured twice."""
    windows = Counter[str]()
    deaths = iter([True])

    def die(session: Watched, block_key: str) -> None:
        windows[block_key] += 1
        if block_key == "matmul-8" and next(deaths, False):
            session.kill()

    watched = watch(board, before=die)
    found = measure(board, bundle, store, sessions=1)
    assert [len(m.windows) for m in found] == [1, 1, 1]
    assert windows["matmul-8"] == 2
    assert windows["matmul-16"] == 1
    assert watched.opened == 3


def test_cell_that_always_kills_the_agent_is_given_up_and_named(board: Board, bundle: Bundle, store: Store) -> None:
    """Three tries, then the others go on; the campaign ends with its name, and all else was yielded."""
    tries = Counter[str]()

    def die(session: Watched, block_key: str) -> None:
        tries[block_key] += 1
        if block_key == "matmul-16":
            session.kill()

    watch(board, before=die)
    found: list[Measurement] = []
    with pytest.raises(CellsFailed, match=r"1 cell could not be measured: matmul-16 \[cpu fp32.*killed") as caught:
        found.extend(campaign([board], bundle, SETTINGS, store, sessions=2, rng=np.random.default_rng(0), how=HOW))
        raise AssertionError("not reached")
    assert tries["matmul-16"] == round.ATTEMPTS
    assert [c.block_key for c in caught.value.failures] == ["matmul-16"]
    assert Counter(w.cell.block_key for w in journal.windows(store)) == {"matmul-4": 2, "matmul-8": 2}


def test_board_that_is_gone_stops_the_campaign(board: Board, bundle: Bundle, store: Store) -> None:
    """Two cells in a row given up: the error is raised, and what was measured before stays."""
    seen: list[str] = []

    def die(session: Watched, block_key: str) -> None:
        seen.append(block_key)
        if len(seen) > 2:
            session.kill()

    watch(board, before=die)
    with pytest.raises(TransientDeviceError, match="killed"):
        measure(board, bundle, store)
    assert len(list(journal.windows(store))) == 1


def test_broken_graph_is_reported_and_the_others_measured(board: Board, bundle: Bundle, store: Store) -> None:
    """A file that ONNX Runtime cannot load is no reason to lose the rest; a second call tries it again."""
    path = bundle.path(bundle.workload("matmul-8"), "onnx")
    path.write_bytes(path.read_bytes()[:40])
    broken = replace(bundle.workload("matmul-8"), artifacts={"onnx": artifact_of(bundle.root, path)})
    bundle = replace(bundle, workloads=(bundle.workloads[0], broken, bundle.workloads[2]))
    with pytest.raises(CellsFailed, match=r"1 cell could not be measured: matmul-8 \[") as caught:
        measure(board, bundle, store)
    assert [c.block_key for c in caught.value.failures] == ["matmul-8"]
    assert Counter(w.cell.block_key for w in journal.windows(store)) == {"matmul-4": 2, "matmul-16": 2}


def test_interrupt_keeps_every_window_that_was_finished(board: Board, bundle: Bundle, store: Store) -> None:
    """Ctrl-C inside the third cell."""
    seen: list[str] = []

    def interrupt(session: Watched, block_key: str) -> None:
        seen.append(block_key)
        if len(seen) == 4:
            raise KeyboardInterrupt

    watch(board, before=interrupt)
    with pytest.raises(KeyboardInterrupt):
        measure(board, bundle, store)
    assert len(list(journal.windows(store))) == 2
    (note,) = journal.sessions(store)
    assert note.flags == ("interrupted",)


def test_killed_campaign_resumes_to_the_same_rows(bundle: Bundle, tmp_path: Path, root: Path) -> None:
    """kill -9 of the driver in the middle: what it had measured is kept byte for byte, the rest is added."""
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        import numpy as np
        from hwbench.board import open_board
        from hwbench.campaign import campaign
        from hwbench.session import WindowSpec
        from hwbench.store import Store
        from hwbench.target_file import find_target
        from hwbench.workload import Bundle, artifact_of
        target = find_target("host")
        how = WindowSpec(warmup=2, min_runs=10, min_time_s=0.0, max_time_s=1.0)
        with Store(Path(sys.argv[2])) as store, open_board(target) as board:
            list(campaign([board], Bundle.read(Path(sys.argv[1])), target.settings(), store, sessions=20,
                          rng=np.random.default_rng(0), how=how, progress=lambda p: print(p.done, flush=True)))
        """
    )
    file = tmp_path / "killed.sqlite"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(bundle.root), str(file)],
        stdout=subprocess.PIPE,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert process.stdout is not None
    while int(process.stdout.readline()) < 4:
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with Store(file, read_only=True) as store:
        kept = {(w.cell, w.session): w.run_ns.tolist() for w in journal.windows(store)}
    assert 4 <= len(kept) < 60
    sessions = max(number for _, number in kept) + 1
    with Store(file) as store, open_board(find_target("host")) as board:
        found = measure(board, bundle, store, sessions=sessions)
        rows = {(w.cell, w.session): w.run_ns.tolist() for m in found for w in m.windows}
        assert len(rows) == 3 * sessions
        assert {cell: rows[cell] for cell in kept} == kept
        assert measure(board, bundle, store, sessions=sessions)[0].latency_ms == found[0].latency_ms


def test_no_agent_outlives_a_campaign(board: Board, bundle: Bundle, store: Store) -> None:
    """Whatever happened, nobody is left to disturb the next."""
    pids: list[int] = []

    def note(session: Watched, block_key: str) -> None:
        pids.append(session._session._pipe.pid)
        if len(pids) == 3:
            raise KeyboardInterrupt

    watch(board, before=note)
    with pytest.raises(KeyboardInterrupt):
        measure(board, bundle, store)
    for pid in set(pids):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_precision_without_a_file_is_refused_before_measuring(board: Board, bundle: Bundle, store: Store) -> None:
    """A missing artifact is the user's to export, and nothing is started for it."""
    watched = watch(board)
    settings = [Setting(unit="cpu", precision="int8", threads=1)]
    with pytest.raises(ConfigError, match="int8"):
        list(campaign([board], bundle, settings, store, sessions=1, rng=np.random.default_rng(0), how=HOW))
    assert watched.opened == 0


@pytest.mark.parametrize(("boards", "settings", "sessions"), [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_campaign_of_nothing_is_refused(
    board: Board, bundle: Bundle, store: Store, boards: int, settings: int, sessions: int
) -> None:
    """An empty table would look like a result."""
    with pytest.raises(ConfigError, match="needs a board, a setting"):
        list(
            campaign(
                [board][:boards], bundle, SETTINGS[:settings], store, sessions=sessions, rng=np.random.default_rng(0)
            )
        )


def test_plan_counts_without_a_board(bundle: Bundle) -> None:
    """Cells times sessions, and more time for more of either."""
    how = WindowSpec()
    two, eight = (plan(bundle, SETTINGS, sessions=n, how=how) for n in (2, 8))
    assert (len(two.cells), two.windows, eight.windows) == (3, 6, 24)
    assert 3.9 < eight.seconds / two.seconds < 4.1
    # Three windows of 0.2 s with as much warm-up are the least that a session takes.
    assert two.seconds > 2 * 3 * 0.4
