"""Which changes can this machine resolve, and how long does that take? `hwbench doctor --noise`.

One small network is measured against itself, as the gate does: two windows one after the other, in a fresh session each
time. How far their ratio strays from session to session is the noise of a comparison here, and the gate's own rule says
how many sessions that needs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from hwbench import control_network, gate_rule, journal, profiling
from hwbench.board import open_board
from hwbench.campaign import campaign
from hwbench.errors import ConfigError, Inconclusive
from hwbench.gate_rule import Rule
from hwbench.measurement import Cell
from hwbench.noise import Noise, grade_of, middle
from hwbench.profiling import Job
from hwbench.source import Source
from hwbench.statistics import t_quantile
from hwbench.store import Store
from hwbench.target import Target
from hwbench.workload import Bundle

CHANGES = (0.01, 0.03, 0.10)
_POWER = 0.95
# The fewest sessions whose spread says anything, and the most that anybody waits for.
_FEWEST, _MOST = 6, 4096
_ARMS = ("base.", "new.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """How many sessions a slowdown of one row takes to be found in 95 % of gates.

    change: the slowdown.  sessions, seconds: None where even 4096 sessions do not do.
    """

    change: float
    sessions: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What a look at a machine came to.

    stray_percent: of the ratio of two equal arms, one standard deviation between sessions.
    session_s: how long both windows of a session take, its start included.  grade, noise: of its middle session.
    """

    sessions: int
    stray_percent: float
    session_s: float
    grade: str | None
    noise: Noise
    resolutions: tuple[Resolution, ...]


def resolve(
    target: Target,
    *,
    seconds: float,
    model: str | None = None,
    backend: str | None = None,
    wait: bool = False,
    told: Callable[[str], None] = lambda text: None,
) -> Resolved:
    """Measure a network against itself for about so many seconds; at least six sessions.

    model: a network file; None = a small one of everyday operators.  told: hears how far it is.

    Raises ConfigError where the target is simulated, and Inconclusive where windows were of no use.
    """
    if target.simulates:
        raise ConfigError(
            f"{target.name} is simulated: it has no noise but what --noise of profile adds, and nothing to resolve"
        )
    with (
        TemporaryDirectory(prefix="hwbench-noise-") as folder,
        open_board(target, backend=backend, wait=wait) as board,
        Store(Path(folder) / "store.sqlite", durable=False) as store,
    ):
        file = model or str(control_network.write(Path(folder) / "control.onnx"))
        job = Job(target=target, backend=backend, source=Source.of(space=None, model=file))
        setting = job.settings[0]
        plain = job.source.bundle(
            formats=profiling.formats(board.backend, [setting]), out=Path(folder) / "bundle", networks=0
        )
        whole = max(plain.workloads, key=lambda workload: (workload.kind == "network", workload.macs))
        twins = tuple(replace(whole, block_key=arm + whole.block_key, parts=()) for arm in _ARMS)
        bundle = Bundle(root=plain.root, space=None, workloads=twins)
        board.identity(setting)
        begin_s, sessions, spent_s = time.monotonic(), 0, 0.0
        while sessions < _FEWEST or (spent_s < seconds and sessions < _MOST):
            sessions += 1
            told(f"session {sessions}, {spent_s:.0f} of about {seconds:.0f} s")
            found = list(
                campaign(
                    [board],
                    bundle,
                    [setting],
                    store,
                    sessions=sessions,
                    rng=np.random.default_rng(sessions),
                    together=lambda cell: cell.setting,
                )
            )
            spent_s = time.monotonic() - begin_s
        by_key = {m.cell: [journal.median_ms(w.run_ns) for w in m.windows] for m in found}
        base, new = (by_key[Cell(block_key=twin.block_key, setting=setting)] for twin in twins)
        effect = gate_rule.paired(base, new)
        notes = [note.noise for note in journal.sessions(store)]
    if effect is None or effect.error == 0:
        raise Inconclusive(f"{target.name}: its windows are all alike; nothing can be said of its noise")
    stray = effect.error * math.sqrt(effect.sessions)
    session_s = spent_s / sessions
    return Resolved(
        sessions=sessions,
        stray_percent=100 * stray,
        session_s=session_s,
        grade=grade_of([noise.grade for noise in notes if noise.grade]),
        noise=middle(notes),
        resolutions=tuple(_resolution(change, stray, session_s) for change in CHANGES),
    )


def sessions_needed(change: float, stray: float, rule: Rule) -> int | None:
    """The fewest sessions of one look that find a slowdown in 95 % of gates; None for more than 4096.

    stray: of log(new / base) between sessions: the error of the gate's trimmed mean times √sessions.
    A row is judged alone, with half of its sessions cut off, as the gate does; the threshold is a third of the change,
    as 1 % is of 3 % by default.
    """
    distance = math.log1p(change) - math.log1p(change / 3)

    def enough(count: int) -> bool:
        freedom = min(200, max(1, count - 2 * int(0.25 * count) - 1))
        bound = t_quantile(1 - rule.rate / rule.looks, freedom) + t_quantile(_POWER, freedom)
        return distance >= bound * stray / math.sqrt(count)

    low, high = 4, _MOST
    if not enough(high):
        return None
    while low < high:
        half = (low + high) // 2
        low, high = (low, half) if enough(half) else (half + 1, high)
    return low


def _resolution(change: float, stray: float, session_s: float) -> Resolution:
    count = sessions_needed(change, stray, Rule())
    return Resolution(change=change, sessions=count, seconds=None if count is None else count * session_s)


def lines(name: str, found: Resolved) -> Iterator[str]:
    """For people."""
    yield (
        f"{name}: one network against itself, {found.sessions} sessions of {found.session_s:.1f} s: the ratio strays "
        f"by {found.stray_percent:.2f} % from session to session" + (f"; grade {found.grade}" if found.grade else "")
    )
    if found.noise.line:
        yield f"  {found.noise.line}"
    for one in found.resolutions:
        if one.sessions is None or one.seconds is None:
            yield f"  {100 * one.change:>3.0f} % slower: cannot be told here, not in {_MOST} sessions"
        else:
            yield (
                f"  {100 * one.change:>3.0f} % slower: found in 95 % of gates with {one.sessions} sessions a row, "
                f"{_spoken(one.seconds)} for one row"
            )


def _spoken(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )
