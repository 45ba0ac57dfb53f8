"""Runtimes, clocks and meter of a board that answers, each asked on its own: one fault hides no other.

Nothing is changed on the board: no clock is set, no record put back, nothing installed.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np

from hwbench import sudo
from hwbench.clock import Clock
from hwbench.condition import Check
from hwbench.energy import MIN_SAMPLES
from hwbench.errors import ConfigError, HwbenchError, Inconclusive, TransientDeviceError
from hwbench.link import Link
from hwbench.measurement import Trace
from hwbench.meter import Meter
from hwbench.reading import read_probe
from hwbench.session import Session, WindowSpec
from hwbench.target import BackendSection, Target, plugin_options

_COMMAND_S = 20.0
_IDLE_S = 1.0
_PROBE_HZ = WindowSpec().probe_hz
# A meter whose values are fewer than this share of what it is taken for makes windows too short.
_SLOW = 0.7
# Less is no board that runs, more no single one.
_PLAUSIBLE_MW = (10.0, 5_000_000.0)
_TO_MHZ = {"mhz": 1.0, "khz": 1e-3, "hz": 1e-6}


class Equipment:
    """What a board brings that is ours while it is examined; `checks` asks it everything."""

    def __init__(self, target: Target, link: Link) -> None:
        self._target, self._link = target, link
        # One session that works serves all that is read on the board.
        self._session: Session | None = None

    def checks(self) -> Iterator[Check]:
        """All questions, in the order in which a campaign would stumble; TransientDeviceError when the link is lost."""
        try:
            yield self._python()
            for section in self._target.backend:
                yield from self._runtime(section)
            yield from self._clocks()
            yield from self._meter()
        finally:
            if self._session is not None:
                self._session.__exit__(None, None, None)

    def _python(self) -> Check:
        """The agent is a Python program; runtimes that are programs of their own work without."""
        version = "import sys; print('%d.%d.%d' % sys.version_info[:3])"
        done = self._link.run([self._link.python, "-c", version], timeout_s=_COMMAND_S)
        told = done.stdout.decode("utf-8", "replace").strip()
        if done.returncode != 0 or not re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", told):
            why = " ".join(done.stderr.decode("utf-8", "replace").split())[-200:]
            return Check(name="python", state="missing", found=f"{self._link.python} does not run there ({why})")
        old = tuple(map(int, told.split(".")))[:2] < (3, 6)
        return Check(
            name="python",
            state="failed" if old else "ok",
            found=f"{told} ({self._link.python})",
            advice="the agent needs 3.6 or newer: name another `python` in the target's [[link]]" if old else "",
        )

    def _runtime(self, section: BackendSection) -> Iterator[Check]:
        name = f"runtime {section.kind}"
        try:
            module, options = plugin_options(self._target, "hwbench.backends", section.kind, section.options)
            backend, setting = module.open(options, self._link), self._target.settings(section.kind)[0]
            backend.formats(setting.precision)  # a compiler that this machine lacks is told here, not after an export
            session = backend.session(self._link, setting)
        except (HwbenchError, OSError) as error:
            advice = "" if isinstance(error, ConfigError) else self._install()
            yield Check(name=name, state="failed", found=str(error), advice=advice)
            return
        hello = session.hello
        board = ", ".join(f"{key} {value}" for key, value in hello.board.items() if value is not None)
        yield Check(name=name, state="ok", found=f"{hello.runtime} {hello.runtime_version}; {board}")
        if self._session is None:
            self._session = session
        else:
            session.__exit__(None, None, None)

    def _clocks(self) -> Iterator[Check]:
        if not self._target.clock:
            yield Check(name="clocks", state="missing", found="none is named; they are as the board decides")
        for section in self._target.clock:
            name = f"clock {section.name}"
            try:
                module, options = plugin_options(self._target, "hwbench.clocks", section.kind, section.options)
                clock: Clock = module.open(options, self._link)
                grid = clock.grid()
            except (HwbenchError, OSError) as error:
                if isinstance(error, TransientDeviceError):
                    raise
                advice = f"make the grid of [[clock]] {section.name} in the target's TOML what the board offers"
                yield Check(name=name, state="failed", found=str(error), advice=advice)
                continue
            yield self._clock(name, clock, grid)

    def _clock(self, name: str, clock: Clock, grid: Sequence[float | str]) -> Check:
        probe = clock.probe()
        value = None if probe is None else read_probe(self._link, probe)
        now = (
            "cannot be read" if probe is None or value is None else f"{value * _TO_MHZ.get(probe.unit, 1.0):g} MHz now"
        )
        offered = f"; {len(grid)} of {grid[0]} to {grid[-1]} can be set" if len(grid) > 1 else ""
        commands = getattr(clock, "root_commands", ())
        if not commands or len(grid) < 2:
            return Check(name=name, state="ok" if value is not None else "missing", found=now + offered)
        if self._may(commands):
            return Check(name=name, state="ok", found=now + offered)
        advice = sudo.missing(self._link, f"clock {clock.name}", commands)
        return Check(name=name, state="missing", found=f"{now}; as it is found only", advice=advice)

    def _may(self, commands: Sequence[str]) -> bool:
        """Whether we are root, or may run just these as root without a password; asked without running them."""
        done = self._link.run(["id", "-u"], root=True, timeout_s=_COMMAND_S)
        if done.returncode == 0 and done.stdout.strip() == b"0":
            return True
        asked = [self._link.run(["sudo", "-n", "-l", *shlex.split(c)], timeout_s=_COMMAND_S) for c in commands]
        return all(done.returncode == 0 for done in asked)

    def _meter(self) -> Iterator[Check]:
        declared = "energy is predicted from the declared power model" if self._target.power else "energy stays empty"
        absent: list[str] = []
        for section in self._target.meter:
            try:
                module, options = plugin_options(self._target, "hwbench.meters", section.kind, section.options)
                meter: Meter = module.open(options, self._link)
            except (HwbenchError, OSError) as error:
                if not section.optional:
                    yield Check(
                        name=f"meter {section.kind}",
                        state="failed",
                        found=str(error),
                        advice="mend it, or make it `optional = true`",
                    )
                    return
                absent.append(str(error))
                continue
            try:
                yield self._meter_works(f"meter {section.kind}", meter)
            except (HwbenchError, OSError) as error:
                yield Check(
                    name=f"meter {section.kind}", state="failed", found=str(error), advice="see the target's [[meter]]"
                )
            return
        yield Check(
            name="meter",
            state="missing",
            found=f"no power meter answers; {declared}" + "".join(f"; {why}" for why in absent),
            advice="name one in the target's [[meter]], or run as a user who may read it",
        )

    def _meter_works(self, name: str, meter: Meter) -> Check:
        """Read it for a second while nothing runs."""
        if not meter.probes():
            return _own_meter_works(name, meter)
        if self._session is None:
            return Check(name=name, state="missing", found="it opens; to read it takes a runtime that works")
        total = meter.total(self._session.idle(_IDLE_S, meter.probes()))
        seconds = (int(total.t_ns[-1]) - int(total.t_ns[0])) / 1e9
        power_mw = _mean_mw(total, seconds)
        low, high = _PLAUSIBLE_MW
        if not low <= power_mw <= high:
            advice = "check unit, sign and rails in the target's [[meter]]"
            return Check(name=name, state="failed", found=f"{power_mw:.3g} mW is no board's power", advice=advice)
        # A power that stands still may be one; a counter that does is read more often than it counts.
        values = np.count_nonzero(np.diff(total.value)) if total.unit == "uj" else total.t_ns.size - 1
        rate_hz = values / seconds
        slow = rate_hz < _SLOW * min(meter.rate_hz or _PROBE_HZ, _PROBE_HZ)
        return Check(
            name=name,
            state="ok",
            found=f"{power_mw:.0f} mW while nothing runs, {rate_hz:.0f} new values a second; energy takes windows of "
            f"{MIN_SAMPLES / min(rate_hz, meter.rate_hz or rate_hz):.1f} s",
            advice=f"say rate_hz = {rate_hz:.0f} in the target's [[meter]], so that windows are long enough"
            if slow
            else "",
        )

    def _install(self) -> str:
        setup = self._target.setup
        if setup is not None and setup.packages:
            return f"hwbench setup --target {self._target.name} installs what it needs"
        if setup is not None and setup.hints:
            return "; ".join(setup.hints)
        return "install the runtime for the board's Python (pip install onnxruntime, ai-edge-litert, …)"


def _mean_mw(total: Trace, seconds: float) -> float:
    if total.unit == "uj":
        return float(total.value[-1] - total.value[0]) / 1000 / seconds
    return float(np.nanmean(total.value)) if np.isfinite(total.value).any() else float("nan")


def _own_meter_works(name: str, meter: Meter) -> Check:
    """Listen to a meter beside the board for a second."""
    meter.start()
    time.sleep(_IDLE_S)
    # Without a marker nothing can be aligned; but what it told was readable then.
    with suppress(Inconclusive):
        meter.stop(Trace(t_ns=np.zeros(0, dtype=np.int64), value=np.zeros(0), unit="raw"))
    return Check(name=name, state="ok", found="it tells readings; a campaign aligns them by a marker load")
