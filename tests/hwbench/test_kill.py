"""Link, daemon and agent killed over a real sshd and a real adb server.

Nothing lost, nothing twice, clocks back as found.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from hwbench import board as board_module
from hwbench import hold, journal, round
from hwbench.board import Board, open_board
from hwbench.campaign import Progress, campaign
from hwbench.errors import ConfigError
from hwbench.session import WindowSpec
from hwbench.setting import Setting
from hwbench.store import Store
from hwbench.target import Target
from hwbench.workload import Bundle
from tests.doubles.campaigns import quick
from tests.doubles.desks import clocks, desk, link_section, plug_in
from tests.doubles.lost_boards import DOWN_S, BehindAdb, BehindSshd, LostBoard
from tests.doubles.networks import matmul_bundle
from tests.doubles.phones import Phone, Server

_HOW = WindowSpec(warmup=1, min_runs=5, min_time_s=0.002, max_time_s=1.0)
_METER = '[[meter]]\nkind = "files"\n[meter.rails]\ntotal = "file:{folder}/power"\n'


def _point(**clocks_mhz: float) -> Setting:
    return Setting(unit="cpu", precision="fp32", threads=1, clocks=tuple(sorted(clocks_mhz.items())))


_POINTS = [_point(gpu=600.0), _point(gpu=600.0, mode=20.0), _point(gpu=300.0, mode=20.0)]


@pytest.fixture(autouse=True)
def doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch)
    quick(monkeypatch)
    monkeypatch.setattr(round, "_QUIET_S", 0.0)
    monkeypatch.setattr(round, "IDLE_S", 0.1)
    monkeypatch.setattr(board_module, "MIN_SAMPLES", 4)  # that idle power is read matters here, not what it is
    monkeypatch.setattr(hold, "_FIRST_PAUSE_S", 0.05)


@pytest.fixture(params=["ssh", "adb"])
def lost(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LostBoard]:
    """This machine behind its sshd, then as a phone of an adb server of its own. No agent outlives the test."""
    if request.param == "ssh":
        board: LostBoard = BehindSshd(request.getfixturevalue("sshd"))
        yield board
        board.settle()
        return
    request.getfixturevalue("needs")("adb")
    # A server that the link starts anew keeps its keys there.
    monkeypatch.setenv("HOME", str(tmp_path))
    with Server(tmp_path) as server, Phone(tmp_path / "phone") as phone:
        server.meet(phone)
        board = BehindAdb(server, phone)
        yield board
        board.settle()


@pytest.fixture
def remote(lost: LostBoard, tmp_path: Path) -> Callable[[str], Target]:
    """That board as a target with clocks that are files; sections may be added."""
    section = link_section("stepped", {"inner": lost.kind, **lost.options})
    return lambda more="": desk(tmp_path, links=[section], more=more)


class _Killer:
    """Kills one thing after the other, each at the same step, with at least one window kept in between.

    later: how many times the step is let pass before.
    """

    def __init__(self, kills: Sequence[Callable[[], None]], step: str, later: int = 0) -> None:
        self._kills, self._step, self._later = iter(kills), step, later
        self._armed = True
        self.killed: list[str] = []
        self.told: list[Progress] = []

    def __call__(self, step: str) -> None:
        if step != self._step or not self._armed:
            return
        self._later -= 1
        kill = next(self._kills, None) if self._later < 0 else None
        if kill is not None:
            self._armed = False
            self.killed.append(kill.__name__)
            kill()

    def kept(self, progress: Progress) -> None:
        """A window was kept: the next kill meets another cell."""
        self.told.append(progress)
        self._armed = True


def _measure(
    board: Board, bundle: Bundle, settings: Sequence[Setting], store: Store, killer: _Killer, *, kills: int = 3
) -> None:
    rng = np.random.default_rng(0)
    board.link.at = killer
    found = list(campaign([board], bundle, settings, store, sessions=1, rng=rng, how=_HOW, progress=killer.kept))
    # However the last kill met it, it is ours before another clock is touched.
    board.apply(settings[-1])
    assert board.lock is not None
    assert board.lock.held()
    cells = len(bundle.workloads) * len(settings)
    assert [len(m.windows) for m in found] == [1] * cells
    assert [p.done for p in killer.told] == list(range(1, cells + 1))
    # What had been kept was not measured again; the smallest is the control too, and stands aside here.
    control = min(bundle.workloads, key=lambda w: w.macs)
    loads = board.link.loads.total() - board.link.loads[control.block_key]
    assert 0 <= loads - (cells - len(settings)) <= kills
    assert set(Counter(window.cell for window in journal.windows(store)).values()) == {1}


def _check_as_found(folder: Path, lost: LostBoard) -> None:
    assert clocks(folder) == ("10", "300")
    assert not (lost.folder / "restore.json").exists()


@pytest.mark.parametrize(("step", "later"), [("push", 3), ("load", 1), ("window", 1), ("drop", 1), ("reply", 4)])
def test_kill_inside_a_cell_repeats_only_that_cell(
    remote: Callable[[str], Target], lost: LostBoard, tmp_path: Path, step: str, later: int
) -> None:
    """Connection, agent and daemon (and the adb server), each in another cell of one session."""
    ways = lost.ways()
    # Let pass: the question who is there, and the control.
    killer = _Killer(ways, step, later)
    sizes = [4 + 4 * i for i in range(len(ways) + 1)]
    with Store(tmp_path / "store.sqlite") as store, open_board(remote("")) as board:
        _measure(board, matmul_bundle(tmp_path / "bundle", sizes), _POINTS[:1], store, killer, kills=len(ways))
    assert killer.killed == [way.__name__ for way in ways]
    _check_as_found(tmp_path, lost)


def test_link_that_hangs_for_a_while_costs_nothing(
    remote: Callable[[str], Target], lost: LostBoard, tmp_path: Path
) -> None:
    """SIGSTOP of the daemon in three windows: the agent measures on, and its answers come when the link goes on."""
    killer = _Killer([lost.hang] * 3, "window", later=1)
    with Store(tmp_path / "store.sqlite") as store, open_board(remote("")) as board:
        _measure(board, matmul_bundle(tmp_path / "bundle", [4, 8, 16]), _POINTS[:1], store, killer)
        assert len(list(journal.sessions(store))) == 1
    assert killer.killed == ["hang"] * 3
    _check_as_found(tmp_path, lost)


@pytest.mark.parametrize("step", ["spawn", "hello", "idle", "bye", "write gpu", "read gpu"])
def test_kill_around_the_cells_repeats_none(
    remote: Callable[[str], Target], lost: LostBoard, tmp_path: Path, step: str
) -> None:
    """While its clocks are set and its process starts or ends, in each of three sessions of one cell."""
    (tmp_path / "power").write_text("2000")
    killer = _Killer([lost.daemon, lost.agent, lost.link], step, later=1 if step in ("spawn", "hello", "bye") else 0)
    target = remote(_METER.format(folder=tmp_path) if step == "idle" else "")
    with Store(tmp_path / "store.sqlite") as store, open_board(target) as board:
        _measure(board, matmul_bundle(tmp_path / "bundle", [4]), _POINTS, store, killer)
    assert killer.killed == ["daemon", "agent", "link"]
    _check_as_found(tmp_path, lost)


@pytest.mark.parametrize("kind", ["link", "daemon"])
@pytest.mark.parametrize("step", ["write restore.json.part", "run mv", "write mode"])
def test_kill_while_the_first_clock_is_set(
    remote: Callable[[str], Target], lost: LostBoard, tmp_path: Path, step: str, kind: str
) -> None:
    """The record is whole or it is not there, and then no clock was touched."""
    killer = _Killer([getattr(lost, kind)], step)
    with Store(tmp_path / "store.sqlite") as store, open_board(remote("")) as board:
        _measure(board, matmul_bundle(tmp_path / "bundle", [4]), _POINTS[1:2], store, killer)
    assert killer.killed == [kind]
    _check_as_found(tmp_path, lost)


@pytest.mark.parametrize("kind", ["link", "daemon"])
@pytest.mark.parametrize("step", ["run true", "read restore.json", "write gpu", "write mode", "run rm"])
def test_kill_while_the_board_is_left(
    remote: Callable[[str], Target], lost: LostBoard, tmp_path: Path, step: str, kind: str
) -> None:
    """Its clocks are put back all the same, before anybody else can have it."""
    killer = _Killer([getattr(lost, kind)], step)
    with open_board(remote("")) as board:
        board.apply(_POINTS[1])
        board.link.at = killer
    assert killer.killed == [kind]
    _check_as_found(tmp_path, lost)


_DRIVER = """
import sys
from pathlib import Path
from hwbench.board import open_board
from hwbench.setting import Setting
from hwbench.target_file import read_target
import hwbench.clocks, hwbench.links
hwbench.clocks.__path__.append(sys.argv[2] + "/clocks")
hwbench.links.__path__.append(sys.argv[2] + "/links")
with open_board(read_target(Path(sys.argv[1]))) as board:
    board.apply(Setting(unit="cpu", precision="fp32", threads=1, clocks=(("gpu", 600.0), ("mode", 20.0))))
    print("set", flush=True)
    input()
