"""Several boards share a campaign by whole sessions, take over from each other, and must agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwbench import board_lock, campaign, farm, hold, journal, round
from hwbench.board import Board, open_board
from hwbench.campaign import Progress
from hwbench.errors import ConfigError, Inconclusive, TransientDeviceError
from hwbench.farm import check_agreement, open_boards, spread
from hwbench.measurement import Measurement
from hwbench.profiling import Job, profile
from hwbench.session import WindowSpec
from hwbench.setting import Setting
from hwbench.source import Source
from hwbench.store import Store
from hwbench.target import Target
from hwbench.workload import Bundle
from tests.doubles.desks import desk, link_section, plug_in
from tests.doubles.networks import matmul_bundle
from tests.doubles.sessions import Watched, WatchedBackend
from tests.doubles.sshd import Sshd

_SETTING = Setting(unit="cpu", precision="fp32", threads=1)
_HOW = WindowSpec(warmup=2, min_runs=10, min_time_s=0.0, max_time_s=1.0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses; and boards that are one machine, which disturb each other, count as agreeing."""
    plug_in(monkeypatch)
    monkeypatch.setattr(board_lock, "_GRACE_S", 0.3)
    monkeypatch.setattr(hold, "RECONNECT_S", 0.0)
    monkeypatch.setattr(campaign, "_LOOKS", 1)
    monkeypatch.setattr(farm, "AGREE_PERCENT", 10_000.0)
    monkeypatch.setattr(round, "ATTEMPTS", 1)
    monkeypatch.setattr(round, "BACKOFF_S", 0.0)
    monkeypatch.setattr(round, "_QUIET_S", 0.0)
    monkeypatch.setattr(round, "_CONTROL_S", 1e9)
    monkeypatch.setattr(round, "_CONTROL", WindowSpec(warmup=1, min_runs=3, min_time_s=0.0, max_time_s=1.0))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return matmul_bundle(tmp_path / "bundle", [4, 8, 16])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "run" / "store.sqlite") as opened:
        yield opened


@pytest.fixture
def target(tmp_path: Path) -> Target:
    """Two boards, each behind a link that can be cut."""
    return desk(tmp_path, links=[link_section("cut", {"workdir": str(tmp_path / name)}) for name in ("one", "two")])


def _measure(
    boards: list[Board], bundle: Bundle, store: Store, *, sessions: int = 4, **more: object
) -> list[Measurement]:
    rng = np.random.default_rng(0)
    return list(campaign.campaign(boards, bundle, [_SETTING], store, sessions=sessions, rng=rng, how=_HOW, **more))


def _places(store: Store) -> dict[int, list[str]]:
    """The boards of each session's windows."""
    places: dict[int, list[str]] = {}
    for window in journal.windows(store):
        places.setdefault(window.session, []).append(window.provenance["link"])
    return places


def test_whole_sessions_are_spread(target: Target, bundle: Bundle, store: Store) -> None:
    """Every other session on the other board, all cells of a session on one."""
    told: list[Progress] = []
    with open_boards(target) as boards:
        found = _measure(boards, bundle, store, progress=told.append)
        one, two = (board.name for board in boards)
    assert _places(store) == {0: [one] * 3, 1: [two] * 3, 2: [one] * 3, 3: [two] * 3}
    assert [len(m.windows) for m in found] == [4, 4, 4]
    assert sorted(p.done for p in told) == list(range(1, 13))


def test_orders_do_not_depend_on_the_boards_speed(target: Target, bundle: Bundle, tmp_path: Path) -> None:
    """Each session draws its own."""
    orders = []
    for name in ("first", "again"):
        with open_boards(target) as boards, Store(tmp_path / name / "store.sqlite") as store:
            _measure(boards, bundle, store)
            orders.append(sorted((w.session, w.order, w.cell.block_key) for w in journal.windows(store)))
    assert orders[0] == orders[1]


def test_finished_farm_measures_nothing_again(target: Target, bundle: Bundle, store: Store) -> None:
    """Nor does one of its boards alone: what the other measured is found."""
    with open_boards(target) as boards:
        first = _measure(boards, bundle, store)
        for board in boards:
            board.backend = WatchedBackend(board.backend)
        again = _measure(boards, bundle, store)
        alone = _measure(boards[1:], bundle, store)
        assert [board.backend.opened for board in boards] == [0, 0]
    assert [m.latency_ms for m in first] == [m.latency_ms for m in again] == [m.latency_ms for m in alone]


