"""A board as its TOML says: names are checked here, nothing is opened.

No numpy in this module: `hwbench targets` must answer at once.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from hwbench import plugin
from hwbench.agent import readout
from hwbench.errors import ConfigError, nearest
from hwbench.fault import explain
from hwbench.setting import Clocks, Setting, parse_clocks
from hwbench.spread import spread

# The backend of analytic boards.
SIMULATOR = "roofline"
# No part may begin with a dash: it would be taken for an option by whatever program it is handed to.
_ADDRESS = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9._-]*)@)?"
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+(?:%[A-Za-z0-9]+)?)\]|(?P<name>[A-Za-z0-9_][A-Za-z0-9._-]*))(?::(?P<port>[0-9]{1,5}))?"
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Probe(_Strict):
    """Something to read on the board, e.g. `file:/sys/class/thermal/thermal_zone0/temp` in `mc`.

    read: a scheme of `hwbench.agent.readout`.
    unit: `raw` counts; `flags` are bits, of which the lower 16 say what is so now (throttling), the others what was.
    """

    name: str
    read: str
    unit: Literal["mw", "uw", "uj", "mv", "ma", "mhz", "khz", "hz", "c", "mc", "raw", "flags"]

    @field_validator("read")
    @classmethod
    def _known(cls, read: str) -> str:
        readout.split(read)
        return read


class Plugin(BaseModel):
    """A section `kind = "x"`: the rest of its keys are the plugin's own Options, validated when it is opened."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: str

    @property
    def options(self) -> dict[str, Any]:
        """The section without `kind`."""
        return dict(self.model_extra or {})


