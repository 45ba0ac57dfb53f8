"""Warm-up and windows, in a clock that the test moves."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pytest

from hwbench.agent import timing
from hwbench.agent.timing import pinned, settled, time_work

MS = 1_000_000


class Clock:
    """A clock that only work moves: each run takes what `cost` says of its number."""

    def __init__(self, cost: Callable[[int], int]) -> None:
        self.now = 0
        self.runs = 0
        self._cost = cost

    def work(self) -> None:
        """One run."""
        self.now += self._cost(self.runs)
        self.runs += 1

    def read(self) -> int:
        """Nanoseconds."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], int]], Clock]:
    """Makes the clock of a test and puts it in the place of the real one."""

    def make(cost: Callable[[int], int]) -> Clock:
        made = Clock(cost)
        monkeypatch.setattr(timing, "now_ns", made.read)
        return made

    return make


Make = Callable[[Callable[[int], int]], Clock]


def test_the_warm_up_ends_when_the_median_has_settled(clock: Make) -> None:
    """Runs that start four times as slow are seen and thrown away."""
    made = clock(lambda n: int(MS * (1 + 3 * 0.9**n)))
    timed = time_work([made.work], None, 50, 0.2, 10.0)
    assert 4 * MS == timed.warmup_ns[0]
    assert timed.run_ns.max() < 1.02 * MS
    assert () == timed.flags


def test_the_warm_up_takes_no_longer_than_the_window_is_asked_to_be(clock: Make) -> None:
    """Work that never settles is measured all the same."""
    made = clock(lambda n: MS * (1 + n % 2 * 9) if n % 100 < 50 else 7 * MS)
    timed = time_work([made.work], None, 10, 0.2, 10.0)
    assert timed.warmup_ns.sum() <= 200 * MS + 10 * MS


def test_a_counted_warm_up_is_exact(clock: Make) -> None:
    """As reports ask for it."""
    made = clock(lambda n: MS)
    assert 100 == len(time_work([made.work], 100, 10, 0.0, 10.0).warmup_ns)


@pytest.mark.parametrize(("min_runs", "min_time_s", "expected"), [(50, 0.2, 200), (500, 0.2, 500)])
def test_both_minima_are_reached(clock: Make, min_runs: int, min_time_s: float, expected: int) -> None:
    """Whichever takes longer."""
    made = clock(lambda n: MS)
    timed = time_work([made.work], 5, min_runs, min_time_s, 10.0)
    assert expected == len(timed.run_ns) == len(timed.start_ns)


def test_work_that_speeds_up_fills_more_than_one_part(clock: Make) -> None:
    """The room is guessed from the warm-up; a wrong guess costs no run."""
    made = clock(lambda n: MS if n < 5 else MS // 100)
    timed = time_work([made.work], 5, 50, 0.2, 10.0)
    assert 20_000 == len(timed.run_ns)
    assert (np.diff(timed.start_ns) == MS // 100).all()


def test_too_slow_work_is_flagged_not_waited_for(clock: Make) -> None:
    """One run at least, however long it takes."""
    made = clock(lambda n: 4000 * MS)
    timed = time_work([made.work], None, 50, 0.2, 10.0)
    assert ("few_runs",) == timed.flags
    assert 1 <= len(timed.run_ns) <= 3


def test_a_window_is_taken_once(clock: Make) -> None:
    """Whether it held still is for the host to say."""
    made = clock(lambda n: MS if n < 80 else 2 * MS)
    timed = time_work([made.work], 5, 50, 0.2, 10.0)
    assert {MS, 2 * MS} == set(timed.run_ns.tolist())
    assert (5, ()) == (len(timed.warmup_ns), timed.flags)


def test_a_chain_is_one_run(clock: Make) -> None:
    """Its calls are timed together."""
    made = clock(lambda n: MS)
    timed = time_work([made.work, made.work, made.work], 2, 10, 0.0, 10.0)
    assert {3 * MS} == set(timed.run_ns.tolist())


def test_affinity_is_set_for_every_thread_and_put_back() -> None:
    """The runtime's threads are older than the window."""
    before = os.sched_getaffinity(0)
    with pinned([min(before)]):
        assert {min(before)} == os.sched_getaffinity(0)
    assert before == os.sched_getaffinity(0)


def test_a_processor_that_is_not_there_is_an_error() -> None:
    """And the threads are where they were."""
    before = os.sched_getaffinity(0)
    with pytest.raises(OSError), pinned([4096]):
        raise AssertionError("pinned to a processor that does not exist")
    assert before == os.sched_getaffinity(0)


@pytest.mark.parametrize("decay", [0.0, 0.2, 0.5])
def test_warm_up_cut_off_afterwards_is_that_of_a_live_window(clock: Make, decay: float) -> None:
    """The same rule for a tool that times itself: runs that get faster until they settle."""

    def cost(n: int) -> int:
        return int(MS * (1 + 3 * decay**n))

    live = time_work([clock(cost).work], None, 10, 0.2, 100.0).warmup_ns
    assert len(live) == settled([cost(n) for n in range(2000)], 200 * MS)


def test_runs_that_do_not_settle_are_warm_up_until_the_limit() -> None:
    """Each batch another median; where even the limit is never reached, nothing is cut off."""
    runs = [MS * (1 + n // 10) for n in range(100)]
    assert sum(runs[: settled(runs, 60 * MS) - 1]) < 60 * MS <= sum(runs[: settled(runs, 60 * MS)])
    assert 0 == settled([MS] * 4, 1000 * MS)
