"""Rails of a Jetson through jetson-stats; only for boards whose rails the kernel does not show to us as files.

The package is AGPL-3.0 and stays the board's own: nothing here imports it, the agent does, and only for this meter. Its
service sends about one reading a second, so windows must be long; `files` with `ina:` rails is the better meter. Its
`avg` is no average and its total may add rails that overlap, so rails are named here as in `files`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hwbench.energy import add
from hwbench.errors import PermanentDeviceError
from hwbench.link import Link
from hwbench.measurement import Trace
from hwbench.meter import ReadByAgent
from hwbench.reading import read_on_board
from hwbench.target import Probe


class Options(BaseModel):
    """total: the rail (`VDD_IN`), or the rails that do not overlap, which make up the board's power.

    rate_hz: readings a second that the service sends.
    """

    model_config = ConfigDict(extra="forbid")
    total: tuple[str, ...] = Field(min_length=1)
    rate_hz: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _check(self) -> Options:
        if "tot" in self.total or len(set(self.total)) != len(self.total):
            raise ValueError("total names rails, each once; `tot` may add some that overlap")
        return self


class Jtop(ReadByAgent):
    """See `hwbench.meter.Meter`."""

    def __init__(self, rails: Sequence[str], rate_hz: float) -> None:
        self._rails = tuple(rails)
        self.rate_hz: float | None = rate_hz

    def probes(self) -> Sequence[Probe]:
        """One power a rail, all of one reading."""
        return [Probe(name=f"rail.{rail}", read=f"jtop:#{rail}", unit="mw") for rail in self._rails]

    def total(self, traces: Mapping[str, Trace]) -> Trace:
        """The rails' sum in mW."""
        return add([traces[f"rail.{rail}"] for rail in self._rails])


def open(options: Options, link: Link) -> Jtop:
    """Ask the board's own Python; PermanentDeviceError naming the rails that it does not tell."""
    meter = Jtop(options.total, options.rate_hz)
    told = read_on_board(link, meter.probes())
    missing = [rail for rail, value in zip(options.total, told, strict=True) if value is None]
    if missing:
        raise PermanentDeviceError(
            f"meter jtop: jetson-stats tells no power of {', '.join(missing)}; is it installed for the board's Python "
            "in the version of its service (sudo systemctl status jtop)? `jtop` lists the rails"
        )
    return meter
