"""A board that is not what it says is named: clocks that move, heat, another board, a full disk, a link lost unseen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from hwbench import board_lock, hold, journal
from hwbench.board import open_board
from hwbench.errors import ConfigError, PermanentDeviceError, TransientDeviceError
from hwbench.setting import Setting
from hwbench.store import Store
from hwbench.workload import Bundle
from tests.doubles.campaigns import SETTINGS, measure, quick, watch
from tests.doubles.desks import clocks, desk, link_section, plug_in
from tests.doubles.networks import matmul_bundle
from tests.doubles.sessions import Watched, WatchedBackend

_FAST = [Setting(unit="cpu", precision="fp32", threads=1, clocks=(("gpu", 600.0),))]
_HOT = '[limits]\ntemp_c = 60\n[[sensor]]\nname = "soc"\nread = "file:{folder}/temp"\nunit = "mc"\n'


@pytest.fixture(autouse=True)
def doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch)
    quick(monkeypatch)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return matmul_bundle(tmp_path / "bundle", [4, 8, 16])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "run" / "store.sqlite") as opened:
        yield opened


def test_clock_that_moves_once_is_set_and_measured_again(bundle: Bundle, store: Store, tmp_path: Path) -> None:
    """Firmware took it down in the middle of a window: the window is not kept, and the next is at the right clock."""
    windows = Counter[str]()

    def throttle(session: Watched, block_key: str) -> None:
        windows[block_key] += 1
        if windows["matmul-8"] == 1 and block_key == "matmul-8":
            (tmp_path / "gpu").write_text("450")

    with open_board(desk(tmp_path)) as board:
        watch(board, after=throttle)
        found = measure(board, bundle, store, sessions=1, settings=_FAST)
    assert windows["matmul-8"] >= 2
    assert not any("clock_moved" in m.flags for m in found)
    assert {w.clocks_read["gpu"] for w in journal.windows(store)} == {600.0}
    assert clocks(tmp_path) == ("10", "300")


def test_clock_that_does_not_stay_flags_its_window(bundle: Bundle, store: Store, tmp_path: Path) -> None:
    """Measured twice, then kept with what it really was."""

    def throttle(session: Watched, block_key: str) -> None:
        if block_key == "matmul-8":
            (tmp_path / "gpu").write_text("450")

    with open_board(desk(tmp_path)) as board:
        watch(board, after=throttle)
        found = measure(board, bundle, store, sessions=1, settings=_FAST)
    assert [m.cell.block_key for m in found if "clock_moved" in m.flags] == ["matmul-8"]
    (moved,) = (w for w in journal.windows(store) if w.cell.block_key == "matmul-8")
    assert moved.clocks_read["gpu"] == 450.0


def test_clock_near_its_value_has_not_moved(bundle: Bundle, store: Store, tmp_path: Path) -> None:
    """Firmware that counts cycles reads a little beside it, and clocks that nobody set may go where they like."""

    def wobble(session: Watched, block_key: str) -> None:
        (tmp_path / "gpu").write_text("591")
        (tmp_path / "mode").write_text("20")

    with open_board(desk(tmp_path)) as board:
        watch(board, after=wobble)
        found = measure(board, bundle, store, sessions=1, settings=_FAST)
        (tmp_path / "mode").write_text("10")
    assert not any("clock_moved" in m.flags for m in found)


def test_switching_times_are_noted(bundle: Bundle, store: Store, tmp_path: Path) -> None:
    """Of clocks that went to another value; the double takes a tenth of a millisecond."""
    settings = [*_FAST, Setting(unit="cpu", precision="fp32", threads=1, clocks=(("gpu", 300.0), ("mode", 20.0)))]
    with open_board(desk(tmp_path)) as board:
        measure(board, bundle, store, sessions=2, settings=settings)
        assert board.switch_ms == {"gpu": 0.1, "mode": 0.1}
    assert journal.switch_ms(journal.sessions(store)) == {"gpu": 0.1, "mode": 0.1}


def test_hot_board_is_waited_for(
    bundle: Bundle, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Before each cell, with a word on it; it goes on when the board has cooled."""
    (tmp_path / "temp").write_text("71000")
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 20:
            (tmp_path / "temp").write_text("59000")

    with open_board(desk(tmp_path, more=_HOT.format(folder=tmp_path))) as board:
        board.sleep = nap
        found = measure(board, bundle, store, sessions=1)
    assert [len(m.windows) for m in found] == [1, 1, 1]
    told = [r.message for r in caplog.records if "waiting until it cools" in r.message]
    # Once at the beginning and every half minute.
    assert told == ["board desk: soc 71 C, above its limit of 60 C; waiting until it cools"] * 2


