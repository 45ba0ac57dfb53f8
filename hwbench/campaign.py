"""Cells x sessions: the measuring itself, committed window by window.

A session is a fresh process that measures all cells of an operating point in a new random order, so what the machine
does meanwhile falls on all cells alike; a cell's value is the median of its sessions' medians. What the Store already
holds is not measured again: to resume is to start again. Several boards share the sessions (`hwbench.farm`).
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hwbench import farm, journal
from hwbench.board import Board
from hwbench.energy import MIN_SAMPLES
from hwbench.errors import ConfigError, PermanentDeviceError
from hwbench.measurement import Cell, Measurement, Window
from hwbench.round import Round, prepared_control
from hwbench.session import WindowSpec
from hwbench.setting import Clocks, Setting
from hwbench.store import Store
from hwbench.summary import summarise
from hwbench.workload import Bundle

logger = logging.getLogger(__name__)

# More than the least that an energy needs, as the ends of a window fall between samples.
_SAMPLES = MIN_SAMPLES * 1.25
# What a cell costs beside its runs (push, load, drop), and a session (start of a process, control), for --plan only.
_CELL_S, _SESSION_S, _GUESSED_MACS_PER_S = 0.05, 1.0, 2e9

# In a window's provenance, which of several boards measured it; and how often each is looked at before.
_LINK, _LOOKS = "link", 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a campaign is: after each window, also one that was found in the Store."""

    done: int
    total: int
    cell: Cell
    session: int
    latency_ms: float
    resumed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignPlan:
    """What a campaign would do; seconds is a guess from operation counts, before anything was measured."""

    cells: tuple[Cell, ...]
    sessions: int
    seconds: float

    @property
    def windows(self) -> int:
        """Cells times sessions."""
        return len(self.cells) * self.sessions


class CellsFailed(PermanentDeviceError):
    """Some cells could not be measured; all others were, and are kept.  failures: message by cell."""

    def __init__(self, failures: Mapping[Cell, str]) -> None:
        shown = "; ".join(f"{cell.block_key} [{cell.setting}]: {why}" for cell, why in list(failures.items())[:3])
        more = f" and {len(failures) - 3} more" if len(failures) > 3 else ""
        cells = "1 cell" if len(failures) == 1 else f"{len(failures)} cells"
        super().__init__(f"{cells} could not be measured: {shown}{more}; the others are kept")
        self.failures = dict(failures)


def plan(
    bundle: Bundle, settings: Sequence[Setting], *, sessions: int, how: WindowSpec, pause_s: float = 0.0
) -> CampaignPlan:
    """Cells and a rough time, without a board."""
    cells = _cells(bundle, settings)
    macs = {w.block_key: w.macs for w in bundle.workloads}
    windows_s = sum(_CELL_S + _guess_s(macs[cell.block_key], how) for cell in cells)
    points = len({(s.unit, s.clocks) for s in settings})
    seconds = sessions * (points * _SESSION_S + windows_s) + (sessions - 1) * pause_s
    return CampaignPlan(cells=cells, sessions=sessions, seconds=seconds)


def campaign(
    boards: Sequence[Board],
    bundle: Bundle,
    settings: Sequence[Setting],
    store: Store,
    *,
    sessions: int,
    rng: np.random.Generator,
    how: WindowSpec | None = None,
    progress: Callable[[Progress], None] | None = None,
    together: Callable[[Cell], Hashable] | None = None,
    pause_s: float = 0.0,
) -> Iterator[Measurement]:
    """Measure every workload of the bundle at every setting, `sessions` times; yields the cells when all are complete.

    boards: opened boards of one target; they share the sessions, see `farm.spread`.
    together: cells of which it tells the same are measured one after the other, in random order; None = all alone.
    pause_s: a board's rest before each session but its first: sessions further apart resemble each other less.
    Groups by operating point, shuffles inside, commits each window, repeats only the open cell after a
    TransientDeviceError.  A cell that cannot run does not stop the others: CellsFailed is raised when all else is done.
    Raises Inconclusive when several boards do not agree; their windows are kept.
    """
    if sessions < 1 or not boards or not settings or not bundle.workloads:
        raise ConfigError("a campaign needs a board, a setting, a workload and at least one session")
    run = _Campaign(
        boards=boards,
        bundle=bundle,
        store=store,
        how=_long_enough(how or WindowSpec(), boards),
        rng=rng,
        progress=progress,
        cells=_cells(bundle, settings),
        sessions=sessions,
        together=together,
        pause_s=pause_s,
    )
    run.measure()
    yield from run.measurements()
    if run.failures:
        raise CellsFailed(run.failures)


