"""How often the gate cries wolf and how often it sleeps, beside the rules of pytest-benchmark and asv.

All rules see sessions that both arms share, which is kind to the peers: they run one arm after the other.
Simulated sessions (seeded), and a pool of real sessions of this machine, clean and beside a neighbour that keeps one
core busy. HWBENCH_GATE_SESSIONS says how large that pool is: 120 sessions an arm and condition take a quarter of an
hour, the 16 of the default show that it works and no more.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from hwbench.board import open_board
from hwbench.campaign import campaign
from hwbench.gate_rule import Docket, Rule, looks, paired
from hwbench.journal import median_ms
from hwbench.session import WindowSpec
from hwbench.store import Store
from hwbench.target_file import find_target
from hwbench.workload import Bundle
from tests.doubles.networks import matmul_bundle

ROWS, SLOW_ROW, SESSIONS, MOST = 40, 7, 8, 128
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


@pytest.mark.parametrize(
    ("noise", "kind"), [(0.01, "even"), (0.015, "even"), (0.02, "even"), (0.012, "uneven"), (0.01, "bursts")]
)
def test_simulated_sessions(noise: float, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """40 rows; <= 1 % of clean tables alarm, 3 % on one row is found in >= 95 %, 5 % in >= 99 %."""
    scores = {}
    for rule in RULES:
        for slowdown in SLOWDOWNS:
            draw = simulated(np.random.default_rng(20_26), noise, kind)
            scores[rule, slowdown] = score(draw, slowdown, TABLES, rule)
    with capsys.disabled():
        print_scores(f"simulated, {kind} noise of {100 * noise:g} % a session, {TABLES} tables, seed 2026", scores)
    ours = [scores["hwbench gate", slowdown] for slowdown in SLOWDOWNS]
    assert ours[0].alarms <= 0.01
    assert ours[1].found >= 0.95
    assert ours[2].found >= 0.99


POOL = int(os.environ.get("HWBENCH_GATE_SESSIONS", "16"))
HOW = WindowSpec(warmup=5, min_runs=20, min_time_s=0.005, max_time_s=1.0)


def _spin() -> None:
    while True:
        sum(range(1000))


@contextmanager
def neighbour(noisy: bool) -> Iterator[None]:
    """Somebody else who keeps a core busy in turns of half a second."""
    if not noisy:
        yield
        return
    worker = multiprocessing.get_context("spawn").Process(target=_spin, daemon=True)
    worker.start()
    try:
        yield
    finally:
        worker.kill()
        worker.join()


def pool(folder: Path, noisy: bool) -> tuple[np.ndarray, np.ndarray]:
    """Session medians (rows, sessions) of two arms that are the same graphs, from POOL real sessions of the host."""
    folder.mkdir()
    # Sizes that take 5 to 100 microseconds; the same ones in both arms, under other keys.
    plain = matmul_bundle(folder / "bundle", [32 + 2 * row for row in range(ROWS)])
    arms = [
        replace(w, block_key=f"{arm}.{row:02d}") for arm in ("base", "new") for row, w in enumerate(plain.workloads)
    ]
    bundle = Bundle(root=plain.root, space=None, workloads=tuple(arms))
    target = find_target("host")
    with open_board(target) as board, Store(folder / "store.sqlite", durable=False) as store, neighbour(noisy):
        measured = {
            m.cell.block_key: [median_ms(w.run_ns) for w in m.windows]
            for m in campaign(
                [board],
                bundle,
                target.settings(None, "found"),
                store,
                sessions=POOL,
                rng=np.random.default_rng(0),
                how=HOW,
            )
        }
    base, new = (np.array([measured[f"{arm}.{row:02d}"] for row in range(ROWS)]) for arm in ("base", "new"))
    return base, new


def resampled(pools: tuple[np.ndarray, np.ndarray], rng: np.random.Generator) -> Draw:
    """Sessions of the pool in a new random order; both arms of a session stay together, as the gate measures them.

    Without replacement while there are enough, so that no session is taken for two.
    """
    base, new = pools

    def draw(sessions: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = rng.permutation(base.shape[1])[:sessions]
        # Any row may be the one that gets slower: one alone would stand for its own 120 sessions only.
        order = rng.permutation(ROWS)
        # Which arm is called new is chance too: a fixed difference of two windows would count again and again.
        swap = rng.random((ROWS, 1)) < 0.5
        first, second = base[order][:, chosen], new[order][:, chosen]
        return np.where(swap, second, first), np.where(swap, first, second)

    return draw


@pytest.mark.parametrize("noisy", [False, True], ids=["clean", "noisy"])
def test_real_sessions(noisy: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same figures from real sessions of this machine, when the pool holds enough of them to say so."""
    start = time.monotonic()
    pools = pool(tmp_path / "pool", noisy)
    seconds = time.monotonic() - start
    spread = np.log(pools[0]).std(axis=1, ddof=1)
    pair = (np.log(pools[1]) - np.log(pools[0])).std(axis=1, ddof=1)
    scores = {}
    for rule in RULES:
        for slowdown in SLOWDOWNS:
            draw = resampled(pools, np.random.default_rng(20_26))
            scores[rule, slowdown] = score(draw, slowdown, TABLES, rule)
    with capsys.disabled():
        condition = "beside a busy neighbour" if noisy else "clean"
        print_scores(
            f"{POOL} real sessions {condition}, {ROWS} rows x 2 arms, {seconds / POOL:.1f} s each, on "
            f"{platform.machine()} with {os.cpu_count()} cores; session medians stray by "
            f"{100 * np.median(spread):.2f} %, their ratios by {100 * np.median(pair):.2f} % (medians over rows), "
            f"{TABLES} tables, seed 2026",
            scores,
        )
    ours = [scores["hwbench gate", slowdown] for slowdown in SLOWDOWNS]
    if POOL < 120:
        pytest.skip(f"{POOL} sessions show that it works; set HWBENCH_GATE_SESSIONS=120 for figures")
    assert ours[0].alarms <= 0.01
    assert ours[1].found >= 0.95
    assert ours[2].found >= 0.99
