"""A Jetson's GPU, by the kernel's devfreq, or its memory (EMC), by the power firmware's debug files.

[[clock]]
kind = "devfreq"
name = "gpu"
device = "gpu"                               # found by the name of its node: paths move between releases
grid_mhz = [318.75, 726.75, 1300.5]

[[clock]]
kind = "devfreq"
name = "emc"
device = "emc"
grid_mhz = [1062.4, 1331.2, 1600, 1866]
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field

from hwbench import knob, sudo
from hwbench.clock import Clock
from hwbench.errors import ConfigError, PermanentDeviceError
from hwbench.link import Link
from hwbench.target import Probe

_ROOT = "/sys/class/devfreq"
_EMC = "/sys/kernel/debug/bpmp/debug/clk/emc"
# TX2, Xavier, Orin, Thor; releases since JetPack 6 call all of them gpu.
_GPUS = ("gp10b", "gv11b", "ga10b", "gb10b", "gm20b", "gpu")

_LIMITS, _LOCK = ("min_freq", "max_freq"), ("rate", "mrq_rate_locked")


class Options(BaseModel):
    """device: `gpu`, `emc`, or another device by the name of its node or of its folder.

    tolerance_mhz: how far what is read may be from what was set.
    """

    model_config = ConfigDict(extra="forbid")
    name: str
    device: str = Field(default="gpu", pattern=r"^[A-Za-z0-9._-]+$")
    grid_mhz: tuple[float, ...] = ()
    tolerance_mhz: float = Field(default=2.0, gt=0)


class DevFreq:
    """See `hwbench.clock.Clock`: no room between lowest and highest leaves the governor nothing to choose."""

    def __init__(self, options: Options, link: Link) -> None:
        self.name = options.name
        self._options, self._tolerance_mhz, self._link = options, options.tolerance_mhz, link

    # Asked when it is needed: a board is measured with its clocks as found even where they cannot be set.
    @cached_property
    def _folder(self) -> str:
        """The device's folder; PermanentDeviceError where the board has no such one."""
        done = self._link.run(["ls", _ROOT], timeout_s=10.0)
        folders = sorted(done.stdout.decode("utf-8", "replace").split())
        wanted = _GPUS if self._options.device == "gpu" else (self._options.device,)
        nodes = {folder: _node(self._link, folder) for folder in folders}
        for folder, node in nodes.items():
            if node in wanted or folder == self._options.device:
                return f"{_ROOT}/{folder}"
        there = ", ".join(f"{folder} ({node or 'no name'})" for folder, node in nodes.items()) or "nothing"
        raise PermanentDeviceError(
            f"clock {self.name}: no device {self._options.device!r} in {_ROOT}; it holds {there}"
        )

    @cached_property
    def _steps(self) -> tuple[float, ...]:
        listed = self._words("available_frequencies")
        steps = tuple(sorted(knob.number(self.name, self._folder, step) / 1e6 for step in listed))
        if not steps and not self._options.grid_mhz:
            raise ConfigError(f"clock {self.name}: the board does not list its steps; give the [[clock]] its grid_mhz")
        return steps or self._options.grid_mhz

    @cached_property
    def _grid(self) -> tuple[float, ...]:
        return knob.offered(self.name, self._options.grid_mhz, self._steps, self._tolerance_mhz)

    @property
    def root_commands(self) -> tuple[str, ...]:
        """What it needs root for, as sudoers has it."""
        return tuple(sudo.writing(f"{self._folder}/{name}") for name in _LIMITS)

    def grid(self) -> tuple[float | str, ...]:
        """MHz that the TOML and the board agree on."""
        return self._grid

    def state(self) -> Mapping[str, str]:
        """Its limits; the governor is never changed."""
        return {name: self._read(name) for name in _LIMITS}

    def set(self, value: float | str) -> float:
        """Pin it, read back; ms until it ran at it."""
        own = knob.chosen(self.name, value, self._grid, self._steps, self._tolerance_mhz)
        start = time.monotonic()
        hz = str(round(own * 1e6))
        self._limits(hz, hz)
        knob.settle(self.name, own, self._tolerance_mhz, self._present_mhz)
        return 1e3 * (time.monotonic() - start)

    def restore(self, state: Mapping[str, str]) -> None:
        """The limits as they were."""
        if set(_LIMITS) <= state.keys():
            self._limits(state["min_freq"], state["max_freq"])

    def probe(self) -> Probe | None:
        """Its present clock; None where the board has no such device."""
        try:
            read = f"file:{self._folder}/cur_freq"
        except PermanentDeviceError:
            return None
        return Probe.model_validate({"name": f"clock.{self.name}", "read": read, "unit": "hz"})

    def _limits(self, low_hz: str, high_hz: str) -> None:
        """The kernel refuses a lowest above the highest, so the one that makes room goes first."""
        first, second = ("max_freq", high_hz), ("min_freq", low_hz)
        if float(high_hz) < float(self._read("min_freq")):
            first, second = second, first
        for name, hz in (first, second):
            if self._read(name) != hz:
                sudo.write(self._link, f"{self._folder}/{name}", hz, f"clock {self.name}", self.root_commands)

    def _present_mhz(self) -> float:
        """What it runs at; of a GPU that sleeps while nothing runs, what it must wake up at."""
        low, high = (self._read(name) for name in _LIMITS)
        asleep = low == high and self._words("device/power/runtime_status") == ["suspended"]
        return self._hz("min_freq" if asleep else "cur_freq") / 1e6

    def _hz(self, name: str) -> float:
        return knob.number(self.name, f"{self._folder}/{name}", self._read(name))

    def _words(self, name: str) -> list[str]:
        try:
            return self._read(name).split()
        except FileNotFoundError:
            return []

    def _read(self, name: str) -> str:
        return self._link.read(f"{self._folder}/{name}", max_bytes=1 << 16).decode("utf-8", "replace").strip("\0\n ")


