"""A board as its TOML says: names are checked here, nothing is opened.

No numpy in this module: `hwbench targets` must answer at once.
"""

from __future__ import annotations

import itertools
import random
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from platformdirs import user_config_path
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hwbench import plugin
from hwbench.errors import ConfigError, nearest
from hwbench.resources import targets_dir
from hwbench.setting import Clocks, Setting, parse_clocks

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


class ClockSection(Plugin):
    """One knob of DVFS: its name in an operating point, and the values that may be measured.

    grid_mhz, modes: nominal MHz, or names of modes; both empty = the clock is only recorded.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_.]*$")
    grid_mhz: tuple[float, ...] = ()
    modes: tuple[str, ...] = ()

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
    so that energy is not latency rescaled.  idle_mw is what the board draws doing nothing, None where nobody says.
    """

    idle_mw: float | None = Field(default=None, ge=0)
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
    clock: tuple[ClockSection, ...] = ()
    meter: tuple[MeterSection, ...] = ()
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

        spec: `found` (clocks stay as they are), `all` (the whole grid), `sample:N` (N points of it, its corners first,
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
        return [
            Setting(unit=unit, precision=precision, batch=batch, threads=count, clocks=point)
            for unit in chosen_units
            for precision in chosen_precisions
            for count in chosen_threads
            for point in self._points(spec)
        ]

    def _points(self, spec: str) -> list[Clocks]:
        """Operating points that a spec names."""
        text = spec.strip()
        if text in ("", "found"):
            return [()]
        if text == "all" or text.startswith("sample:"):
            moving = [c for c in self.clock if c.values]
            if not moving:
                raise ConfigError(
                    f"target {self.name}: no clock has a grid, so there is no {text!r} to visit; "
                    "leave --clocks out, or give a [[clock]] its grid_mhz"
                )
            grid = [tuple(sorted(p)) for p in itertools.product(*([(c.name, v) for v in c.values] for c in moving))]
            return grid if text == "all" else self._sample(grid, moving, text.removeprefix("sample:"))
        points = [parse_clocks(part.replace(",", " ")) for part in text.split(";")]
        for point in points:
            self._check_point(point)
        return points

    def _sample(self, grid: list[Clocks], moving: Sequence[ClockSection], count: str) -> list[Clocks]:
        if not count.isdigit() or not int(count):
            raise ConfigError(f"clocks 'sample:{count}': {count!r} is not a number of points")
        ends = [{(c.name, c.values[0]), (c.name, c.values[-1])} for c in moving]
        corners = [p for p in grid if all(any(pair in end for end in ends) for pair in p)]
        rest = [p for p in grid if p not in corners]
        # A model between clocks is fitted on these: corners pin it, the rest must not follow the grid's order.
        random.Random(0).shuffle(rest)
        return (corners + rest)[: int(count)]

    def _check_point(self, point: Clocks) -> None:
        known = {c.name: c for c in self.clock}
        for name, value in point:
            if name not in known:
                raise ConfigError(f"target {self.name}: no clock {name!r}{nearest(name, known)}")
            values = known[name].values
            if values and value not in values:
                offered = ", ".join(f"{v:g}" if isinstance(v, float) else v for v in values)
                raise ConfigError(f"target {self.name}: clock {name} has no value {value!r} (grid: {offered})")


def read_target(path: Path) -> Target:
    """Read one target file; raises ConfigError naming the file, the key and the nearest known key."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text at byte {error.start}; a target is a TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    if raw.get("schema") != SCHEMA:
        raise ConfigError(
            f"{path}: schema is {raw.get('schema')!r}, this version reads {SCHEMA}; write `schema = {SCHEMA}`"
        )
    try:
        target = Target.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error, Target)}") from error
    if target.name != path.stem:
        raise ConfigError(f"{path}: name is {target.name!r}, but the file is {path.stem!r}; make both equal")
    _check_kinds(target, path)
    return target


def find_target(name: str) -> Target:
    """The target of that name, or the file when `name` ends in .toml; raises ConfigError with the nearest known name.

    Looked for in `./targets`, then in the user's configuration folder, then among those that ship with the project.
    """
    if name.endswith(".toml"):
        return read_target(Path(name))
    known = known_targets()
    if name not in known:
        raise ConfigError(f"unknown target {name!r}{nearest(name, known)}; `hwbench targets` lists them")
    return read_target(known[name])


def known_targets() -> dict[str, Path]:
    """File of every target by name, sorted; a file in an earlier folder hides one of the same name in a later."""
    folders = (Path("targets"), user_config_path("hwbench") / "targets", targets_dir())
    files = {file.stem: file for folder in reversed(folders) for file in folder.glob("*.toml")}
    # The one file of the folder that describes networks, not boards.
    files.pop("uplinks", None)
    return dict(sorted(files.items()))


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
    for group, section in _sections(target):
        try:
            plugin_options(target, f"hwbench.{group}s", section.kind, section.options)
        except ConfigError as error:
            found.append(str(error))
    return found


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first fault in one line: where it is, what is wrong, and for an unknown key the nearest known one."""
    faults = error.errors(include_url=False)
    # An unknown key often causes the missing one beside it, so it is the one to name.
    first = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    place = ".".join(str(p) for p in first["loc"])
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"unknown key {place!r}{nearest(str(first['loc'][-1]), _keys_at(model, first['loc'][:-1]))}{more}"
    if first["type"] == "missing":
        return f"{place!r} is missing{more}"
    return f"{place}: {first['msg']} (here: {first['input']!r}){more}"


def _keys_at(model: type[BaseModel], place: Sequence[str | int]) -> list[str]:
    """Keys that the model at this place inside `model` knows; [] where the place is no model."""
    here: Any = model
    for step in place:
        if isinstance(here, type) and issubclass(here, BaseModel):
            fields = here.model_fields
            field = next((f for n, f in fields.items() if step in (n, f.alias)), None)
            here = field.annotation if field else None
        else:  # an item of a list, or a value of a table
            here = next((a for a in reversed(typing.get_args(here)) if a is not Ellipsis), None)
        here = next((a for a in typing.get_args(here) if a is not type(None)), here) if _optional(here) else here
    if not (isinstance(here, type) and issubclass(here, BaseModel)):
        return []
    return [f.alias or n for n, f in here.model_fields.items()]


def _optional(annotation: Any) -> bool:
    return type(None) in typing.get_args(annotation)


def _sections(target: Target) -> Iterator[tuple[str, Plugin | BackendSection]]:
    """Every section that a plugin stands behind, with the name of its kind: link, backend, clock, meter."""
    yield from (("link", section) for section in target.link)
    yield from (("backend", section) for section in target.backend)
    yield from (("clock", section) for section in target.clock)
    yield from (("meter", section) for section in target.meter)


def _check_kinds(target: Target, path: Path) -> None:
    """Names of plugins are checked when the file is read; their options when they are opened."""
    for group, section in _sections(target):
        known = plugin.names(f"hwbench.{group}s")
        if section.kind not in known:
            raise ConfigError(f"{path}: [[{group}]] kind {section.kind!r} is unknown{nearest(section.kind, known)}")
    clocks = [c.name for c in target.clock]
    if len(set(clocks)) != len(clocks):
        raise ConfigError(f"{path}: two [[clock]] sections are named {max(clocks, key=clocks.count)!r}")


def _choose(asked: Sequence[str], offered: Sequence[str], message: str) -> tuple[str, ...]:
    for name in asked:
        if name not in offered:
            raise ConfigError(f"{message} {name!r}{nearest(name, offered)}")
    return tuple(asked) or tuple(offered)
