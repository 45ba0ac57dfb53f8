"""The only door to a device: locked while it is open, and left exactly as it was found.

Before the first clock is set, what was there is written down on the board; whoever opens the board after a crash finds
that record and puts it back first.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from hwbench.backend import Backend
from hwbench.clock import Clock
from hwbench.energy import MIN_SAMPLES, mean_power
from hwbench.errors import ConfigError, DeviceError, PermanentDeviceError
from hwbench.link import Link
from hwbench.lock import Lock
from hwbench.meter import Meter
from hwbench.session import Prepared, Session, WindowSpec
from hwbench.setting import Setting
from hwbench.target import Plugin, Probe, Target, plugin_options
from hwbench.workload import Bundle, Workload

logger = logging.getLogger(__name__)

_RECORD = "restore.json"
_TO_MHZ = {"mhz": 1.0, "khz": 1e-3, "hz": 1e-6}
_TO_C = {"c": 1.0, "mc": 1e-3}


@dataclass(slots=True, kw_only=True)
class Board:
    """An opened target; made by `open_board` only.

    meter: the first of the target's meters that this board has; None = energy can only be declared.
    sensors: those that can be read here.  clocks: in the order in which they are set.
    """

    target: Target
    link: Link
    backend: Backend
    clocks: tuple[Clock, ...] = ()
    meter: Meter | None = None
    sensors: tuple[Probe, ...] = ()
    _prepared: dict[tuple[str, str, Setting], Prepared] = field(default_factory=dict, init=False)
    _identity: Mapping[str, str] | None = field(default=None, init=False)
    _found: dict[str, dict[str, str]] = field(default_factory=dict, init=False)
    _changed: set[str] = field(default_factory=set, init=False)

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
        wanted = dict(setting.clocks)
        unknown = set(wanted) - {clock.name for clock in self.clocks}
        if unknown:
            raise ConfigError(f"target {self.target.name} has no clock {sorted(unknown)[0]!r}; name it in its TOML")
        if wanted:
            self._record()
        for clock in reversed(self.clocks):
            if clock.name in self._changed - wanted.keys():
                clock.restore(self._found[clock.name])
                self._changed.discard(clock.name)
        for clock in self.clocks:
            if clock.name in wanted:
                self._changed.add(clock.name)
                switch_ms = clock.set(wanted[clock.name])
                logger.debug("clock %s set to %s in %.1f ms", clock.name, wanted[clock.name], switch_ms)
        return wanted | self.read_clocks()

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
        """Hash of the file that this backend runs; ConfigError when the bundle has none for that precision."""
        formats = self.backend.formats(setting.precision)
        for name in formats:
            if name in workload.artifacts:
                return workload.artifacts[name].sha256
        bundle.path(workload, formats[0])
        raise ConfigError(f"{workload.block_key}: nothing to run at {setting.precision}")

    def session(self, setting: Setting) -> Session:
        """A fresh process on the board."""
        return self.backend.session(self.link, setting)

    def probes(self) -> Sequence[Probe]:
        """What the agent reads while a window is open: the meter's rails.

        Sensors and clocks are read before and after instead: every reading inside takes time from the work.
        """
        return () if self.meter is None else self.meter.probes()

    def read_clocks(self) -> dict[str, float | str]:
        """Present clocks in MHz, of those that tell."""
        found: dict[str, float | str] = {}
        for clock in self.clocks:
            probe = clock.probe()
            value = None if probe is None else self._read(probe)
            if probe is not None and value is not None:
                found[clock.name] = value * _TO_MHZ.get(probe.unit, 1.0)
        return found

    def read_sensors(self) -> tuple[dict[str, float], dict[str, float]]:
        """(temperatures in °C, other sensors as they read) by name; one that does not answer now is left out."""
        values = {probe: self._read(probe) for probe in self.sensors}
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
        try:
            return float(self.link.read(probe.read.removeprefix("file:"), max_bytes=4096))
        except (OSError, ValueError, PermanentDeviceError):
            return None

    def _record(self) -> None:
        """Write down what every clock is now; once, and before the first is set."""
        if not self._found:
            self._found = {clock.name: dict(clock.state()) for clock in self.clocks}
            self.link.write(f"{self.link.workdir()}/{_RECORD}", json.dumps(self._found).encode())

    def restore(self) -> None:
        """Put back what the record says, in reverse order, and remove it; nothing to do where there is none.

        A clock that cannot be put back does not keep the others from it; the first failure is raised at the end.
        """
        path = f"{self.link.workdir()}/{_RECORD}"
        try:
            states: dict[str, dict[str, str]] = json.loads(self.link.read(path))
        except FileNotFoundError:
            return
        except ValueError as error:
            raise PermanentDeviceError(
                f"target {self.target.name}: the restore record {path} is damaged, so its clocks cannot be put back; "
                "reset them by hand (or restart the board), then remove that file"
            ) from error
        failures: list[DeviceError] = []
        for clock in reversed(self.clocks):
            if clock.name in states:
                try:
                    clock.restore(states[clock.name])
                except DeviceError as error:
                    failures.append(error)
        if failures:
            # The record stays: whoever opens the board next tries again.
            raise failures[0]
        self.link.run(["rm", "-f", path], timeout_s=10.0)
        self._found, self._changed = {}, set()


@contextmanager
def open_board(target: Target, *, backend: str | None = None, link: int = 0, wait: bool = False) -> Iterator[Board]:
    """Open a target: lock it, put back what a crash left behind, and on exit leave everything as found.

    backend: a kind of the target's list; None = the first.  link: which of its links.  wait: until it is free.
    Raises ConfigError naming the holder when somebody else has it open, DeviceError when it does not answer.
    """
    section = target.backend_section(backend)
    if not 0 <= link < len(target.link):
        raise ConfigError(f"target {target.name}: no link {link}; it has {len(target.link)}, counted from 0")
    module, options = plugin_options(target, "hwbench.links", target.link[link].kind, target.link[link].options)
    with module.open(options) as opened:
        lock = Lock(Path(opened.workdir()) / "board.lock", f"board {target.name}")
        lock.acquire(wait=wait)
        try:
            module, options = plugin_options(target, "hwbench.backends", section.kind, section.options)
            board = Board(
                target=target,
                link=opened,
                backend=module.open(options, opened),
                clocks=tuple(_opened(target, "hwbench.clocks", c, opened) for c in target.clock),
            )
            board.restore()
            board.meter = _meter(target, opened)
            board.sensors = tuple(p for p in target.sensor if board._read(p) is not None)
            try:
                yield board
            finally:
                board.restore()
        finally:
            lock.release()


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
