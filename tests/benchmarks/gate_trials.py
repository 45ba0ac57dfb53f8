"""Trials of the gate and of its peers on sessions, simulated or from a pool: what the benchmark and the tests count.

All rules see sessions that both arms share, which is kind to the peers: they run one arm after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import numpy as np

from hwbench.gate_rule import Docket, Rule, looks, paired
from hwbench.gate_tests import Sessions, Suite, compare_tests
from hwbench.statistics import median_interval
from hwbench.summary import over_sessions
from tests.benchmarks.gate_pool import ROWS, Pool

SLOW_ROW, SESSIONS, MOST = 7, 8, 128
TABLES = 600
SLOWDOWNS = (0.0, 0.03, 0.05)
# A draw of one table: session medians (rows, sessions) of both arms, and raw runs (rows, 2 sessions, runs) of both.
Draw = Callable[[int], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Shares of tables: with a false alarm, with the slow row found, with a row left open; sessions a row was run."""

    alarms: float
    found: float
    left_open: float
    sessions: float


def hwbench_rule(base: np.ndarray, new: np.ndarray) -> tuple[list[bool], list[bool], float]:
    """Our rule on session medians (rows, sessions): rows slower, rows open, mean sessions used."""
    counts = looks(SESSIONS, base.shape[1])
    docket = Docket(rule=Rule(looks=len(counts)))
    still, used = list(range(len(base))), 0.0
    for count, before in zip(counts, [0, *counts], strict=False):
        docket.hear({r: e for r in still if (e := paired(base[r, :count], new[r, :count])) is not None})
        used += len(still) * (count - before) / len(base)
        still = docket.undecided
        if not still:
            break
    told = [docket.verdicts[r] for r in range(len(base))]
    return [v == "regression" for v in told], [v == "inconclusive" for v in told], used


def pytest_benchmark_rule(base: np.ndarray, new: np.ndarray) -> list[bool]:
    """`--benchmark-compare-fail=median:5%`: one process each, the median of its runs."""
    return (new[:, 0] > 1.05 * base[:, 0]).tolist()


def asv_rule(base: np.ndarray, new: np.ndarray) -> list[bool]:
    """`asv continuous`: two processes each, slower by the factor 1.1.

    Its Mann-Whitney test on raw runs is left out: it can only take alarms away, so this is the most that asv finds.
    """
    return (np.median(new[:, :2], axis=1) > 1.1 * np.median(base[:, :2], axis=1)).tolist()


def score(draw: Draw, slowdown: float, tables: int, rule: str) -> Score:
    """A rule's score over so many tables, one of whose rows is slower by `slowdown` (none for 0)."""
    alarms = found = open_ = 0
    used = 0.0
    for _ in range(tables):
        base, new = draw(MOST)
        new = new.copy()
        new[SLOW_ROW] *= 1 + slowdown
        left: list[bool] = []
        if rule == "hwbench gate":
            slower, left, sessions = hwbench_rule(base, new)
        elif rule == "pytest-benchmark median:5%":
            slower, sessions = pytest_benchmark_rule(base, new), 1.0
        else:
            slower, sessions = asv_rule(base, new), 2.0
        alarms += any(s for row, s in enumerate(slower) if slowdown == 0 or row != SLOW_ROW)
        found += slower[SLOW_ROW]
        open_ += any(left)
        used += sessions
    return Score(alarms=alarms / tables, found=found / tables, left_open=open_ / tables, sessions=used / tables)


RULES = ("hwbench gate", "pytest-benchmark median:5%", "asv continuous")


def print_scores(title: str, scores: dict[tuple[str, float], Score]) -> None:
    """The table that the benchmark is about."""
    print(f"\n{title}")
    print(f"  {'rule':28s} false alarms/table  finds 3 %  finds 5 %  left open  sessions a row")
    for rule in RULES:
        clean, three, five = (scores[rule, slowdown] for slowdown in SLOWDOWNS)
        print(
            f"  {rule:28s} {100 * clean.alarms:15.2f} %  {100 * three.found:7.1f} %  {100 * five.found:7.1f} %  "
            f"{100 * clean.left_open:7.1f} %  {clean.sessions:13.1f}"
        )


def simulated(rng: np.random.Generator, noise: float, kind: str) -> Draw:
    """Sessions whose medians stray by `noise`; 5 % more or less of a session is common to all that runs in it.

    kind: `even`; `uneven` = some rows stray more than others; `bursts` = a tenth of the windows take a third longer, as
    real ones beside a neighbour do.
    """

    def draw(sessions: int) -> tuple[np.ndarray, np.ndarray]:
        common = rng.lognormal(0, 0.05, sessions)
        rows = noise * np.exp(rng.normal(0, 0.4, (ROWS, 1))) if kind == "uneven" else noise
        arms = []
        for _ in range(2):
            values = rng.lognormal(0, 1, (ROWS, sessions)) ** rows * common
            if kind == "bursts":
                values *= 1 + 0.3 * (rng.random(values.shape) < 0.1)
            arms.append(values)
        return arms[0], arms[1]

    return draw


