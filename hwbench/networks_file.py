"""Measurements of whole networks as others give them: CSV or Parquet with `family, arch, latency_ms, energy_mj`.

How they were run may stand beside, in columns `unit, precision, threads, batch, clocks`. The unit of a value stands in
its column's name and is converted here; a column without one is refused. NaN, an empty field and −1 mean that the
network could not be measured, which is a fact of its own and never a latency.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from hwbench.errors import ConfigError, nearest
from hwbench.evidence import MEASURED, Evidence
from hwbench.rows_file import read_rows
from hwbench.setting import parse_setting

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the older interpreter
    import tomli as tomllib

_UNITS = {
    "latency_ms": {"latency_s": 1e3, "latency_ms": 1.0, "latency_us": 1e-3, "latency_ns": 1e-6},
    "energy_mj": {"energy_j": 1e3, "energy_mj": 1.0, "energy_uj": 1e-3},
}
METRICS = tuple(_UNITS)
_NOT_MEASURABLE = -1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How networks were run, as far as somebody says; None = nobody does."""

    unit: str | None = None
    precision: str | None = None
    threads: int | None = None
    batch: int | None = None
    clocks: str | None = None

    def __str__(self) -> str:
        return " ".join(str(value) for value in (getattr(self, f.name) for f in fields(self)) if value is not None)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Networks:
    """n architectures of one family. values: by metric, (n,); NaN = could not be measured.

    evidence: of the values.  source: where they come from, in words.  ran: how they were run.
    """

    family: str
    archs: tuple[str, ...]
    values: Mapping[str, np.ndarray]
    evidence: Evidence = MEASURED
    source: str = ""
    ran: Ran = Ran()


def read_networks(file: Path) -> Networks:
    """Read a file of networks that were all run in one way; see `read_runs`."""
    found = read_runs(file)
    if len(found) > 1:
        ways = "; ".join(str(networks.ran) or "not said" for networks in found)
        raise ConfigError(f"{file}: networks were run in {len(found)} ways ({ways}); keep the rows of one")
    return found[0]


def read_runs(file: Path) -> list[Networks]:
    """Networks by the way in which they were run, in the order in which the ways first stand in the file.

    Where they come from, and how they were run, may also stand in the `<name>.source.toml` that `hwbench table import`
    writes beside; without one they are measured. ConfigError names the file and the line or column that is wrong.
    """
    known = {"family", "arch", *(f.name for f in fields(Ran)), *(name for units in _UNITS.values() for name in units)}
    names, rows = read_rows(file, known, "columns family, arch, latency_ms and/or energy_mj")
    columns = _columns(file, names)
    evidence, source, beside = _origin(file)
    family = ""
    found: dict[Ran, dict[str, dict[str, float]]] = {}
    for number, row in rows:
        where = f"{file}:{number}"
        if row["family"] != (family or row["family"]):
            raise ConfigError(f"{where}: family {row['family']!r} after {family!r}; a file holds one family")
        family = row["family"]
        values = {metric: _value(row[name], scale, f"{where}: {name}") for metric, name, scale in columns}
        ran = _ran(row, beside, where)
        first = found.setdefault(ran, {}).setdefault(row["arch"], values)
        if any(not _same(first[metric], value) for metric, value in values.items()):
            raise ConfigError(f"{where}: {row['arch']} stands there twice with other values; keep one, or their median")
    if not found:
        raise ConfigError(f"{file}: no networks in it")
    return [
        Networks(
            family=family,
            archs=tuple(each),
            values={metric: np.array([values[metric] for values in each.values()]) for metric, _, _ in columns},
            evidence=evidence,
            source=source,
            ran=ran,
        )
        for ran, each in found.items()
    ]


def _ran(row: Mapping[str, str], beside: Ran, where: str) -> Ran:
    """As the row's columns say, and where they are silent the file beside."""
    said = {f.name: row.get(f.name, "").strip() for f in fields(Ran)}
    for name in ("threads", "batch"):
        if said[name] and not (said[name].isdecimal() and int(said[name])):
            raise ConfigError(f"{where}: {name} is {said[name][:40]!r}, not a number from 1")
    return Ran(
        unit=said["unit"] or beside.unit,
        precision=said["precision"] or beside.precision,
        threads=int(said["threads"]) if said["threads"] else beside.threads,
        batch=int(said["batch"]) if said["batch"] else beside.batch,
        clocks=said["clocks"] or beside.clocks,
    )


def _origin(file: Path) -> tuple[Evidence, str, Ran]:
    beside = file.with_suffix(".source.toml")
    try:
        told = tomllib.loads(beside.read_text(encoding="utf-8"))["source"]
        ran = Ran()
        if "setting" in told:
            at = parse_setting(told["setting"])
            clocks = at.clocks_text or None
            ran = Ran(unit=at.unit, precision=at.precision, threads=at.threads, batch=at.batch, clocks=clocks)
        return Evidence.parse(told["evidence"]), str(told.get("source", "")) or file.name, ran
    except FileNotFoundError:
        return MEASURED, file.name, Ran()
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        raise ConfigError(f"{beside}: does not say where {file.name} comes from ({error}); import it again") from error


def _columns(file: Path, names: list[str]) -> list[tuple[str, str, float]]:
    """(metric, column, scale) of each metric that the file has."""
    for name in ("family", "arch"):
        if name not in names:
            raise ConfigError(f"{file}: no column {name!r}{nearest(name, names)}")
    if len(set(names)) < len(names):
        raise ConfigError(f"{file}: a column stands there twice: {', '.join(names)}")
    found = [(m, name, scale) for m, units in _UNITS.items() for name, scale in units.items() if name in names]
    for metric, units in _UNITS.items():
        kind = metric.partition("_")[0]
        bare = next((n for n in names if n.startswith(kind) and n not in units), None)
        if bare is not None:
            raise ConfigError(f"{file}: column {bare!r} says no unit that is known; name it {', '.join(units)}")
        if sum(m == metric for m, _, _ in found) > 1:
            raise ConfigError(f"{file}: {kind} in two units; keep one column")
    if not found:
        raise ConfigError(f"{file}: no column latency_ms or energy_mj (columns: {', '.join(names)})")
    return found


def _value(text: str, scale: float, where: str) -> float:
    """A positive number, or NaN for what could not be measured."""
    try:
        value = float(text) if text.strip() else math.nan
    except ValueError as error:
        raise ConfigError(f"{where} is {text[:40]!r}, not a number") from error
    if math.isnan(value) or value == _NOT_MEASURABLE:
        return math.nan
    if not 0 < value < math.inf:
        raise ConfigError(f"{where} is {value:g}; a measurement is positive, -1 or empty means not measurable")
    return value * scale


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))
