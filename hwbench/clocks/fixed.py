"""A clock that nobody may set from here: it is recorded, and at most asserted to run at the one speed it has.

The host's governor is such a clock, and so are boards whose firmware decides.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from hwbench.errors import PermanentDeviceError
from hwbench.link import Link
from hwbench.target import Probe


class Options(BaseModel):
    """read, unit: where the present speed stands, if anywhere.  grid_mhz: the one speed it is known to have."""

    model_config = ConfigDict(extra="forbid")
    name: str
    read: str | None = Field(default=None, pattern=r"^file:/")
    unit: str = Field(default="mhz", pattern=r"^(mhz|khz|hz)$")
    grid_mhz: tuple[float, ...] = Field(default=(), max_length=1)


class Fixed:
    """See `hwbench.clock.Clock`."""

    def __init__(self, options: Options, probe: Probe | None) -> None:
        self.name = options.name
        self._grid = options.grid_mhz
        self._probe = probe

    def grid(self) -> tuple[float | str, ...]:
        """Its one speed, or nothing to choose from."""
        return self._grid

    def state(self) -> Mapping[str, str]:
        """Nothing is ever changed, so nothing is to be put back."""
        return {}

    def set(self, value: float | str) -> float:
        """Accept the one speed it has, which takes no time; PermanentDeviceError for any other."""
        if value not in self._grid:
            offered = f"runs at {self._grid[0]:g} MHz only" if self._grid else "is left to the board"
            raise PermanentDeviceError(f"clock {self.name} cannot be set to {value}: it {offered}")
        return 0.0

    def restore(self, state: Mapping[str, str]) -> None:
        """Nothing was changed."""

    def probe(self) -> Probe | None:
        """Where its present speed stands, if this board tells."""
        return self._probe


def open(options: Options, link: Link) -> Fixed:
    """Open it; a board that does not tell the clock's speed is no error, it is just not recorded."""
    probe = None
    if options.read is not None:
        try:
            link.read(options.read.removeprefix("file:"))
            probe = Probe.model_validate({"name": f"clock.{options.name}", "read": options.read, "unit": options.unit})
        except (OSError, PermanentDeviceError):
            probe = None
    return Fixed(options, probe)
