"""CSV or Parquet of any tool, its columns named on the command line: `--column latency_ms=lat:us`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from hwbench.errors import ConfigError, nearest
from hwbench.importer import UNITS, Entry, Given, Imported, Importer, number
from hwbench.measurement import Interval
from hwbench.rows_file import read_rows
from hwbench.setting import Setting

_PLAIN = ("block_key", "arch", "unit", "precision", "batch", "threads")


class Options(BaseModel):
    """column: what each role's column is called, with its unit.  family: of the architectures in role `arch`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    column: tuple[str, ...] = ()
    family: str = ""
    kind: str = "block"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Generic:
    columns: dict[str, tuple[str, float]]
    family: str
    kind: str

    def read(self, file: Path, given: Given) -> Imported:
        names, rows = read_rows(file, {name for name, _ in self.columns.values()}, "the columns that --column names")
        for name, _ in self.columns.values():
            if name not in names:
                raise ConfigError(f"{file}: no column {name!r}{nearest(name, names)}")
        entries = tuple(self._entry(row, f"{file}:{line}", given) for line, row in rows)
        return Imported(entries=entries, family=self.family, missing=("machine", "runtime_version", "clocks", "runs"))

    def _entry(self, row: dict[str, str], where: str, given: Given) -> Entry:
        told = {role: row[name] for role, (name, _) in self.columns.items()}
        values = {
            role: number(told[role], scale, f"{where}: {name}")
            for role, (name, scale) in self.columns.items()
            if role in UNITS
        }
        latency, energy, power = (values.get(role) for role in UNITS)
        derived = energy is None and power is not None and latency is not None
        if power is not None and latency is not None and energy is None:
            energy = power * latency / 1e3
        key = told.get("arch") or told.get("block_key") or ""
        if not key:
            raise ConfigError(f"{where}: the {'architecture' if 'arch' in told else 'block_key'} is empty")
        try:
            setting = Setting(
                unit=told.get("unit") or given.setting.unit,
                precision=told.get("precision") or given.setting.precision,
                batch=int(told.get("batch") or given.setting.batch),
                threads=int(told["threads"]) if told.get("threads") else given.setting.threads,
                clocks=given.setting.clocks,
            )
        except (ValueError, ConfigError) as error:
            raise ConfigError(f"{where}: {error}") from error
        return Entry(
            key=key,
            kind="arch" if "arch" in told else self.kind,
            setting=setting,
            latency_ms=None if latency is None else Interval(value=latency),
            energy_mj=None if energy is None else Interval(value=energy),
            energy_derived=derived,
            where=where,
        )


def open(options: Options) -> Importer:
    """Check the column map; ConfigError names a role, a unit or a column that is wrong."""
    columns: dict[str, tuple[str, float]] = {}
    for text in options.column:
        role, equals, name = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"--column {text!r} is not ROLE=COLUMN or ROLE=COLUMN:UNIT (latency_ms=lat:us)")
        if role not in UNITS and role not in _PLAIN:
            raise ConfigError(f"--column {text!r}: unknown role {role!r}{nearest(role, (*UNITS, *_PLAIN))}")
        if role in columns:
            raise ConfigError(f"--column: {role} is given twice")
        scale = 1.0
        if role in UNITS:
            name, colon, unit = name.rpartition(":")
            if not colon or unit not in UNITS[role]:
                column = name if colon else unit
                raise ConfigError(
                    f"--column {text!r}: column {column!r} has no unit that is known; write {role}={column}:UNIT, "
                    f"UNIT one of {', '.join(UNITS[role])}"
                )
            scale = UNITS[role][unit]
        columns[role] = (name, scale)
    if "latency_ms" not in columns and not {"arch", "energy_mj"} <= columns.keys():
        raise ConfigError("generic needs --column latency_ms=COLUMN:UNIT (ns, us, ms, s)")
    if ("arch" in columns) == ("block_key" in columns):
        raise ConfigError("generic needs one of --column block_key=COLUMN and --column arch=COLUMN")
    if ("arch" in columns) != bool(options.family):
        raise ConfigError(
            "a column of architectures needs --set family=NAME (nas-bench-201, fbnet), and only that does"
        )
    if options.kind not in ("block", "segment", "network"):
        raise ConfigError(f"kind {options.kind!r} is none of block, segment, network")
    return _Generic(columns=columns, family=options.family, kind=options.kind)
