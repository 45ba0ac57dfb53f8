"""Rails that the kernel shows as files: INA sensors of Jetsons and of HATs, hwmon, anything in sysfs.

[[meter]]
kind = "files"
unit = "mw"
total = ["cpu", "gpu"]
[meter.rails]
cpu = "file:/sys/.../in_power0_input"
gpu = { volt = "file:/sys/.../in1_input", amp = "file:/sys/.../curr1_input" }
soc = "ina:VDD_SOC"

`ina:NAME` is looked for on the board by the name that the sensor gives its rail, since paths differ between releases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from hwbench.agent.sources import COMMAND_HZ
from hwbench.energy import add
from hwbench.errors import PermanentDeviceError, nearest
from hwbench.ina import Rail, find_rails
from hwbench.link import Link
from hwbench.measurement import Trace
from hwbench.meter import ReadByAgent
from hwbench.reading import read_probe
from hwbench.target import Probe

_READ = r"^(file:/|run:)"
_INA = "ina:"


class Pair(BaseModel):
    """A rail that tells voltage and current: in mV and mA."""

    model_config = ConfigDict(extra="forbid")
    volt: str = Field(pattern=_READ)
    amp: str = Field(pattern=_READ)


class Options(BaseModel):
    """rails: what to read, or voltage and current, or `ina:NAME`, by name.

    unit: of what is read (pairs and `ina:` rails have their own).
    total: the rail, or the rails that do not overlap, which make up the board's power; may be left out with one rail.
    rate_hz: how often the sensor has a new value; None = as an INA sensor says, else whenever it is read.
    i2c: where INA sensors are looked for.
    """

    model_config = ConfigDict(extra="forbid")
    rails: dict[str, str | Pair] = Field(min_length=1)
    unit: Literal["mw", "uw", "uj"] = "mw"
    total: str | tuple[str, ...] | None = None
    rate_hz: float | None = Field(default=None, gt=0)
    i2c: str = Field(default="/sys/bus/i2c/devices", pattern="^/")

    @property
    def total_rails(self) -> tuple[str, ...]:
        """Names of the rails that are added."""
        if self.total is None:
            return tuple(self.rails)
        return (self.total,) if isinstance(self.total, str) else self.total

    @model_validator(mode="after")
    def _check(self) -> Options:
        for name, rail in self.rails.items():
            if isinstance(rail, str) and rail.startswith(_INA):
                continue
            for read in (rail,) if isinstance(rail, str) else (rail.volt, rail.amp):
                if not read.startswith(("file:/", "run:")):
                    raise ValueError(f"rail {name} is read from 'file:/…', 'run:…' or 'ina:NAME', not from {read!r}")
                Probe(name=name, read=read, unit=self.unit)
        if self.total is None and len(self.rails) > 1:
            raise ValueError("several rails, so `total` must name those that do not overlap")
        for name in self.total_rails:
            if name not in self.rails:
                raise ValueError(f"total names rail {name!r}{nearest(name, self.rails)}")
        if len(set(self.total_rails)) != len(self.total_rails) or not self.total_rails:
            raise ValueError("total names a rail twice, or none")
        # A counter cannot be added to a power.
        if self.unit == "uj" and any(isinstance(r, Pair) or r.startswith(_INA) for r in self.rails.values()):
            raise ValueError("unit 'uj' and a voltage-current pair or an INA sensor cannot stand in one meter")
        return self


class Files(ReadByAgent):
    """See `hwbench.meter.Meter`.  rails: by name; total: the names of those that are added."""

    def __init__(self, rails: Mapping[str, Rail], total: Sequence[str], rate_hz: float | None) -> None:
        self._rails = dict(rails)
        self._total = tuple(total)
        self.rate_hz = rate_hz

    def probes(self) -> Sequence[Probe]:
        """Every file of every rail; those outside of the total are recorded for whoever asks."""
        return [probe for rail in self._rails.values() for probe in rail.probes]

    def total(self, traces: Mapping[str, Trace]) -> Trace:
        """The named rails' sum: mW (pairs, `mw`, `uw`) or a counter in uJ; Inconclusive for a rail without samples."""
        return add([_rail(self._rails[name], traces) for name in self._total])


def open(options: Options, link: Link) -> Files:
    """Open it; raises PermanentDeviceError naming what the board does not show or does not let us read."""
    shown = find_rails(link, options.i2c) if any(_is_ina(rail) for rail in options.rails.values()) else {}
    rails = {name: _named(name, rail, options, shown) for name, rail in options.rails.items()}
    told = [rail.rate_hz for rail in rails.values() if rail.rate_hz is not None]
    if any(probe.read.startswith("run:") for rail in rails.values() for probe in rail.probes):
        told.append(COMMAND_HZ)
    meter = Files(rails, options.total_rails, options.rate_hz or min(told, default=None))
    for probe in meter.probes():
        if read_probe(link, probe) is None:
            raise PermanentDeviceError(
                f"meter files: {probe.read} gives no number in {probe.unit}; "
                "check the rail's name or path, and whether it needs root"
            )
    return meter


def _is_ina(rail: str | Pair) -> bool:
    return isinstance(rail, str) and rail.startswith(_INA)


def _named(name: str, rail: str | Pair, options: Options, shown: Mapping[str, Sequence[Rail]]) -> Rail:
    """The rail as probes of our name for it."""
    if isinstance(rail, Pair):
        return Rail.pair(rail.volt, rail.amp).named(name)
    if not rail.startswith(_INA):
        return Rail(probes=(Probe(name="", read=rail, unit=options.unit),)).named(name)
    wanted = rail.removeprefix(_INA)
    found = shown.get(wanted, ())
    if not found:
        raise PermanentDeviceError(
            f"meter files: no INA sensor under {options.i2c} has a rail {wanted!r}{nearest(wanted, shown)}"
        )
    if len(found) > 1:
        places = ", ".join(one.probes[0].read for one in found)
        raise PermanentDeviceError(
            f"meter files: {len(found)} INA sensors have a rail {wanted!r} ({places}); name its files"
        )
    return found[0].named(name)


def _rail(rail: Rail, traces: Mapping[str, Trace]) -> Trace:
    if len(rail.probes) == 2:
        volt, amp = (traces[probe.name] for probe in rail.probes)
        # Read one after the other, so the current is taken at the voltage's time.
        current = add([Trace(t_ns=volt.t_ns, value=np.zeros(volt.t_ns.size), unit="ma"), amp])
        return Trace(t_ns=volt.t_ns, value=volt.value * current.value / 1000, unit="mw")
    trace = traces[rail.probes[0].name]
    if trace.unit == "uw":
        return Trace(t_ns=trace.t_ns, value=trace.value / 1000, unit="mw")
    return trace