class Emc:
    """See `hwbench.clock.Clock`: locked, the firmware keeps the rate that it is told."""

    root_commands = (
        *(sudo.writing(f"{_EMC}/{name}") for name in _LOCK),
        *(sudo.reading(f"{_EMC}/{name}") for name in (*_LOCK, "min_rate", "max_rate")),
    )

    def __init__(self, options: Options, link: Link) -> None:
        self.name = options.name
        self._options, self._tolerance_mhz, self._link = options, options.tolerance_mhz, link

    @cached_property
    def _grid(self) -> tuple[float, ...]:
        low, high = (self._hz(f"{end}_rate") / 1e6 for end in ("min", "max"))
        slack = self._tolerance_mhz
        for value in self._options.grid_mhz:
            if not low - slack <= value <= high + slack:
                knob.nearest_mhz(self.name, value, (low, high), slack)
        # The firmware does not list the steps between its ends: what it makes of one is read back.
        return self._options.grid_mhz or (low, high)

    def grid(self) -> tuple[float | str, ...]:
        """MHz of the TOML, all inside what the firmware allows; its ends where the TOML names none."""
        return self._grid

    def state(self) -> Mapping[str, str]:
        """Rate, and whether it is locked."""
        return {name: self._read(name) for name in _LOCK}

    def set(self, value: float | str) -> float:
        """Lock the rate, read back; ms until it ran at it."""
        own = knob.chosen(self.name, value, self._grid, self._grid, self._tolerance_mhz)
        start = time.monotonic()
        if self._read("mrq_rate_locked") != "1":
            self._write("mrq_rate_locked", "1")
        self._write("rate", str(round(own * 1e6)))
        knob.settle(self.name, own, self._tolerance_mhz, lambda: self._hz("rate") / 1e6)
        return 1e3 * (time.monotonic() - start)

    def restore(self, state: Mapping[str, str]) -> None:
        """Rate first: unlocked, the firmware chooses it."""
        if set(_LOCK) <= state.keys():
            if self._read("rate") != state["rate"]:
                self._write("rate", state["rate"])
            if self._read("mrq_rate_locked") != state["mrq_rate_locked"]:
                self._write("mrq_rate_locked", state["mrq_rate_locked"])

    def probe(self) -> Probe | None:
        """None: only root may read it, and the agent is not root."""
        return None

    def _hz(self, name: str) -> float:
        return knob.number(self.name, f"{_EMC}/{name}", self._read(name))

    def _read(self, name: str) -> str:
        try:
            return sudo.read(self._link, f"{_EMC}/{name}", f"clock {self.name}", self.root_commands)
        except FileNotFoundError as error:
            raise PermanentDeviceError(f"clock {self.name}: this board has no {_EMC} (a Jetson has)") from error

    def _write(self, name: str, text: str) -> None:
        sudo.write(self._link, f"{_EMC}/{name}", text, f"clock {self.name}", self.root_commands)


def open(options: Options, link: Link) -> Clock:
    """The clock; nothing is asked of the board yet."""
    return Emc(options, link) if options.device == "emc" else DevFreq(options, link)


def _node(link: Link, folder: str) -> str:
    try:
        name = link.read(f"{_ROOT}/{folder}/device/of_node/name", max_bytes=256)
    except (OSError, PermanentDeviceError):
        return ""
    return name.decode("utf-8", "replace").strip("\0\n ")
