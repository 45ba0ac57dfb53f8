"""A board as its TOML says: names are checked here, nothing is opened.

No numpy in this module: `hwbench targets` must answer at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hwbench import plugin
from hwbench.errors import ConfigError, nearest
from hwbench.setting import Setting

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the older interpreter
    import tomli as tomllib

SCHEMA = 1


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Probe(_Strict):
    """Something to read on the board, e.g. `file:/sys/class/thermal/thermal_zone0/temp` in `mc`."""

    name: str
    read: str = Field(pattern=r"^[a-z]+:")
    unit: Literal["mw", "uw", "uj", "mv", "ma", "mhz", "khz", "hz", "c", "mc", "raw"]


class Plugin(BaseModel):
    """A section `kind = "x"`: the rest of its keys are the plugin's own Options, validated when it is opened."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: str

    @property
    def options(self) -> dict[str, Any]:
        """The section without `kind`."""
        return dict(self.model_extra or {})


class BackendSection(_Strict):
    """A runtime of the board: processors and precisions it offers, thread counts to measure by default."""

    kind: str
    units: tuple[str, ...]
    precisions: tuple[str, ...]
    threads: tuple[int, ...] = ()
    options: dict[str, str | int | float | bool] = {}


class Limits(_Strict):
    """What the board must not exceed."""

    memory_mb: float | None = None
    temp_c: float | None = None


class DeclaredPower(_Strict):
    """A data sheet's power model, used where no meter answers; its energy always prints as predicted.

    Energy of one run = static_mw · latency + pj_per_mac · MACs + pj_per_byte · bytes read and written,
    so that energy is not latency rescaled.  idle_mw is what the board draws doing nothing.
    """

    idle_mw: float = Field(ge=0)
    static_mw: float = Field(ge=0)
    pj_per_mac: float = Field(ge=0)
    pj_per_byte: float = Field(ge=0)
    source: str


class Calibration(_Strict):
    """Where simulation parameters come from and their error on networks they were not fitted on."""

    date: str
    source: str
    n: int
    mape_percent: float


class Simulation(_Strict):
    """An analytic board for one unit and precision."""

    peak_gops: float = Field(gt=0)
    bandwidth_gbps: float = Field(gt=0)
    call_us: float = Field(ge=0)
    static_mw: float = Field(ge=0)
    dynamic_mw: float = Field(ge=0)
    calibrated: Calibration | None = None


class Target(_Strict):
    """One board; the first backend is the default, several links are a farm.

    clock: set in this order (power mode first), put back in reverse.
    """

    schema_: int = Field(alias="schema")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    link: tuple[Plugin, ...] = Field(min_length=1)
    backend: tuple[BackendSection, ...] = Field(min_length=1)
    clock: tuple[Plugin, ...] = ()
    meter: tuple[Plugin, ...] = ()
    sensor: tuple[Probe, ...] = ()
    limits: Limits = Limits()
    power: DeclaredPower | None = None
    simulation: dict[str, dict[str, Simulation]] = {}

    def backend_section(self, kind: str | None = None) -> BackendSection:
        """The section of that backend, or of the default one; raises ConfigError."""
        if kind is None:
            return self.backend[0]
        for section in self.backend:
            if section.kind == kind:
                return section
        raise ConfigError(f"target {self.name}: no backend {kind!r}{nearest(kind, [b.kind for b in self.backend])}")
