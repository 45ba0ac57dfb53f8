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

    def __init__(self, options: Options, link: Link, folder: str) -> None:
        self.name = options.name
        self._tolerance_mhz, self._link, self._folder = options.tolerance_mhz, link, folder
        self.root_commands = tuple(sudo.writing(f"{folder}/{name}") for name in _LIMITS)
        steps = self._words("available_frequencies")
        self._steps = tuple(sorted(knob.number(self.name, folder, step) / 1e6 for step in steps)) or options.grid_mhz
        if not self._steps:
            raise ConfigError(f"clock {self.name}: the board does not list its steps; give the [[clock]] its grid_mhz")
        self._grid = knob.offered(self.name, options.grid_mhz, self._steps, self._tolerance_mhz)

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
        knob.settle(self.name, own, self._tolerance_mhz, lambda: self._hz("cur_freq") / 1e6)
        return 1e3 * (time.monotonic() - start)

    def restore(self, state: Mapping[str, str]) -> None:
        """The limits as they were."""
        if set(_LIMITS) <= state.keys():
            self._limits(state["min_freq"], state["max_freq"])

    def probe(self) -> Probe | None:
        """Its present clock."""
        read = f"file:{self._folder}/cur_freq"
        return Probe.model_validate({"name": f"clock.{self.name}", "read": read, "unit": "hz"})

    def _limits(self, low_hz: str, high_hz: str) -> None:
        """The kernel refuses a lowest above the highest, so the one that makes room goes first."""
        first, second = ("max_freq", high_hz), ("min_freq", low_hz)
        if float(high_hz) < float(self._read("min_freq")):
            first, second = second, first
        for name, hz in (first, second):
            if self._read(name) != hz:
                sudo.write(self._link, f"{self._folder}/{name}", hz, f"clock {self.name}", self.root_commands)

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

    def __init__(self, options: Options, link: Link) -> None:
        self.name = options.name
        self._tolerance_mhz, self._link = options.tolerance_mhz, link
        self.root_commands = (
            *(sudo.writing(f"{_EMC}/{name}") for name in _LOCK),
            *(sudo.reading(f"{_EMC}/{name}") for name in (*_LOCK, "min_rate", "max_rate")),
        )
        low, high = (self._hz(f"{end}_rate") / 1e6 for end in ("min", "max"))
        slack = self._tolerance_mhz
        for value in options.grid_mhz:
            if not low - slack <= value <= high + slack:
                knob.nearest_mhz(self.name, value, (low, high), slack)
        # The firmware does not list the steps between its ends: what it makes of one is read back.
        self._grid = options.grid_mhz or (low, high)

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
        return sudo.read(self._link, f"{_EMC}/{name}", f"clock {self.name}", self.root_commands)

    def _write(self, name: str, text: str) -> None:
        sudo.write(self._link, f"{_EMC}/{name}", text, f"clock {self.name}", self.root_commands)


def open(options: Options, link: Link) -> Clock:
    """Find the device; PermanentDeviceError where the board has no such one."""
    if options.device == "emc":
        try:
            return Emc(options, link)
        except FileNotFoundError as error:
            raise PermanentDeviceError(f"clock {options.name}: this board has no {_EMC} (a Jetson has)") from error
    done = link.run(["ls", _ROOT], timeout_s=10.0)
    folders = sorted(done.stdout.decode("utf-8", "replace").split())
    wanted = _GPUS if options.device == "gpu" else (options.device,)
    nodes = {folder: _node(link, folder) for folder in folders}
    for folder, node in nodes.items():
        if node in wanted or folder == options.device:
            return DevFreq(options, link, f"{_ROOT}/{folder}")
    there = ", ".join(f"{folder} ({node or 'no name'})" for folder, node in nodes.items()) or "nothing"
    raise PermanentDeviceError(f"clock {options.name}: no device {options.device!r} in {_ROOT}; it holds {there}")


def _node(link: Link, folder: str) -> str:
    try:
        name = link.read(f"{_ROOT}/{folder}/device/of_node/name", max_bytes=256)
    except (OSError, PermanentDeviceError):
        return ""
    return name.decode("utf-8", "replace").strip("\0\n ")