class ClockSection(Plugin):
    """One knob of DVFS: its name in an operating point, and the values that may be measured.

    grid_mhz, modes: nominal MHz, or names of modes; both empty = the clock is only recorded.
    of: units that it drives; () = all. A whole grid or a sample of it moves only the clocks of the unit measured.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_.]*$")
    grid_mhz: tuple[float, ...] = ()
    modes: tuple[str, ...] = ()
    of: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """The section without `kind`; plugins are told their name and values too."""
        own: dict[str, Any] = {"name": self.name}
        if self.grid_mhz:
            own["grid_mhz"] = self.grid_mhz
        if self.modes:
            own["modes"] = self.modes
        return own | dict(self.model_extra or {})

    @property
    def values(self) -> tuple[float | str, ...]:
        """What `--clocks all` visits."""
        return self.grid_mhz or self.modes


class MeterSection(Plugin):
    """A meter; an optional one that this board lacks leaves energy to the declared model instead of failing."""

    optional: bool = False


class BackendSection(_Strict):
    """A runtime of the board: processors and precisions it offers, thread counts to measure by default.

    only: precisions of a unit that does not run all of them, `{ npu = ["int8"] }`.
    options: the plugin's own Options, validated when it is opened.
    """

    kind: str
    units: tuple[str, ...]
    precisions: tuple[str, ...]
    threads: tuple[int, ...] = ()
    only: dict[str, tuple[str, ...]] = {}
    options: dict[str, Any] = {}

    def runs(self, unit: str, precision: str) -> bool:
        """Whether that unit has that precision."""
        return precision in self.only.get(unit, self.precisions)


class Limits(_Strict):
    """What the board must not exceed."""

    memory_mb: float | None = None
    temp_c: float | None = None


class DeclaredPower(_Strict):
    """A data sheet's power model, used where no meter answers; its energy always prints as predicted.

    Energy of one run = static_mw · latency + pj_per_mac · MACs + pj_per_byte · bytes read and written,
    so that energy is not latency rescaled.  idle_mw is what the board draws doing nothing, None where nobody says.
    """

    idle_mw: float | None = Field(default=None, ge=0)
    static_mw: float = Field(ge=0)
    pj_per_mac: float = Field(ge=0)
    pj_per_byte: float = Field(ge=0)
    source: str


class Calibration(_Strict):
    """What simulation parameters were fitted to, and their error on networks that they were not fitted on.

    date: when, YYYY-MM-DD.  source, evidence: of the measurements.  family: of the networks; others may be told worse.
    fits: the parameters that were fitted; the section's own `source` tells of all others.
    n: networks fitted on.  held_out: how many were left out, of which mape_percent and spearman of latency are; below
    200 networks each was left out in turn.  energy_mape_percent: of energy, None where it was not fitted.
    """

    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    source: str
    evidence: str
    family: str
    fits: tuple[str, ...]
    n: int = Field(ge=1)
    held_out: int = Field(ge=1)
    mape_percent: float = Field(ge=0)
    spearman: float = Field(ge=-1, le=1)
    energy_mape_percent: float | None = Field(default=None, ge=0)

    @property
    def line(self) -> str:
        """As tables and targets print it."""
        energy = "" if self.energy_mape_percent is None else f", of energy {self.energy_mape_percent:g} %"
        return (
            f"calibrated on {self.n} {self.evidence} networks of {self.family} ({self.source}, {self.date}), "
            f"held-out MAPE {self.mape_percent:g} %{energy}, Spearman {self.spearman:.3f}, n {self.held_out}"
        )


class Simulation(_Strict):
    """An analytic board for one unit and precision, at the highest values of its clocks.

    peak_gops: billions of multiply-accumulates a second (not of FLOPs).  bandwidth_gbps: GB a second to memory.
    call_us: of one call of the runtime.  op_us: of each operation inside it.
    idle_mw: drawn doing nothing, and subtracted as a real board's is.  static_mw: on top, whenever it is awake.
    dynamic_mw: on top while it computes; memory_mw: while it moves bytes.
    stalled: the share of both that is drawn while there is nothing to compute or to move, by clocks that tick on.
    compute_clock, memory_clock: names of the clocks that scale them; None = nothing scales.
    blend: how computing and moving overlap, ((a/f_compute)^p + (b/f_memory)^p)^(1/p); 1 = one after the other.
    volt_low: supply voltage at the lowest value of the compute clock, as a share of that at its highest, and in
    proportion between them (power goes with f · V²); a memory's voltage does not move.
    output_macs: what handing out an element costs beside computing it, as so many multiply-accumulates.
    pool_reads: how often a pool moves its input, since windows overlap, and few runtimes take pains with it.
    fused: kinds of operations that a runtime does inside the one before them, where they cost nothing (`activation`).
    threads: other parameters, by number of threads; a setting that names no number, or no such one, has these here.
    source: where these numbers come from.
    """

    peak_gops: float = Field(gt=0)
    bandwidth_gbps: float = Field(gt=0)
    call_us: float = Field(ge=0)
    op_us: float = Field(default=0.0, ge=0)
    output_macs: float = Field(default=0.0, ge=0)
    pool_reads: float = Field(default=1.0, gt=0)
    fused: tuple[str, ...] = ()
    idle_mw: float = Field(default=0.0, ge=0)
    static_mw: float = Field(ge=0)
    dynamic_mw: float = Field(ge=0)
    memory_mw: float = Field(default=0.0, ge=0)
    stalled: float = Field(default=0.3, ge=0, le=1)
    compute_clock: str | None = None
    memory_clock: str | None = None
    blend: float = Field(default=4.0, ge=1)
    volt_low: float = Field(default=0.7, gt=0, le=1)
    source: str = ""
    calibrated: Calibration | None = None
    threads: dict[Annotated[str, Field(pattern=r"^[1-9][0-9]*$")], Simulation] = {}

    def at(self, threads: int | None) -> Simulation:
        """The parameters at a number of threads."""
        return self.threads.get(str(threads), self)


# No part may begin with a dash or hold a space: pip must not take it for an option.
_Pinned = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._,-]+\])?==[A-Za-z0-9][A-Za-z0-9.+!]*$")
]
_Platform = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]


class Setup(_Strict):
    """What `hwbench setup` puts on the board: a virtual environment of `python` with these pinned packages.

    platforms: tags of wheels for a board without internet (`manylinux2014_aarch64`); () = as its C library tells.
    python_version: for which these packages were chosen (`3.7`).  hints: what its owner has to do besides.
    """

    python: str = Field(default="python3", pattern=r"^[^-\s]")
    packages: tuple[_Pinned, ...] = ()
    platforms: tuple[_Platform, ...] = ()
    python_version: str | None = Field(default=None, pattern=r"^3\.[0-9]+$")
    hints: tuple[str, ...] = ()


class Target(_Strict):
    """One board; the first backend is the default, several links are a farm.

    clock: set and put back in this order, a power mode first: it moves the limits of the others.
    """

    schema_: int = Field(alias="schema")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    link: tuple[Plugin, ...] = Field(min_length=1)
    backend: tuple[BackendSection, ...] = Field(min_length=1)
    clock: tuple[ClockSection, ...] = ()
    meter: tuple[MeterSection, ...] = ()
    sensor: tuple[Probe, ...] = ()
    limits: Limits = Limits()
    setup: Setup | None = None
    power: DeclaredPower | None = None
    simulation: dict[str, dict[str, Simulation]] = {}

    def reached_by(self, *, host: str | None = None, serial: str | None = None) -> Target:
        """The same board by another way: `user@host[:port]` of an ssh link, or the serial number of an adb link.

        Raises ConfigError when the target has no such link.
        """
        if host is None and serial is None:
            return self
        kind, changes = ("adb", {"serial": serial}) if host is None else ("ssh", address(host))
        for link in self.link:
            if link.kind == kind:
                return self.model_copy(update={"link": (Plugin(kind=kind, **{**link.options, **changes}),)})
        kinds = ", ".join(link.kind for link in self.link)
        raise ConfigError(f"target {self.name}: reached by {kinds}, not by {kind}; see its [[link]]")

    def backend_section(self, kind: str | None = None) -> BackendSection:
        """The section of that backend, or of the default one; raises ConfigError."""
        if kind is None:
            return self.backend[0]
        for section in self.backend:
            if section.kind == kind:
                return section
        raise ConfigError(f"target {self.name}: no backend {kind!r}{nearest(kind, [b.kind for b in self.backend])}")

    def with_options(self, backend: str | None, **options: Any) -> Target:
        """The same board with these options of that backend (None = the default one) on top of the file's own.

        Raises ConfigError when the target has no such backend; what the plugin does not know, it says when opened.
        """
        chosen = self.backend_section(backend)
        changed = chosen.model_copy(update={"options": {**chosen.options, **options}})
        return self.model_copy(update={"backend": tuple(changed if b is chosen else b for b in self.backend)})

    @property
    def simulates(self) -> bool:
        """Whether this is an analytic board, which has no link and no lock."""
        return self.backend[0].kind == SIMULATOR

    def simulated(self, *, noise_percent: float = 0.0, seed: int = 0) -> Target:
        """The analytic board of this target: its units, precisions and clocks, by the `roofline` backend alone.

        noise_percent: how far a session strays, one standard deviation; drawn anew for each, from `seed`.
        Raises ConfigError when the target says nothing to simulate.
        """
        if not self.simulation:
            raise ConfigError(
                f"target {self.name}: no [simulation.<unit>.<precision>], so there is nothing to simulate; "
                "describe its peak_gops, bandwidth_gbps and power there, as targets/rpi4.toml does"
            )
        known = dict.fromkeys(precision for of_unit in self.simulation.values() for precision in of_unit)
        section = BackendSection(
            kind=SIMULATOR,
            units=tuple(self.simulation),
            precisions=tuple(known),
            only={unit: tuple(of_unit) for unit, of_unit in self.simulation.items()},
            options={
                "simulation": {u: {p: s.model_dump() for p, s in each.items()} for u, each in self.simulation.items()},
                "grids": self.grids,
                "noise_percent": noise_percent,
                "seed": seed,
            },
        )
        alone = {"link": self.link[:1], "backend": (section,), "meter": (), "sensor": (), "power": None}
        return self.model_copy(update=alone)

    @property
    def grids(self) -> dict[str, tuple[float, ...]]:
        """MHz of the clocks that have a grid, by name."""
        return {clock.name: clock.grid_mhz for clock in self.clock if clock.grid_mhz}

    def parameters(self, setting: Setting) -> Simulation | None:
        """Those by which a setting is simulated; None where the target has none."""
        found = self.simulation.get(setting.unit, {}).get(setting.precision)
        return None if found is None else found.at(setting.threads)

    def simulations(self) -> Iterator[tuple[Setting, Simulation]]:
        """All parameters, and of what; those of threads after those that hold for any other number."""
        for unit, precisions in self.simulation.items():
            for precision, section in precisions.items():
                yield Setting(unit=unit, precision=precision), section
                for count, own in section.threads.items():
                    yield Setting(unit=unit, precision=precision, threads=int(count)), own

    def settings(
        self,
        backend: str | None = None,
        spec: str = "found",
        *,
        units: Sequence[str] = (),
        precisions: Sequence[str] = (),
        threads: Sequence[int] = (),
        batch: int = 1,
    ) -> list[Setting]:
        """All ways to run on a backend: units x precisions x threads x operating points, in the TOML's order.

        spec: `found` (clocks stay as they are), `all` (the whole grid of the clocks that drive the unit; found
        where none does), `sample:N` (N points of it, its corners first,
        the same ones every time), or points `gpu=727,emc=1331.2;gpu=1300,emc=1866`.
        units, precisions, threads: a choice; () = what the section names.
        Raises ConfigError for a unit, precision or clock that the target does not have.
        """
        section = self.backend_section(backend)
        where = f"target {self.name}, backend {section.kind}"
        chosen_units = _choose(units, section.units, f"{where}: no unit")
        chosen_precisions = _choose(precisions, section.precisions, f"{where}: no precision")
        # Any number of threads may be asked for; the section only says which ones are measured by default.
        chosen_threads: Sequence[int | None] = tuple(threads) or section.threads or (None,)
        found = [
            Setting(unit=unit, precision=precision, batch=batch, threads=count, clocks=point)
            for unit in chosen_units
            for precision in chosen_precisions
            if section.runs(unit, precision)
            for count in chosen_threads
            for point in self._points(spec, unit)
        ]
        if not found:
            asked = f"{', '.join(chosen_units)} at {', '.join(chosen_precisions)}"
            raise ConfigError(f"{where}: nothing runs on {asked} (precisions by unit: {section.only})")
        return found

    def grid(self, unit: str) -> str:
        """All values of the clocks that drive a unit, as `emc=1331.2,1866;gpu=114.75,727`; empty where none does."""
        moving = sorted((c for c in self.clock if c.values and (not c.of or unit in c.of)), key=lambda c: c.name)
        return ";".join(f"{c.name}={','.join(str(value) for value in c.values)}" for c in moving)

    def _points(self, spec: str, unit: str) -> list[Clocks]:
        """Operating points of a unit that a spec names."""
        text = spec.strip()
        if text in ("", "found"):
            return [()]
        if text == "all" or text.startswith("sample:"):
            moving = [c for c in self.clock if c.values and (not c.of or unit in c.of)]
            if not moving and (self.simulates or any(c.values for c in self.clock)):
                return [()]
            if not moving:
                raise ConfigError(
                    f"target {self.name}: no clock has a grid for unit {unit}, so there is no {text!r} to visit; "
                    "leave --clocks out, or give a [[clock]] its grid_mhz"
                )
            axes = {c.name: c.values for c in moving}
            if text == "all":
                return [tuple(sorted(zip(axes, p, strict=True))) for p in itertools.product(*axes.values())]
            count = text.removeprefix("sample:")
            if not count.isdigit() or not int(count):
                raise ConfigError(f"clocks {text!r}: {count!r} is not a number of points")
            return [tuple(sorted(point.items())) for point in spread(axes, int(count))]
        points = [parse_clocks(part.replace(",", " ")) for part in text.split(";")]
        for point in points:
            self._check_point(point)
        return points

    def _check_point(self, point: Clocks) -> None:
        known = {c.name: c for c in self.clock}
        for name, value in point:
            if name not in known:
                raise ConfigError(f"target {self.name}: no clock {name!r}{nearest(name, known)}")
            values = known[name].values
            if values and value not in values:
                offered = ", ".join(f"{v:g}" if isinstance(v, float) else v for v in values)
                raise ConfigError(f"target {self.name}: clock {name} has no value {value!r} (grid: {offered})")


def address(text: str) -> dict[str, str | int]:
    """`user@host:port` as options of an ssh link; user and port may be absent, an IPv6 address stands in brackets.

    Raises ConfigError for what is not a host.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise ConfigError(f"{text!r} is not a host; write it as user@host or user@host:port")
    told = {"user": found["user"], "host": found["name"] or found["six"]}
    port = {} if found["port"] is None else {"port": int(found["port"])}
    return {key: value for key, value in told.items() if value is not None} | port


