"""A clock that is a file, as cpufreq's are: a plugin for tests that set clocks and look at what was put back.

`stuck` holds the one value that the file refuses, as a board refuses a clock that its power mode forbids.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from hwbench.errors import PermanentDeviceError
from hwbench.link import Link
from hwbench.target import Probe


class Options(BaseModel):
    """file: holds MHz."""

    model_config = ConfigDict(extra="forbid")
    name: str
    file: Path
    grid_mhz: tuple[float, ...] = ()
    stuck: float | None = None


class Knob:
    """See `hwbench.clock.Clock`."""

    def __init__(self, options: Options, link: Link) -> None:
        self.name = options.name
        self._options = options
        self._link = link

    def grid(self) -> tuple[float | str, ...]:
        return self._options.grid_mhz

    def state(self) -> Mapping[str, str]:
        return {"mhz": self._link.read(str(self._options.file)).decode()}

    def set(self, value: float | str) -> float:
        if value == self._options.stuck or value not in self._options.grid_mhz:
            raise PermanentDeviceError(f"clock {self.name} does not take {value}")
        self._link.write(str(self._options.file), f"{value:g}".encode())
        return 0.1

    def restore(self, state: Mapping[str, str]) -> None:
        self._link.write(str(self._options.file), state["mhz"].encode())

    def probe(self) -> Probe | None:
        return Probe(name=f"clock.{self.name}", read=f"file:{self._options.file}", unit="mhz")


def open(options: Options, link: Link) -> Knob:
    """Nothing happens yet."""
    return Knob(options, link)
