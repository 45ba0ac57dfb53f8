"""Rails that the kernel shows as files: INA sensors of Jetsons, hwmon, batteries, anything in sysfs.

[[meter]]
kind = "files"
unit = "mw"
total = ["cpu", "gpu"]
[meter.rails]
cpu = "file:/sys/.../in_power0_input"
gpu = { volt = "file:/sys/.../in1_input", amp = "file:/sys/.../curr1_input" }
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from hwbench.energy import add
from hwbench.errors import PermanentDeviceError, nearest
from hwbench.link import Link
from hwbench.measurement import Trace
from hwbench.target import Probe

_FILE = r"^file:/"


class Pair(BaseModel):
    """A rail that tells voltage and current: files in mV and mA."""

    model_config = ConfigDict(extra="forbid")
    volt: str = Field(pattern=_FILE)
    amp: str = Field(pattern=_FILE)


class Options(BaseModel):
    """rails: file, or voltage and current, by name.  unit: of the files (pairs are mW anyway).

    total: the rail, or the rails that do not overlap, which make up the board's power; may be left out with one rail.
    rate_hz: how often the sensor has a new value; None = whenever it is read.
    """

    model_config = ConfigDict(extra="forbid")
    rails: dict[str, str | Pair] = Field(min_length=1)
    unit: Literal["mw", "uw", "uj"] = "mw"
    total: str | tuple[str, ...] | None = None
    rate_hz: float | None = Field(default=None, gt=0)

    @property
    def total_rails(self) -> tuple[str, ...]:
        """Names of the rails that are added."""
        if self.total is None:
            return tuple(self.rails)
        return (self.total,) if isinstance(self.total, str) else self.total

    @model_validator(mode="after")
    def _check(self) -> Options:
        for rail in self.rails.values():
            if isinstance(rail, str) and not rail.startswith("file:/"):
                raise ValueError(f"a rail is read from 'file:/…', not from {rail!r}")
        if self.total is None and len(self.rails) > 1:
            raise ValueError("several rails, so `total` must name those that do not overlap")
        for name in self.total_rails:
            if name not in self.rails:
                raise ValueError(f"total names rail {name!r}{nearest(name, self.rails)}")
        if len(set(self.total_rails)) != len(self.total_rails) or not self.total_rails:
            raise ValueError("total names a rail twice, or none")
        # A counter cannot be added to a power.
        if self.unit == "uj" and any(isinstance(rail, Pair) for rail in self.rails.values()):
            raise ValueError("unit 'uj' and a voltage-current pair cannot stand in one meter")
        return self


class Files:
    """See `hwbench.meter.Meter`."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.rate_hz = options.rate_hz

    def probes(self) -> Sequence[Probe]:
        """Every file of every rail; those outside of the total are recorded for whoever asks."""
        probes: list[Probe] = []
        for name, rail in self._options.rails.items():
            if isinstance(rail, Pair):
                probes.append(Probe(name=f"rail.{name}.volt", read=rail.volt, unit="mv"))
                probes.append(Probe(name=f"rail.{name}.amp", read=rail.amp, unit="ma"))
            else:
                probes.append(Probe(name=f"rail.{name}", read=rail, unit=self._options.unit))
        return probes

    def start(self) -> None:
        """The agent reads; nothing to start."""

    def stop(self, marker: Trace) -> Mapping[str, Trace]:
        """The agent reads; nothing of its own."""
        return {}

    def total(self, traces: Mapping[str, Trace]) -> Trace:
        """The named rails' sum: mW (pairs, `mw`, `uw`) or a counter in uJ; Inconclusive for a rail without samples."""
        return add([self._rail(name, traces) for name in self._options.total_rails])

    def _rail(self, name: str, traces: Mapping[str, Trace]) -> Trace:
        rail = self._options.rails[name]
        if isinstance(rail, Pair):
            volt, amp = traces[f"rail.{name}.volt"], traces[f"rail.{name}.amp"]
            # Read one after the other, so the current is taken at the voltage's time.
            current = add([Trace(t_ns=volt.t_ns, value=np.zeros(volt.t_ns.size), unit="ma"), amp])
            return Trace(t_ns=volt.t_ns, value=volt.value * current.value / 1000, unit="mw")
        trace = traces[f"rail.{name}"]
        if trace.unit == "uw":
            return Trace(t_ns=trace.t_ns, value=trace.value / 1000, unit="mw")
        return trace


def open(options: Options, link: Link) -> Files:
    """Open it; raises PermanentDeviceError naming the file that the board does not show or does not let us read."""
    meter = Files(options)
    for probe in meter.probes():
        path = probe.read.removeprefix("file:")
        try:
            content = link.read(path)
        except (OSError, PermanentDeviceError) as error:
            raise PermanentDeviceError(
                f"meter files: {path} cannot be read ({error}); check the rail's path, and whether it needs root"
            ) from error
        try:
            float(content)
        except ValueError as error:
            raise PermanentDeviceError(f"meter files: {path} holds {content[:40]!r}, not a number") from error
    return meter