def test_lost_board_hands_its_open_cells_to_the_other(target: Target, bundle: Bundle, store: Store) -> None:
    """Its link is cut in its second window: nothing is lost, nothing measured twice, and the campaign ends well."""
    windows = Counter[int]()
    with open_boards(target) as boards:

        def cut(session: Watched, block_key: str) -> None:
            windows[1] += 1
            # The control before all, the control of the session, its first cell, and then.
            if windows[1] == 4:
                boards[1].link.cut()

        told: list[Progress] = []
        boards[1].backend = WatchedBackend(boards[1].backend, before=cut)
        found = _measure(boards, bundle, store, progress=told.append)
        assert [board.given_up for board in boards] == [False, True]
        one, two = (board.name for board in boards)
        boards[1].link.end()
    assert [p.done for p in told] == list(range(1, 13))
    assert [len(m.windows) for m in found] == [4, 4, 4]
    assert Counter((w.cell, w.session) for w in journal.windows(store)).most_common(1)[0][1] == 1
    assert Counter(place for places in _places(store).values() for place in places) == {one: 11, two: 1}


def test_board_that_does_not_say_who_it_is_is_given_up(target: Target, bundle: Bundle, store: Store) -> None:
    """Before anything is measured; the other does it all."""
    with open_boards(target) as boards:
        boards[0].link.cut()
        found = _measure(boards, bundle, store, sessions=2)
        assert [board.given_up for board in boards] == [True, False]
        boards[0].link.end()
    assert [len(m.windows) for m in found] == [2, 2, 2]


def test_board_that_is_lost_at_the_look_before_all_is_given_up(target: Target, bundle: Bundle, store: Store) -> None:
    """The control block is the first thing it is asked to run."""
    with open_boards(target) as boards:
        boards[1].backend = WatchedBackend(boards[1].backend, before=lambda session, key: boards[1].link.cut())
        found = _measure(boards, bundle, store, sessions=2)
        assert [board.given_up for board in boards] == [False, True]
        boards[1].link.end()
    assert [len(m.windows) for m in found] == [2, 2, 2]


def test_when_all_are_lost_the_error_is_raised(target: Target, bundle: Bundle, store: Store) -> None:
    """What was measured is kept."""
    with open_boards(target) as boards:
        windows = Counter[int]()

        def cut_all(session: Watched, block_key: str) -> None:
            windows[0] += 1
            if windows[0] >= 6:
                for board in boards:
                    board.link.cut()

        boards[0].backend = WatchedBackend(boards[0].backend, before=cut_all)
        with pytest.raises(TransientDeviceError, match="not enough to get it back"):
            _measure(boards, bundle, store, sessions=40)
        for board in boards:
            board.link.end()
    kept = len(list(journal.windows(store)))
    assert 3 <= kept < 120


def test_any_other_error_stops_all_after_their_open_cell(target: Target, bundle: Bundle, store: Store) -> None:
    """It is the user's, not a board's: no other board would fare better."""
    with open_boards(target) as boards:
        windows = Counter[int]()

        def fail(session: Watched, block_key: str) -> None:
            windows[0] += 1
            if windows[0] == 4:
                raise ConfigError("the disk is full")

        boards[0].backend = WatchedBackend(boards[0].backend, before=fail)
        with pytest.raises(ConfigError, match="the disk is full"):
            _measure(boards, bundle, store, sessions=40)
    assert 1 <= len(list(journal.windows(store))) < 60


