"""A CPU's clock, by the kernel's cpufreq.

[[clock]]
kind = "cpufreq"
name = "cpu"
policy = 0                                   # of several clusters, one; "all" sets them together
grid_mhz = [600, 1000, 1500]

Where the kernel has the governor `userspace` the clock is set with it, elsewhere by leaving no room between lowest and
highest.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property, partial
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from hwbench import knob, sudo
from hwbench.errors import PermanentDeviceError
from hwbench.link import Link
from hwbench.target import Probe

_ROOT = "/sys/devices/system/cpu/cpufreq"
_SAVED = ("scaling_governor", "scaling_min_freq", "scaling_max_freq")
_SPEED = "scaling_setspeed"


class Options(BaseModel):
    """policy: the kernel's number of the cluster, or `all` of them, which must then share a grid."""

    model_config = ConfigDict(extra="forbid")
    name: str
    policy: int | Literal["all"] = Field(default=0)
    grid_mhz: tuple[float, ...] = ()
    tolerance_mhz: float = Field(default=1.0, gt=0)


class CpuFreq:
    """See `hwbench.clock.Clock`."""

    def __init__(self, options: Options, link: Link) -> None:
        self.name = options.name
        self._options, self._link = options, link

    # Asked when it is needed: a board is measured with its clocks as found even where they cannot be set.
    @cached_property
    def _policies(self) -> tuple[str, ...]:
        """Folders of its clusters; PermanentDeviceError where the board has no such one."""
        done = self._link.run(["ls", _ROOT], timeout_s=10.0)
        known = sorted(name for name in done.stdout.decode("utf-8", "replace").split() if name.startswith("policy"))
        wanted = known if self._options.policy == "all" else [f"policy{self._options.policy}"]
        if not known or not set(wanted) <= set(known):
            there = ", ".join(known) or "none: the firmware decides there"
            raise PermanentDeviceError(f"clock {self.name}: no {_ROOT}/{''.join(wanted[:1])} (it has {there})")
        return tuple(f"{_ROOT}/{name}" for name in wanted)

    @cached_property
    def _steps(self) -> tuple[float, ...]:
        return self._board_mhz(self._policies[0])

    @property
    def root_commands(self) -> tuple[str, ...]:
        """What it needs root for, as sudoers has it."""
        return tuple(sudo.writing(f"{policy}/{name}") for policy in self._policies for name in (*_SAVED, _SPEED))

    def grid(self) -> tuple[float | str, ...]:
        """MHz that the TOML and the board agree on."""
        return self._grid

    @cached_property
    def _grid(self) -> tuple[float, ...]:
        return knob.offered(self.name, self._options.grid_mhz, self._steps, self._options.tolerance_mhz)

    def state(self) -> Mapping[str, str]:
        """Governor, limits and set speed of each policy."""
        found: dict[str, str] = {}
        for policy in self._policies:
            for name in _SAVED:
                found[f"{policy}/{name}"] = self._read(f"{policy}/{name}")
            if found[f"{policy}/scaling_governor"] == "userspace":
                found[f"{policy}/{_SPEED}"] = self._read(f"{policy}/{_SPEED}")
        return found

    def set(self, value: float | str) -> float:
        """Set all its policies, read back; ms until they ran at it."""
        own = knob.chosen(self.name, value, self._grid, self._steps, self._options.tolerance_mhz)
        start = time.monotonic()
        for policy in self._policies:
            self._pin(policy, own)
        for policy in self._policies:
            knob.settle(self.name, own, self._options.tolerance_mhz, partial(self._mhz, policy))
        return 1e3 * (time.monotonic() - start)

    def restore(self, state: Mapping[str, str]) -> None:
        """Governor, limits and set speed as they were."""
        for policy in self._policies:
            if f"{policy}/scaling_governor" not in state:
                continue
            governor, low, high = (state[f"{policy}/{name}"] for name in _SAVED)
            self._limits(policy, low, high)
            self._write(f"{policy}/scaling_governor", governor)
            if f"{policy}/{_SPEED}" in state:
                self._write(f"{policy}/{_SPEED}", state[f"{policy}/{_SPEED}"])

    def probe(self) -> Probe | None:
        """Its first policy's present clock; None where the board has none."""
        try:
            read = f"file:{self._policies[0]}/scaling_cur_freq"
        except PermanentDeviceError:
            return None
        return Probe.model_validate({"name": f"clock.{self.name}", "read": read, "unit": "khz"})

    def _pin(self, policy: str, mhz: float) -> None:
        khz = str(round(mhz * 1e3))
        if "userspace" in self._words(f"{policy}/scaling_available_governors"):
            # Limits that leave it out are widened to hold it, no further: a power mode may have set them.
            low, high = (self._read(f"{policy}/scaling_{end}_freq") for end in ("min", "max"))
            self._limits(policy, min(low, khz, key=float), max(high, khz, key=float))
            if self._read(f"{policy}/scaling_governor") != "userspace":
                self._write(f"{policy}/scaling_governor", "userspace")
            self._write(f"{policy}/{_SPEED}", khz)
        else:
            self._limits(policy, khz, khz)

    def _limits(self, policy: str, low_khz: str, high_khz: str) -> None:
        """The kernel refuses a lowest above the highest, so the one that makes room goes first."""
        first, second = ("scaling_max_freq", high_khz), ("scaling_min_freq", low_khz)
        if float(high_khz) < float(self._read(f"{policy}/scaling_min_freq")):
            first, second = second, first
        for name, khz in (first, second):
            if self._read(f"{policy}/{name}") != khz:
                self._write(f"{policy}/{name}", khz)

    def _board_mhz(self, policy: str) -> tuple[float, ...]:
        """Steps of the table, or, where the driver has none, the ends between which it takes any value."""
        try:
            steps = self._words(f"{policy}/scaling_available_frequencies")
        except FileNotFoundError:
            steps = []
        if steps:
            return tuple(sorted(knob.number(self.name, policy, step) / 1e3 for step in steps))
        ends = tuple(self._khz(f"{policy}/cpuinfo_{end}_freq") / 1e3 for end in ("min", "max"))
        return tuple(sorted({*ends, *(v for v in self._options.grid_mhz if ends[0] <= v <= ends[1])}))

    def _mhz(self, policy: str) -> float:
        return self._khz(f"{policy}/scaling_cur_freq") / 1e3

    def _khz(self, path: str) -> float:
        return knob.number(self.name, path, self._read(path))

    def _words(self, path: str) -> list[str]:
        return self._read(path).split()

    def _read(self, path: str) -> str:
        return self._link.read(path, max_bytes=1 << 16).decode("utf-8", "replace").strip()

    def _write(self, path: str, text: str) -> None:
        sudo.write(self._link, path, text, f"clock {self.name}", self.root_commands)


def open(options: Options, link: Link) -> CpuFreq:
    """The clock; nothing is asked of the board yet."""
    return CpuFreq(options, link)