@dataclass(slots=True, kw_only=True)
class _Campaign:
    """The state of one campaign."""

    boards: Sequence[Board]
    bundle: Bundle
    store: Store
    how: WindowSpec
    rng: np.random.Generator
    progress: Callable[[Progress], None] | None
    cells: tuple[Cell, ...]
    sessions: int
    together: Callable[[Cell], Hashable] | None = None
    pause_s: float = 0.0
    begun: set[str] = field(default_factory=set)
    failures: dict[Cell, str] = field(default_factory=dict)
    told: set[tuple[Cell, int]] = field(default_factory=set)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def measure(self) -> None:
        """Run all sessions: one after the other on a board, side by side on several."""
        if len(self.boards) == 1:
            for number in range(self.sessions):
                self.session(number, self.boards[0], self.rng)
            return
        living = farm.of_one_kind(self.boards, self.cells[0].setting)
        # Each session its own generator: which board comes first must not change the orders.
        seeds = self.rng.integers(1 << 63, size=self.sessions)
        if any(self._window(cell, n) is None for cell in self.cells for n in range(self.sessions)):
            looked = farm.ask(living, self._control_ms)
            farm.check_agreement({board.name: control_ms for board, control_ms in looked})
            living = [board for board, _ in looked]
        farm.spread(
            living,
            range(self.sessions),
            lambda number, board, stopped: self.session(
                number, board, np.random.default_rng(seeds[number]), stopped=stopped
            ),
        )
        farm.check_agreement(self._times())

    def session(
        self, number: int, board: Board, rng: np.random.Generator, *, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        """Measure what is missing of one session: one operating point after the other, in random order."""
        groups: dict[tuple[str, Clocks], list[Cell]] = {}
        for cell in self.cells:
            if cell in self.failures:
                continue
            window = self._window(cell, number)
            if window is not None:
                self._tell(window, resumed=True)
            else:
                groups.setdefault((cell.setting.unit, cell.setting.clocks), []).append(cell)
        points = list(groups.values())
        if points:
            self._rest(board, stopped)
        for place in rng.permutation(len(points)):
            cells = points[place]
            Round(
                board=board,
                bundle=self.bundle,
                store=self.store,
                how=self.how,
                number=number,
                keep=lambda window: self._keep(window, board),
                fail=self._fail,
                stopped=stopped,
                sleep=board.sleep,
            ).run(_shuffled(cells, rng, self.together))

    def _rest(self, board: Board, stopped: Callable[[], bool]) -> None:
        """Wait before a session that is not the board's first of this run, in steps short enough to be stopped."""
        left_s = self.pause_s if board.name in self.begun else 0.0
        self.begun.add(board.name)
        while left_s > 0 and not stopped():
            board.sleep(min(left_s, 1.0))
            left_s -= 1.0

    def measurements(self) -> Iterator[Measurement]:
        """Every cell's value from its windows."""
        # A board with a meter never gets declared energies: one table must not mix the two.
        power = None if any(board.meter for board in self.boards) else self.boards[0].target.power
        for cell in self.cells:
            if cell not in self.failures:
                found = [self._window(cell, n) for n in range(self.sessions)]
                yield summarise(self.bundle.workload(cell.block_key), [w for w in found if w is not None], power)

    def _window(self, cell: Cell, number: int) -> Window | None:
        """What is kept of a cell in a session, whichever board measured it; None when nothing is."""
        for board in self.boards:
            # A board that died before it said who it is cannot have measured anything.
            if not board.given_up or board.known:
                window = journal.get_window(self.store, self._key(cell, number, board))
                if window is not None:
                    return window
        return None

    def _key(self, cell: Cell, number: int, board: Board) -> str:
        sha256 = board.artifact_sha256(self.bundle, self.bundle.workload(cell.block_key), cell.setting)
        return journal.window_key(cell, number, sha256, board.identity(cell.setting), self.how)

    def _keep(self, window: Window, board: Board) -> str:
        key = self._key(window.cell, window.session, board)
        if len(self.boards) > 1:
            window = replace(window, provenance={**window.provenance, _LINK: board.name})
        journal.put_window(self.store, key, window)
        self._tell(window, resumed=False)
        return key

    def _control_ms(self, board: Board) -> float:
        """How long a board takes for a small workload: the best of a few windows, as the others only add noise."""
        setting = self.cells[0].setting
        board.apply(setting)
        prepared = prepared_control(board, self.bundle, setting)
        with board.session(setting) as session:
            session.load(prepared)
            return min(
                journal.median_ms(session.window([prepared.block_key], WindowSpec(), ()).run_ns) for _ in range(_LOOKS)
            )

    def _times(self) -> dict[str, float]:
        """By board, the median over cells of its time over the mean of all boards: cells that several measured."""
        shares: defaultdict[str, list[float]] = defaultdict(list)
        for cell in self.cells:
            by_board: defaultdict[str, list[float]] = defaultdict(list)
            for window in (self._window(cell, n) for n in range(self.sessions)):
                if window is not None and _LINK in window.provenance:
                    by_board[window.provenance[_LINK]].append(journal.median_ms(window.run_ns))
            medians = {name: float(np.median(times)) for name, times in by_board.items()}
            if len(medians) > 1:
                mean = sum(medians.values()) / len(medians)
                for name, median in medians.items():
                    shares[name].append(median / mean)
        return {name: float(np.median(values)) for name, values in shares.items()}

    def _fail(self, cell: Cell, error: Exception) -> None:
        logger.warning("%s [%s] cannot be measured: %s", cell.block_key, cell.setting, error)
        with self._lock:
            self.failures[cell] = str(error)

    def _tell(self, window: Window, *, resumed: bool) -> None:
        with self._lock:
            # A session that a lost board handed on is looked through again.
            known = len(self.told)
            self.told.add((window.cell, window.session))
            if self.progress is not None and len(self.told) > known:
                self.progress(
                    Progress(
                        done=len(self.told),
                        total=len(self.cells) * self.sessions,
                        cell=window.cell,
                        session=window.session,
                        latency_ms=journal.median_ms(window.run_ns),
                        resumed=resumed,
                    )
                )


def _cells(bundle: Bundle, settings: Sequence[Setting]) -> tuple[Cell, ...]:
    return tuple(Cell(block_key=w.block_key, setting=s) for s in settings for w in bundle.workloads)


def _shuffled(
    cells: Sequence[Cell], rng: np.random.Generator, together: Callable[[Cell], Hashable] | None
) -> list[Cell]:
    """A random order, in which cells that belong together follow each other."""
    shuffled = [cells[i] for i in rng.permutation(len(cells))]
    if together is None:
        return shuffled
    groups: dict[Hashable, list[Cell]] = {}
    for cell in shuffled:
        groups.setdefault(together(cell), []).append(cell)
    return [cell for group in groups.values() for cell in group]


def _long_enough(how: WindowSpec, boards: Sequence[Board]) -> WindowSpec:
    """Windows in which the slowest meter takes samples enough for an energy."""
    rates = [min(b.meter.rate_hz or how.probe_hz, how.probe_hz) for b in boards if b.meter is not None]
    if not rates:
        return how
    least_s = _SAMPLES / min(rates)
    return replace(how, min_time_s=max(how.min_time_s, least_s), max_time_s=max(how.max_time_s, 3 * least_s))


def _guess_s(macs: int, how: WindowSpec) -> float:
    run_s = macs / _GUESSED_MACS_PER_S
    # Warm-up takes about as long as the window.
    return min(2 * max(how.min_time_s, how.min_runs * run_s), how.max_time_s)