def test_boards_that_differ_are_named_and_their_windows_kept(
    target: Target, bundle: Bundle, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One takes thirty times longer for everything that is measured."""
    monkeypatch.setattr(farm, "AGREE_PERCENT", 500.0)
    with open_boards(target) as boards:
        sessions = Counter[int]()

        def slow(session: Watched) -> None:
            sessions[0] += 1
            # The first says who it is, the second is the look before all.
            session.stretch = 1.0 if sessions[0] <= 2 else 30.0

        boards[1].backend = WatchedBackend(boards[1].backend, alter=slow)
        with pytest.raises(Inconclusive, match=r"do not agree: .*link 0\) \+0\.0 %, board desk \(link 1\) \+\d{3,}"):
            _measure(boards, bundle, store)
    assert len(list(journal.windows(store))) == 12


def test_boards_that_differ_at_once_measure_nothing(
    target: Target, bundle: Bundle, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A control block on each says so before hours are spent."""
    monkeypatch.setattr(farm, "AGREE_PERCENT", 500.0)
    with open_boards(target) as boards:
        boards[1].backend = WatchedBackend(boards[1].backend, alter=lambda session: setattr(session, "stretch", 30.0))
        with pytest.raises(Inconclusive, match="do not agree"):
            _measure(boards, bundle, store)
    assert list(journal.windows(store)) == []


def test_boards_of_two_kinds_are_refused(target: Target, bundle: Bundle, store: Store) -> None:
    """Their rows would not merge."""

    def older(session: Watched) -> None:
        session.hello = replace(session.hello, runtime_version="1.0")

    with open_boards(target) as boards:
        boards[1].backend = WatchedBackend(boards[1].backend, alter=older)
        with pytest.raises(
            ConfigError, match=r"link 0\) and .*link 1\) are not of one kind: runtime is 'ort .* 'ort 1.0'"
        ):
            _measure(boards, bundle, store)


def test_agreement_is_relative_to_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stated tolerance is the largest difference allowed; one board always agrees."""
    monkeypatch.setattr(farm, "AGREE_PERCENT", 5.0)
    check_agreement({})
    check_agreement({"one": 3.0})
    check_agreement({"one": 1.0, "two": 1.05, "three": 1.02})
    with pytest.raises(Inconclusive, match=r"one \+0\.0 %, two \+5\.1 %; 5 % is allowed"):
        check_agreement({"one": 2.0, "two": 2.102})


def test_each_board_has_a_lock_of_its_own(target: Target) -> None:
    """One in use is an error that names it; the other can still be opened."""
    with open_board(target, link=1):
        with open_boards(target, link=0) as boards:
            assert [board.number for board in boards] == [0]
        with pytest.raises(ConfigError, match=r"board desk \(link 1\) is in use"), open_boards(target):
            pass


def test_board_that_does_not_answer_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And named; when none answers its error is raised."""
    (tmp_path / "file").write_text("")
    sections = [link_section("local", {"workdir": str(tmp_path / name)}) for name in ("good", "file")]
    with open_boards(desk(tmp_path, links=sections)) as boards:
        assert [board.number for board in boards] == [0]
    assert "going on without link 1" in caplog.text
    with pytest.raises(Exception, match="cannot make"), open_boards(desk(tmp_path, links=sections[1:] * 2)):
        pass


def test_interrupt_stops_all_after_their_open_cell(target: Target) -> None:
    """Ctrl-C reaches the thread that waits."""
    with open_boards(target) as boards:
        done: list[int] = []

        def work(number: int, board: Board, stopped: object) -> None:
            done.append(number)
            if number == 1:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            spread(boards, range(100), work)
    assert len(done) <= 100


def test_profile_of_a_farm_names_its_boards_and_their_clocks(target: Target, bundle: Bundle, tmp_path: Path) -> None:
    """One table of all; `link` picks one board, and finds what is measured already."""
    job = Job(
        target=target,
        backend=None,
        source=Source.of(space=None, model=str(bundle.root)),
        clocks="gpu=300;gpu=600,mode=20",
        sessions=2,
        how=_HOW,
    )
    table = profile(job, tmp_path / "runs")
    assert len(table.row) == 6
    assert {row.sessions for row in table.row.values()} == {2}
    assert {clock.name: clock.switch_ms for clock in table.clocks} == {"gpu": 0.1, "mode": 0.1}
    # One machine stands for both boards here.
    assert len(table.origin.boards) == 1
    with Store(tmp_path / "runs" / "store.sqlite", read_only=True) as store:
        assert {place for places in _places(store).values() for place in places} == {
            "board desk (link 0)",
            "board desk (link 1)",
        }
    alone = profile(job, tmp_path / "runs", resume=True, link=1)
    assert {c: r.latency_ms for c, r in alone.row.items()} == {c: r.latency_ms for c, r in table.row.items()}
    with pytest.raises(ConfigError, match="no link 2; it has 2"):
        profile(job, tmp_path / "other", link=2)


def test_farm_over_ssh_goes_on_without_the_board_that_is_gone(
    needs: Callable[[str], str], bundle: Bundle, store: Store, tmp_path: Path
) -> None:
    """Two real sshds, of which one is killed for good in the middle of its session."""
    needs("sshd")
    with Sshd(tmp_path / "one") as one, Sshd(tmp_path / "two") as two:
        sections = []
        for sshd in (one, two):
            options = {key: value if isinstance(value, int) else str(value) for key, value in sshd.options().items()}
            sections.append(link_section("ssh", options))
        with open_boards(desk(tmp_path, links=sections)) as boards:
            seen = Counter[str]()

            def kill(session: Watched, block_key: str) -> None:
                seen[block_key] += 1
                if seen.total() == 4:
                    two.kill()

            boards[1].backend = WatchedBackend(boards[1].backend, before=kill)
            found = _measure(boards, bundle, store)
            assert [board.given_up for board in boards] == [False, True]
    assert [len(m.windows) for m in found] == [4, 4, 4]
    assert Counter((w.cell, w.session) for w in journal.windows(store)).most_common(1)[0][1] == 1
