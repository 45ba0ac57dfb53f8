"""Times repeated work: warm-up until it settles, then a window of raw durations."""

import gc
import os
from array import array
from contextlib import contextmanager
from typing import Any, Callable, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from hwbench.agent.machine import now_ns
from hwbench.agent.runtime import Call

# Three batches of warm-up whose medians lie this close together have settled.
SETTLED_SPREAD = 0.02
_BATCH_NS = 10 * 1000 * 1000
_BATCH_RUNS = 5
# The fewest runs in which work can settle.
SETTLING_RUNS = 3 * _BATCH_RUNS

Work = Sequence[Callable[[], Any]]


class Timed:
    """What one window saw, all int64 nanoseconds; told: figures by name that a tool which times itself adds."""

    def __init__(
        self,
        warmup_ns: np.ndarray,
        start_ns: np.ndarray,
        run_ns: np.ndarray,
        flags: Sequence[str],
        told: Optional[Mapping[str, float]] = None,
    ) -> None:
        self.warmup_ns = warmup_ns
        self.start_ns = start_ns
        self.run_ns = run_ns
        self.flags = tuple(flags)
        self.told = dict(told or {})


def time_calls(
    calls: Sequence[Call], warmup: Optional[int], min_runs: int, min_time_s: float, max_time_s: float
) -> Timed:
    """`time_work` of a chain."""
    return time_work([call.run for call in calls], warmup, min_runs, min_time_s, max_time_s)


def time_work(work: Work, warmup: Optional[int], min_runs: int, min_time_s: float, max_time_s: float) -> Timed:
    """Warm up, then run until both minima are reached or the time is over (at least one run).

    warmup: a count, or None = until the running median settles, but no longer than the window itself is asked to be.
    flags: `few_runs` (max_time_s came before min_runs).
    """
    begin = now_ns()
    end = begin + int(max_time_s * 1e9)
    with undisturbed():
        if warmup is None:
            limit = min(end, begin + int(min(max(min_time_s, 0.05), max_time_s / 4) * 1e9))
            warm = _settle(work, limit)
        else:
            warm = _run_many(work, warmup, 0, begin + int(max_time_s * 5e8))[1] if warmup else array("q")
        starts, runs = _window(work, warm, min_runs, min_time_s, end)
    flags = ["few_runs"] if len(runs) < min_runs else []
    return Timed(_int64(warm), _int64(starts), _int64(runs), flags)


def settled(runs: Sequence[int], limit_ns: int) -> int:
    """How many of the first runs are warm-up, by the rule of a live window: three batches alike, or the limit.

    0 where neither comes.
    """
    medians: List[float] = []
    batch: List[int] = []
    spent = 0
    for i, run in enumerate(runs):
        batch.append(run)
        spent += run
        if len(batch) >= _BATCH_RUNS and sum(batch) >= _BATCH_NS:
            medians.append(float(np.median(batch)))
            batch = []
        last = medians[-3:]
        if spent >= limit_ns or (len(last) == 3 and max(last) - min(last) <= SETTLED_SPREAD * min(last)):
            return i + 1
    return 0


def _settle(work: Work, limit_ns: int) -> "array[int]":
    warm = array("q")
    medians: List[float] = []
    while True:
        _, batch = _run_many(work, _BATCH_RUNS, _BATCH_NS, limit_ns)
        warm.extend(batch)
        medians.append(float(np.median(batch)))
        last = medians[-3:]
        if now_ns() >= limit_ns or (len(last) == 3 and max(last) - min(last) <= SETTLED_SPREAD * min(last)):
            return warm


def _window(
    work: Work, known: "array[int]", min_runs: int, min_time_s: float, end_ns: int
) -> Tuple["array[int]", "array[int]"]:
    # Arrays long enough for what the runs before suggest, twice over; work that speeds up more needs another part.
    typical_ns = int(np.median(known)) if len(known) else 1000
    min_time_ns = int(min_time_s * 1e9)
    room = 2 * max(min_runs, min_time_ns // max(typical_ns, 1000)) + 16
    begin = now_ns()
    starts, runs = array("q"), array("q")
    while True:
        left_ns = min_time_ns - (now_ns() - begin)
        more_starts, more_runs = _run_many(work, min_runs - len(runs), left_ns, end_ns, room)
        starts.extend(more_starts)
        runs.extend(more_runs)
        now = now_ns()
        if now >= end_ns or (len(runs) >= min_runs and now - begin >= min_time_ns):
            return starts, runs


def _run_many(
    work: Work, min_runs: int, min_time_ns: int, end_ns: int, room: int = 20000
) -> Tuple["array[int]", "array[int]"]:
    """At least one run, until both minima are reached, or `end_ns`, or the room is full: (starts, durations)."""
    room = max(room, min_runs)
    starts = array("q", bytes(8 * room))
    runs = array("q", bytes(8 * room))
    clock = now_ns
    enough_ns = clock() + min_time_ns
    done = 0
    for i in range(room):
        begin = clock()
        for call in work:
            call()
        end = clock()
        starts[i] = begin
        runs[i] = end - begin
        done = i + 1
        if (end >= enough_ns and done >= min_runs) or end >= end_ns:
            break
    return starts[:done], runs[:done]


def _int64(values: "array[int]") -> np.ndarray:
    return np.array(values, dtype=np.int64)


@contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage collection inside a window."""
    gc.collect()
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@contextmanager
def pinned(cpus: Sequence[int]) -> Iterator[None]:
    """Every thread of this process on these processors, and back as found; () changes nothing.

    Raises OSError when the board has no such processor.
    """
    if not cpus:
        yield
        return
    # The runtime's threads exist since the graph was loaded, and a mask is a thread's own: each must be moved.
    threads = [int(name) for name in os.listdir("/proc/self/task")]
    found = [(thread, os.sched_getaffinity(thread)) for thread in threads]
    try:
        for thread in threads:
            os.sched_setaffinity(thread, set(cpus))
        yield
    finally:
        for thread, mask in found:
            try:
                os.sched_setaffinity(thread, mask)
            except ProcessLookupError:  # a thread that has ended meanwhile
                pass