def plugin_options(target: Target, package: str, kind: str, options: Mapping[str, Any]) -> tuple[ModuleType, Any]:
    """Load a plugin and validate its section with the plugin's own `Options`: (module, options).

    package: `hwbench.meters` …  Raises ConfigError naming target, section, key and the nearest known key.
    """
    section = f"target {target.name}: [[{package.rpartition('.')[2].removesuffix('s')}]] {kind}"
    module = plugin.load(package, kind)
    try:
        return module, module.Options.model_validate(dict(options))
    except ValidationError as error:
        raise ConfigError(f"{section}: {explain(error, module.Options)}") from error


def faults(target: Target) -> list[str]:
    """What is wrong with the plugins' own options, one line a section; nothing is opened."""
    found: list[str] = []
    for group, section in sections(target):
        try:
            plugin_options(target, f"hwbench.{group}s", section.kind, section.options)
        except ConfigError as error:
            found.append(str(error))
    return found


def sections(target: Target) -> Iterator[tuple[str, Plugin | BackendSection]]:
    """Every section that a plugin stands behind, with the name of its kind: link, backend, clock, meter."""
    yield from (("link", section) for section in target.link)
    yield from (("backend", section) for section in target.backend)
    yield from (("clock", section) for section in target.clock)
    yield from (("meter", section) for section in target.meter)


def _choose(asked: Sequence[str], offered: Sequence[str], message: str) -> tuple[str, ...]:
    for name in asked:
        if name not in offered:
            raise ConfigError(f"{message} {name!r}{nearest(name, offered)}")
    return tuple(asked) or tuple(offered)
