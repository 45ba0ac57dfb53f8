"""One round: the cells of one operating point in one session, in fresh processes, each window committed as it comes.

Around the cells and between them stand a small control workload (did the board drift meanwhile?), before them the idle
baseline, and for a meter with a clock of its own the marker that aligns it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hwbench import journal
from hwbench.board import Board
from hwbench.cooling import Sensors, cool
from hwbench.energy import integrate, mean_power
from hwbench.errors import DeviceError, Inconclusive, PermanentDeviceError, TransientDeviceError
from hwbench.journal import SessionNote
from hwbench.marker import play_marker
from hwbench.measurement import Cell, Trace, Window
from hwbench.meter import Meter
from hwbench.noise import noise_of
from hwbench.profiler import measure
from hwbench.reading import throttled
from hwbench.session import Prepared, Session, WindowSpec
from hwbench.setting import Setting
from hwbench.store import Store
from hwbench.workload import Bundle, Workload

logger = logging.getLogger(__name__)

ATTEMPTS = 3
BACKOFF_S = 0.5
IDLE_S = 2.0
# Between the last work and the idle seconds, and between those and the marker.
_QUIET_S = 0.3
# Less room than this beside a workload's file, and a board counts as full.
_ROOM_BYTES = 1_000_000
_CONTROL = WindowSpec(min_runs=20, min_time_s=0.05, max_time_s=1.0)
# Looks at the control take a twentieth of a session, and are that far apart at least.
_CONTROL_SHARE, _CONTROL_S = 0.05, 2.0


@dataclass(slots=True, kw_only=True)
class Round:
    """Cells of one operating point, one session.

    keep: commits a window and returns its key.  fail: notes a cell that cannot be measured.
    stopped: asked between cells; True ends the round early.  clock: seconds that pass while boards work.
    queue: cells still to do, the open one first.  exhausted: cells given up since the last that was kept.
    """

    board: Board
    bundle: Bundle
    store: Store
    how: WindowSpec
    number: int
    keep: Callable[[Window], str]
    fail: Callable[[Cell, Exception], None]
    sleep: Callable[[float], None] = time.sleep
    stopped: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic
    queue: deque[Cell] = field(default_factory=deque, init=False)
    total: int = field(default=0, init=False)
    exhausted: int = field(default=0, init=False)

    def run(self, cells: Sequence[Cell]) -> None:
        """Measure the cells in this order.

        After a TransientDeviceError, wherever in a cell, the board is waited for and only the open cell is repeated, in
        a fresh process with its clocks set anew; a cell that fails so three times is given up. When two in a row are
        given up it is the board: the error is raised.
        """
        self.queue = deque(cells)
        self.total = len(cells)
        attempts: Counter[Cell] = Counter()
        while self.queue and not self.stopped():
            try:
                _Process(self, self.board.apply(cells[0].setting)).run()
            except TransientDeviceError as error:
                if not self.queue:
                    # Only the control at the end is lost: every cell was kept.
                    logger.warning("session %d: %s", self.number, error)
                    return
                # The cell at the head is the one that was open when it happened.
                cell = self.queue[0]
                attempts[cell] += 1
                logger.warning("session %d, %s: %s (try %d)", self.number, cell.block_key, error, attempts[cell])
                self.sleep(BACKOFF_S * 2 ** (attempts[cell] - 1))
                # A board that stays away is no cell's fault: this raises.
                self.board.recover(sleep=self.sleep)
                if attempts[cell] >= ATTEMPTS:
                    self._give_up(cell, error)

    def _give_up(self, cell: Cell, error: TransientDeviceError) -> None:
        self.exhausted += 1
        if self.exhausted > 1:
            raise error
        self.fail(cell, error)
        self.queue.popleft()


class _Process:
    """One fresh process of a round: it takes cells from the queue until the queue is empty or it dies."""

    def __init__(self, round_: Round, clocks: Mapping[str, float | str]) -> None:
        self._round = round_
        self._board = round_.board
        self._clocks = clocks
        self._kept: list[tuple[str, Window]] = []
        self._control: list[float] = []
        self._control_due_s = 0.0
        self._complete = False
        self._idle_mw: float | None = None
        self._marker: Trace | None = None
        self._traces: Mapping[str, Trace] = {}
        self._seen: Sensors | None = None

    def run(self) -> None:
        """Measure what is in the queue; leaves a note on the session whatever happens."""
        own = self._own_meter()
        setting = self._round.queue[0].setting
        control = prepared_control(self._board, self._round.bundle, setting)
        if own is not None:
            own.start()
        try:
            with self._board.session(setting) as session:
                self._open(session, control, own)
                while self._round.queue and not self._round.stopped():
                    self._cell(session)
                    if self._round.queue and self._round.clock() >= self._control_due_s:
                        self._look_at_control(session, control)
                self._look_at_control(session, control)
                self._complete = True
        finally:
            try:
                if own is not None:
                    self._settle_energy(own)
            finally:
                self._note()

    def _open(self, session: Session, control: Prepared, own: Meter | None) -> None:
        self._look_at_control(session, control)
        self._round.sleep(_QUIET_S)
        try:
            self._idle_mw = self._board.idle_mw(session, IDLE_S)
        except Inconclusive as error:
            logger.warning("session %d: no idle baseline: %s", self._round.number, error)
        if own is not None:
            self._round.sleep(IDLE_S + _QUIET_S)
            session.load(control)
            self._marker = play_marker(session, control.block_key, sleep=self._round.sleep)
            session.drop(control.block_key)

    def _cell(self, session: Session) -> None:
        """Measure the cell at the head of the queue; a cell that cannot run leaves the queue too."""
        round_ = self._round
        cell = round_.queue[0]
        _, before = cool(self._board, round_.sleep, seen=self._seen)
        self._seen = None
        window = self._window(session, cell)
        if window is None:
            return
        clocks, moved = self._board.moved(cell.setting, self._clocks)
        if moved:
            # As a window that is not steady: measured once more, then kept and flagged.
            logger.warning("session %d, %s: clock %s moved", round_.number, cell.block_key, ", ".join(moved))
            self._clocks = self._board.apply(cell.setting)
            window = self._window(session, cell)
            if window is None:
                return
            clocks, moved = self._board.moved(cell.setting, self._clocks)
        # What they tell after a cell they tell before the next.
        self._seen = temps, after = self._board.read_sensors()
        throttle = throttled(self._board.sensors, before, after)
        energy_mj, flags = self._energy(window)
        told = [*(["throttled"] if throttle else []), *(["clock_moved"] if moved else [])]
        window = replace(
            window,
            clocks_read=clocks,
            temps_c=temps,
            throttle=throttle,
            energy_mj=energy_mj,
            flags=tuple(sorted({*window.flags, *flags, *told})),
            provenance={**window.provenance, **self._board.identity(cell.setting)},
        )
        self._kept.append((round_.keep(window), window))
        round_.exhausted = 0
        round_.queue.popleft()

    def _window(self, session: Session, cell: Cell) -> Window | None:
        """Time a cell; None when it cannot run, which is noted: it leaves the queue."""
        round_ = self._round
        try:
            prepared = self._board.prepare(round_.bundle, round_.bundle.workload(cell.block_key), cell.setting)
            return measure(
                session,
                prepared,
                cell,
                round_.how,
                self._board.probes(),
                number=round_.number,
                order=round_.total - len(round_.queue),
                limits=self._board.target.limits,
            )
        except PermanentDeviceError as error:
            self._check_room(cell, error)
            round_.fail(cell, error)
            round_.queue.popleft()
            return None

    def _check_room(self, cell: Cell, error: PermanentDeviceError) -> None:
        """Raise where it is the board's disk that is full: every cell after this one would fail too."""
        free = self._board.free_bytes()
        sizes = [a.size_bytes for a in self._round.bundle.workload(cell.block_key).artifacts.values()]
        if free is not None and free < max(sizes, default=0) + _ROOM_BYTES:
            raise PermanentDeviceError(
                f"{self._board.name}: its disk is full ({free / 1e6:.1f} MB free where our files lie); "
                "make room there, then go on with --resume"
            ) from error

    def _energy(self, window: Window) -> tuple[float | None, tuple[str, ...]]:
        """Net energy of a run from what the agent read in the window; unknown is None, with a flag that says so."""
        meter = self._board.meter
        if meter is None or not meter.probes():
            return None, ()
        return self._integrated(meter, window.traces, window)

    def _integrated(
        self, meter: Meter, traces: Mapping[str, Trace], window: Window
    ) -> tuple[float | None, tuple[str, ...]]:
        start_ns, end_ns = int(window.start_ns[0]), window.end_ns
        try:
            told = integrate(meter.total(traces), start_ns, end_ns, self._idle_mw, window.runs)
        except Inconclusive as error:
            logger.warning("%s, session %d: no energy: %s", window.cell.block_key, window.session, error)
            return None, ("no_energy",)
        if told.net_mj is None:
            return None, ("no_idle_baseline",)
        # Less than idle is noise of the baseline, not energy that was won.
        return (told.net_mj, ()) if told.net_mj > 0 else (None, ("energy_below_idle",))

    def _look_at_control(self, session: Session, control: Prepared) -> None:
        begin_s = self._round.clock()
        try:
            session.load(control)
            raw = session.window([control.block_key], _CONTROL, ())
            session.drop(control.block_key)
        except PermanentDeviceError as error:
            # It will fail as a cell too, and be named there.
            logger.warning("session %d: no control: %s", self._round.number, error)
            return
        now_s = self._round.clock()
        self._control_due_s = now_s + max(_CONTROL_S, (now_s - begin_s) / _CONTROL_SHARE)
        self._control.append(journal.median_ms(raw.run_ns))

    def _own_meter(self) -> Meter | None:
        """The meter, if it has a clock of its own."""
        meter = self._board.meter
        return meter if meter is not None and not meter.probes() else None

    def _settle_energy(self, meter: Meter) -> None:
        """Align the meter's curve and work out the energies of all windows of this process."""
        empty = Trace(t_ns=np.zeros(0, dtype=np.int64), value=np.zeros(0), unit="raw")
        try:
            self._traces = meter.stop(self._marker or empty)
            total = meter.total(self._traces)
            if self._marker is not None:
                end_ns = int(self._marker.t_ns[0]) - int(_QUIET_S * 1e9)
                self._idle_mw = mean_power(total, end_ns - int(IDLE_S * 1e9), end_ns)[1]
        except (Inconclusive, DeviceError) as error:
            logger.warning("session %d: the meter's curve is lost: %s", self._round.number, error)
            for key, _ in self._kept:
                journal.put_energy(self._round.store, key, None, ("no_energy",))
            return
        for key, window in self._kept:
            journal.put_energy(self._round.store, key, *self._integrated(meter, self._traces, window))

    def _note(self) -> None:
        if not self._kept:
            return
        windows = [window for _, window in self._kept]
        steal = [w.noise["steal_ms"] for w in windows if "steal_ms" in w.noise]
        complete = self._complete and len(self._control) > 1
        drift = (self._control[-1] - self._control[0]) / self._control[0] * 100 if complete else None
        note = SessionNote(
            session=self._round.number,
            board=self._board.identity(windows[0].cell.setting),
            clocks=windows[0].cell.setting.clocks_text,
            switch_ms=self._board.switch_ms,
            control_ms=tuple(self._control),
            drift_percent=drift,
            idle_mw=self._idle_mw,
            steal_ms=sum(steal) if steal else None,
            temps_c=windows[-1].temps_c,
            flags=() if complete else ("interrupted",),
            noise=noise_of([(w.noise, "unsteady" not in w.flags) for w in windows], self._control),
        )
        journal.put_session(self._round.store, note, self._kept[0][0], self._traces)


def prepared_control(board: Board, bundle: Bundle, setting: Setting) -> Prepared:
    """The least work that the backend can prepare: what its compiler refuses is named when its turn comes."""
    refused: list[PermanentDeviceError] = []
    for workload in _smallest_first(bundle):
        try:
            return board.prepare(bundle, workload, setting)
        except PermanentDeviceError as error:
            refused.append(error)
    raise refused[0]


def _smallest_first(bundle: Bundle) -> list[Workload]:
    """Controls, best first: the least work there is costs next to nothing; those that nobody counted come last."""
    return sorted(bundle.workloads, key=lambda w: (w.macs == 0, w.macs))
