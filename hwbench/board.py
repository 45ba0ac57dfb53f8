"""The only door to a device: locked while it is open, and left exactly as it was found.

Before the first clock is set, what was there is written down on the board; whoever opens the board after a crash finds
that record and puts it back first. A board that is lost for a while is waited for (`Board.recover`).
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from hwbench import hold
from hwbench.backend import Backend
from hwbench.board_lock import BoardLock, lock_folders
from hwbench.clock import Clock
from hwbench.energy import MIN_SAMPLES, mean_power
from hwbench.errors import ConfigError, PermanentDeviceError, TransientDeviceError
from hwbench.hold import Hold
from hwbench.link import Link
from hwbench.meter import Meter
from hwbench.operating_point import OperatingPoint
from hwbench.reading import read_probe, read_probes
from hwbench.restore import RestoreRecord
from hwbench.session import Hello, Prepared, Session, WindowSpec
from hwbench.setting import Setting
from hwbench.simulated import Nowhere, VirtualClock, VirtualMeter
from hwbench.target import BackendSection, Plugin, Probe, Target, plugin_options
from hwbench.workload import Bundle, Workload

logger = logging.getLogger(__name__)

_COMMAND_S = 10.0
_SAME_BOARD = ("model", "serial", "cpu", "machine")
_TO_C = {"c": 1.0, "mc": 1e-3}


@dataclass(slots=True, kw_only=True)
class Board:
    """An opened target; made by `open_board` only.

    meter: the first of the target's meters that this board has; None = energy can only be declared.
    sensors: those that can be read here.  clocks: in the order in which they are set.  number: which of its links.
    put_back: what opening it put back, by clock name: the leavings of a crash.
    sleep: lets seconds pass on the board.
    given_up: a campaign went on without it, so that it cannot be left as found is told, not raised.
    """

    target: Target
    link: Link
    backend: Backend
    clocks: tuple[Clock, ...] = ()
    meter: Meter | None = None
    sensors: tuple[Probe, ...] = ()
    number: int = 0
    lock: BoardLock | None = None
    sleep: Callable[[float], None] = time.sleep
    put_back: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    given_up: bool = field(default=False, init=False)
    _prepared: dict[tuple[str, str, Setting], Prepared] = field(default_factory=dict, init=False)
    _identity: Mapping[str, str] | None = field(default=None, init=False)
    _hello: Hello | None = field(default=None, init=False)
    _point: OperatingPoint = field(init=False)
    _hold: Hold = field(init=False)

    def __post_init__(self) -> None:
        record = RestoreRecord(self.link, self.name)
        self._point = OperatingPoint(self.clocks, record, self._read, self.name)
        self._hold = Hold(self.link, self.lock, self._point, self.name)

    @property
    def name(self) -> str:
        """How messages name it."""
        several = f" (link {self.number})" if len(self.target.link) > 1 else ""
        return f"board {self.target.name}{several}"

    @property
    def known(self) -> bool:
        """Whether it has said who it is."""
        return self._identity is not None

    def identity(self, setting: Setting) -> Mapping[str, str]:
        """Who this is, as its agent says: model, serial, kernel, cores, runtime and versions; asked once."""
        if self._identity is None:
            with self.session(setting) as session:
                hello = session.hello
            board = {f"board.{name}": str(value) for name, value in hello.board.items() if value is not None}
            self._identity = {
                **board,
                "runtime": f"{hello.runtime} {hello.runtime_version}",
                "board.python": hello.python,
                "agent": hello.agent,
            }
        return self._identity

    def apply(self, setting: Setting) -> dict[str, float | str]:
        """Set the operating point, and tell all clocks as read back, in MHz.

        Clocks that the point does not name are as found: one that an earlier point set is put back first.

        Raises ConfigError for a clock the target does not have, PermanentDeviceError when the board does not take it.
        """
        if not self._hold.ours:
            self.recover()
        return self._point.apply(setting)

    @property
    def switch_ms(self) -> dict[str, float]:
        """Median time that each clock took to go to another value, of those that were switched."""
        return {} if self.target.simulates else self._point.switch_ms

    def moved(self, setting: Setting, applied: Mapping[str, float | str]) -> tuple[dict[str, float | str], list[str]]:
        """(clocks as they read now, those that are no longer as `apply` set and told them)."""
        return self._point.moved(setting, applied)

    def prepare(self, bundle: Bundle, workload: Workload, setting: Setting) -> Prepared:
        """Compile and push a workload, once for each file and setting; clocks make no difference to a file."""
        plain = setting.without_clocks
        key = (workload.block_key, self.artifact_sha256(bundle, workload, setting), plain)
        if key not in self._prepared:
            self._prepared[key] = self.backend.prepare(self.link, bundle, workload, plain)
        return self._prepared[key]

    def prepare_together(self, bundle: Bundle, workloads: Sequence[Workload], setting: Setting) -> list[Prepared]:
        """Make the workloads of a plan ready for one session that holds them all."""
        return self.backend.prepare_together(self.link, bundle, workloads, setting.without_clocks)

    def artifact_sha256(self, bundle: Bundle, workload: Workload, setting: Setting) -> str:
        """Hash of the file that this backend runs, or of the description where it needs none.

        Raises ConfigError when the bundle has no file for that precision.
        """
        formats = self.backend.formats(setting.precision)
        if not formats:
            return workload.digest
        for name in formats:
            if name in workload.artifacts:
                return workload.artifacts[name].sha256
        bundle.path(workload, formats[0])
        raise ConfigError(f"{workload.block_key}: nothing to run at {setting.precision}")

    def session(self, setting: Setting) -> Session:
        """A fresh process on the board; PermanentDeviceError when another board answers than did before."""
        if not self._hold.ours:
            # The link was lost and made again without a word: clocks are to be set anew too.
            raise TransientDeviceError(f"{self.name}: the link was lost meanwhile")
        session = self.backend.session(self.link, setting)
        if self._hello is None:
            self._hello = session.hello
        changed = _changed(self._hello, session.hello)
        if changed:
            session.__exit__(None, None, None)
            raise PermanentDeviceError(f"{self.name} is not the one it was: {changed}; its windows do not go together")
        return session

    def probes(self) -> Sequence[Probe]:
        """What the agent reads while a window is open: the meter's rails.

        Sensors and clocks are read before and after instead: every reading inside takes time from the work.
        """
        return () if self.meter is None else self.meter.probes()

    def read_clocks(self) -> dict[str, float | str]:
        """Present clocks in MHz, of those that tell."""
        return self._point.read()

    def read_sensors(self) -> tuple[dict[str, float], dict[str, float]]:
        """(temperatures in °C, other sensors as they read) by name; one that does not answer now is left out."""
        values = dict(zip(self.sensors, read_probes(self.link, self.sensors), strict=True))
        temps = {p.name: v * _TO_C[p.unit] for p, v in values.items() if v is not None and p.unit in _TO_C}
        others = {p.name: v for p, v in values.items() if v is not None and p.unit not in _TO_C}
        return temps, others

    def idle_mw(self, session: Session, seconds: float) -> float | None:
        """Mean power while nothing runs, read on the board; None without a meter that is read there.

        seconds: longer where the meter has too few new values in that time.
        Raises Inconclusive when the readings do not make an average.
        """
        if self.meter is None or not self.meter.probes():
            return None
        rate_hz = min(self.meter.rate_hz or math.inf, WindowSpec().probe_hz)
        enough_s = 1.25 * MIN_SAMPLES / rate_hz
        total = self.meter.total(session.idle(max(seconds, enough_s), self.meter.probes()))
        return mean_power(total, int(total.t_ns[0]), int(total.t_ns[-1]))[1]

    def _read(self, probe: Probe) -> float | None:
        return read_probe(self.link, probe)

    def free_bytes(self) -> int | None:
        """Room on the board where our files lie; None where `df` does not tell."""
        done = self.link.run(["df", "-Pk", self.link.workdir()], timeout_s=_COMMAND_S)
        found = re.findall(rb"\s\d+\s+\d+\s+(\d+)\s+\d+%\s", done.stdout)
        return int(found[-1]) * 1024 if len(found) == 1 else None

    def recover(self, *, within_s: float | None = None, sleep: Callable[[float], None] = time.sleep) -> None:
        """After a TransientDeviceError: wait until the board answers, and hold it again.

        What a restart of the board may have taken is made anew: the lock, the restore record, pushed files; its clocks
        are set again by the next `apply`.  within_s: None = two minutes.
        Raises TransientDeviceError when it does not answer in time, or when somebody else has taken it meanwhile.
        """
        if self._hold.recover(within_s=hold.RECONNECT_S if within_s is None else within_s, sleep=sleep):
            self._prepared.clear()

    def restore(self) -> Mapping[str, Mapping[str, str]]:
        """Put back what the restore record says and remove it; returns what was put back.

        Raises PermanentDeviceError naming every clock that cannot be put back, after all others were.
        """
        return self._point.put_back()

    def leave(self, *, quiet: bool) -> None:
        """Put the clocks back, over a lost link too; quiet: a failure is told, as something else is the matter."""
        self._hold.leave(
            quiet=quiet or self.given_up,
            within_s=0.0 if self.given_up else hold.LEAVE_S,
            way_out=f"hwbench doctor --target {self.target.name} --restore",
        )


@contextmanager
def open_board(target: Target, *, backend: str | None = None, link: int = 0, wait: bool = False) -> Iterator[Board]:
    """Open a target: lock it, put back what a crash left behind, and on exit leave everything as found.

    backend: a kind of the target's list; None = the first.  link: which of its links.  wait: until it is free.
    Raises ConfigError naming the holder when somebody else has it open, DeviceError when it does not answer.
    """
    section = target.backend_section(backend)
    if target.simulates:
        yield _analytic(target, section)
        return
    if not 0 <= link < len(target.link):
        raise ConfigError(f"target {target.name}: no link {link}; it has {len(target.link)}, counted from 0")
    module, options = plugin_options(target, "hwbench.links", target.link[link].kind, target.link[link].options)
    with module.open(options) as opened:
        name = f"board {target.name}" + (f" (link {link})" if len(target.link) > 1 else "")
        lock = BoardLock(opened, lock_folders(target.link[link], opened), name)
        lock.acquire(wait=wait)
        try:
            clocks = tuple(_opened(target, "hwbench.clocks", c, opened) for c in target.clock)
            # Before anything else can fail: a board without its runtime is left as found too.
            put_back = RestoreRecord(opened, name).put_back(clocks)
            module, options = plugin_options(target, "hwbench.backends", section.kind, section.options)
            board = Board(
                target=target,
                link=opened,
                backend=module.open(options, opened),
                clocks=clocks,
                number=link,
                lock=lock,
                put_back=put_back,
            )
            board.meter = _meter(target, opened)
            told = zip(target.sensor, read_probes(opened, target.sensor), strict=True)
            board.sensors = tuple(probe for probe, value in told if value is not None)
            failed = True
            try:
                yield board
                failed = False
            finally:
                board.leave(quiet=failed)
        finally:
            lock.release()


def _analytic(target: Target, section: BackendSection) -> Board:
    """A simulated board: nothing to reach, to lock or to put back, and time passes at once."""
    module, options = plugin_options(target, "hwbench.backends", section.kind, section.options)
    return Board(
        target=target,
        link=Nowhere(),
        backend=module.open(options),
        clocks=tuple(VirtualClock(clock.name, clock.values) for clock in target.clock),
        meter=VirtualMeter(),
        sleep=lambda seconds: None,
    )


def _changed(first: Hello, now: Hello) -> str:
    """What differs between two greetings of one board; empty for the same."""
    told = {key: (first.board.get(key), now.board.get(key)) for key in _SAME_BOARD}
    if first.runtime == now.runtime:
        told[first.runtime] = (first.runtime_version, now.runtime_version)
    return ", ".join(f"{key} was {was!r}, now {now!r}" for key, (was, now) in told.items() if was != now)


def _opened(target: Target, package: str, section: Plugin, link: Link) -> Clock:
    module, options = plugin_options(target, package, section.kind, section.options)
    clock: Clock = module.open(options, link)
    return clock


def _meter(target: Target, link: Link) -> Meter | None:
    """The first meter that this board has; one that is not `optional` must be there."""
    for section in target.meter:
        module, options = plugin_options(target, "hwbench.meters", section.kind, section.options)
        try:
            meter: Meter = module.open(options, link)
        except PermanentDeviceError as error:
            if not section.optional:
                raise
            logger.info("%s: no meter %s here (%s)", target.name, section.kind, error)
            continue
        return meter
    return None