def resampled(arms: tuple[np.ndarray, np.ndarray], rng: np.random.Generator) -> Draw:
    """Sessions of the pool in a new random order; both arms of a session stay together, as the gate measures them.

    Without replacement while there are enough, so that no session is taken for two.
    """

    def draw(sessions: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = rng.permutation(arms[0].shape[1])[:sessions]
        # Any row may be the one that gets slower: one alone would stand for its own 120 sessions only.
        order = rng.permutation(ROWS)
        # Which arm is called new is chance too: a fixed difference of two windows would count again and again.
        swap = rng.random((ROWS, 1)) < 0.5
        first, second = arms[0][order][:, chosen], arms[1][order][:, chosen]
        return np.where(swap, second, first), np.where(swap, first, second)

    return draw


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """How measurements of so many sessions agree with the whole pool and with each other.

    covered: share of 95 % intervals that hold the pool's median, sessions drawn by chance.
    covered_in_turn: the same of sessions that came one after the other, as a user measures.
    independent_in_turn: the same, had their resemblance to their neighbours been ignored.
    covered_apart: the same of every third session, as `profile --pause` of two sessions' length takes them.
    within: share of pairs of disjoint runs in turn that agree to 1 %.  apart: median distance of such pairs.
    within_relative: `within` of latencies divided by what the session's other rows took, the best of controls.
    within_lowest: `within` of the lowest session's tenth percentile of runs.
    """

    sessions: int
    covered: float
    covered_in_turn: float
    independent_in_turn: float
    covered_apart: float
    within: float
    apart: float
    within_relative: float
    within_lowest: float


def repeated(pool: Pool, sessions: int, rng: np.random.Generator, draws: int = 100) -> Repeated:
    """Intervals and values of so many sessions, of every row of both arms.

    Chance draws are with replacement: the pool is then exactly the population whose median is the truth.
    """
    rows, low = np.concatenate([pool.base, pool.new]), np.concatenate([pool.base_low, pool.new_low])
    truth = np.median(rows, axis=1)
    covered = [
        _holds(rows[row, rng.integers(pool.sessions, size=sessions)], truth[row])[0]
        for row in range(len(rows))
        for _ in range(draws)
    ]
    pieces = range(0, pool.sessions - sessions + 1, sessions)
    in_turn = [_holds(rows[row, at : at + sessions], truth[row]) for at in pieces for row in range(len(rows))]
    starts = range(0, pool.sessions - 3 * sessions + 1, sessions)
    third = [_holds(rows[row, at : at + 3 * sessions : 3], truth[row]) for at in starts for row in range(len(rows))]
    common = np.array([np.median(np.delete(rows / truth[:, None], row, axis=0), axis=0) for row in range(len(rows))])

    def apart(values: np.ndarray, location: Callable[..., np.ndarray]) -> np.ndarray:
        each = [location(values[:, at : at + sessions], axis=1) for at in pieces]
        return np.concatenate([np.abs(each[i] / each[j] - 1) for i in range(len(each)) for j in range(i)])

    plain = apart(rows, np.median)
    return Repeated(
        sessions=sessions,
        covered=float(np.mean(covered)),
        covered_in_turn=float(np.mean([wide for wide, _ in in_turn])),
        independent_in_turn=float(np.mean([narrow for _, narrow in in_turn])),
        covered_apart=float(np.mean([wide for wide, _ in third])),
        within=float(np.mean(plain <= 0.01)),
        apart=float(np.median(plain)),
        within_relative=float(np.mean(apart(rows / common, np.median) <= 0.01)),
        within_lowest=float(np.mean(apart(low, np.min) <= 0.01)),
    )


def _holds(values: np.ndarray, truth: float) -> tuple[bool, bool]:
    """Whether the interval holds the truth, and whether it would were the sessions independent of each other."""
    interval, narrow = over_sessions(values.tolist()), median_interval(values)
    assert interval.low is not None and interval.high is not None and narrow is not None
    return interval.low <= truth <= interval.high, narrow[0] <= truth <= narrow[1]


def equal_tables(pool: Pool, sessions: int, *, by_turns: bool) -> tuple[float, int]:
    """Share of tables without a change in which a row alarms, and how many there were.

    The arms are files of pytest-benchmark: so many sessions each, one arm after the other or by turns. Tables overlap:
    each begins a quarter of an arm after the last.
    """
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    alarms = []
    for at in range(0, pool.sessions - 2 * sessions + 1, sessions // 4):
        order = np.arange(at, at + 2 * sessions)
        chosen = (order[::2], order[1::2]) if by_turns else (order[:sessions], order[sessions:])
        suites = []
        for values, which in zip((pool.base, pool.new), chosen, strict=True):
            told = [[(start + timedelta(minutes=int(s)), (float(row[s]),)) for s in which] for row in values]
            tests = {f"row {i}": Sessions(where="here", setting="", told=each) for i, each in enumerate(told)}
            suites.append(Suite(name="", tests=tests))
        rows, _ = compare_tests(suites[0], suites[1], Rule(), least=sessions)
        alarms.append(any(row.verdict == "regression" for row in rows))
    return float(np.mean(alarms)), len(alarms)