"""


def test_killed_driver_is_cleaned_up_after(
    remote: Callable[[str], Target], lost: LostBoard, tmp_path: Path, root: Path
) -> None:
    """kill -9 of the host's side: the shell that held the lock ends, and the next to open puts the clocks back."""
    target = remote("")
    process = subprocess.Popen(
        [sys.executable, "-c", _DRIVER, str(tmp_path / "desk.toml"), str(root / "tests" / "doubles")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"set\n"
    assert clocks(tmp_path) == ("20", "600")
    with pytest.raises(ConfigError, match=f"board desk is in use by process {process.pid}"), open_board(target):
        pass
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()
    with open_board(target) as board:
        assert set(board.put_back) == {"gpu", "mode"}
    _check_as_found(tmp_path, lost)


@pytest.mark.slow
def test_fifty_kills_at_random_moments_of_a_long_sweep(
    remote: Callable[[str], Target], lost: LostBoard, tmp_path: Path
) -> None:
    """200 cells, of which every fourth on average is met by a kill of any kind; over adb a quarter of that."""
    draw = random.Random(0)
    networks, count = (50, 50) if lost.kind == "ssh" else (12, 12)
    moments = sorted(draw.sample(range(4 * networks - 1), count))
    ways = lost.ways()
    reached = threading.Semaphore(0)
    killed = Counter[str]()

    def kill_all() -> None:
        for _ in moments:
            reached.acquire()
            time.sleep(draw.uniform(0.0, 0.05))
            kill = draw.choice(ways)
            kill()
            killed[kill.__name__] += 1
            if kill == lost.daemon:
                time.sleep(2 * DOWN_S)

    class Watcher(_Killer):
        def kept(self, progress: Progress) -> None:
            super().kept(progress)
            if progress.done - 1 in moments:
                reached.release()

    killer = Watcher([], "")
    thread = threading.Thread(target=kill_all)
    thread.start()
    points = [_point(gpu=gpu, mode=mode) for gpu in (300.0, 600.0) for mode in (10.0, 20.0)]
    with Store(tmp_path / "store.sqlite") as store, open_board(remote("")) as board:
        _measure(board, matmul_bundle(tmp_path / "bundle", range(4, 4 + networks)), points, store, killer, kills=count)
        thread.join()
    assert killed.total() == count
    assert set(killed) == {way.__name__ for way in ways}
    _check_as_found(tmp_path, lost)