def test_board_that_does_not_cool_is_given_up(bundle: Bundle, store: Store, tmp_path: Path) -> None:
    """After ten minutes, with what was measured kept."""
    (tmp_path / "temp").write_text("40000")

    def heat(session: Watched, block_key: str) -> None:
        if block_key == "matmul-8":
            (tmp_path / "temp").write_text("90000")

    with open_board(desk(tmp_path, more=_HOT.format(folder=tmp_path))) as board:
        board.sleep = lambda seconds: None
        watch(board, after=heat)
        with pytest.raises(PermanentDeviceError, match=r"soc 90 C, above its limit of 60 C, and 10 minutes of rest"):
            measure(board, bundle, store)
    assert 1 <= len(list(journal.windows(store))) <= 3


def test_another_board_behind_the_link_is_named(bundle: Bundle, store: Store, tmp_path: Path) -> None:
    """Somebody plugged in another one between two sessions: its windows do not belong to the first."""

    def swapped(session: Watched) -> None:
        if len(opened) > 1:
            session.hello = replace(session.hello, board={**session.hello.board, "serial": "1234"})
        opened.append(session)

    opened: list[Watched] = []
    with open_board(desk(tmp_path)) as board:
        board.backend = WatchedBackend(board.backend, alter=swapped)
        with pytest.raises(PermanentDeviceError, match=r"board desk is not the one it was: serial was .*, now '1234'"):
            measure(board, bundle, store)
    assert {w.session for w in journal.windows(store)} == {0}


def test_runtime_that_changes_meanwhile_is_named(bundle: Bundle, store: Store, tmp_path: Path) -> None:
    """An update in the middle of a campaign makes another table."""

    def updated(session: Watched) -> None:
        opened.append(session)
        if len(opened) == 3:
            session.hello = replace(session.hello, runtime_version="99.0")

    opened: list[Watched] = []
    with open_board(desk(tmp_path)) as board:
        board.backend = WatchedBackend(board.backend, alter=updated)
        with pytest.raises(PermanentDeviceError, match=r"ort was '.*', now '99\.0'"):
            measure(board, bundle, store)
    assert {w.session for w in journal.windows(store)} == {0}


def test_full_disk_of_the_board_is_named_at_once(
    bundle: Bundle, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as three hundred cells that could not be measured."""
    with open_board(desk(tmp_path)) as board:
        room = board.free_bytes()
        assert room is not None
        assert room > 1_000_000
        board.identity(SETTINGS[0])
        board.prepare(bundle, bundle.workload("matmul-4"), SETTINGS[0])
        files = tmp_path / "board" / "files"

        def fill(session: Watched, block_key: str) -> None:
            files.rename(tmp_path / "board" / "gone")
            files.write_text("no room for a folder")
            (tmp_path / "bin").mkdir()
            df = tmp_path / "bin" / "df"
            df.write_text(
                "#!/bin/sh\necho 'Filesystem 1024-blocks Used Available Capacity Mounted on'\n"
                "echo '/dev/mmc blk 61252 61204 48 100% /data'\n"
            )
            df.chmod(0o755)
            monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")

        fills = iter([fill])
        watch(board, before=lambda session, key: next(fills, lambda s, k: None)(session, key))
        with pytest.raises(PermanentDeviceError, match=r"board desk: its disk is full \(0\.0 MB free"):
            measure(board, bundle, store)


def test_lock_lost_unseen_is_taken_again_before_clocks_are_set(tmp_path: Path) -> None:
    """The link makes itself anew without an error; whoever took the board meanwhile is not disturbed."""
    section = link_section("cut", {"workdir": str(tmp_path / "board")})
    with open_board(desk(tmp_path, links=[section])) as board:
        board.link.cut(calls=0)
        assert board.lock is not None
        assert not board.lock.held()
        board.apply(_FAST[0])
        assert board.lock.held()
        assert clocks(tmp_path) == ("10", "600")
        with pytest.raises(ConfigError, match="board desk is in use"), open_board(board.target):
            pass
    board.link.end()
    assert clocks(tmp_path) == ("10", "300")


def test_board_that_somebody_took_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The link was away for long: whoever came put our clocks back and set his own, and those are not touched."""
    monkeypatch.setattr(hold, "RECONNECT_S", 0.0)
    monkeypatch.setattr(hold, "LEAVE_S", 0.0)
    monkeypatch.setattr(board_lock, "_GRACE_S", 0.2)
    options = {"workdir": str(tmp_path / "board")}
    theirs = desk(tmp_path, links=[link_section("local", options)])
    ours = desk(tmp_path, links=[link_section("cut", options)])
    with ExitStack() as stack:
        with pytest.raises(TransientDeviceError, match=r"get it back .*in use by process"), open_board(ours) as board:
            board.apply(_FAST[0])
            board.link.cut()
            board.link.end()
            other = stack.enter_context(open_board(theirs))
            assert set(other.put_back) == {"gpu", "mode"}
            other.apply(Setting(unit="cpu", precision="fp32", threads=1, clocks=(("mode", 20.0),)))
            board.link.mend()
            board.apply(_FAST[0])
        assert "left with its clocks set" in caplog.text
        assert clocks(tmp_path) == ("20", "300")
    assert clocks(tmp_path) == ("10", "300")
