"""The lookup table: rows of one target, backend and space, each metric with its interval and evidence.

Three files with one stem: `.csv` (rows), `.parts.csv` (what whole networks execute), `.toml` (source, runtime,
composition, sessions). Only hwbench writes them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hwbench.composition import Composition, Error, Range
from hwbench.errors import ConfigError, EvidenceError, MissingRows
from hwbench.evidence import Evidence, join
from hwbench.measurement import Cell
from hwbench.row import METRICS, Row, csv_text, order, read_rows, write_rows
from hwbench.setting import Setting

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the older interpreter
    import tomli as tomllib

SCHEMA = 1


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Origin(_Strict):
    """Where and when the rows were made."""

    schema_: int = Field(alias="schema", default=SCHEMA)
    target: str
    backend: str
    space: str
    boards: list[str]
    created: str
    commit: str = ""
    command: str = ""


class RuntimeSection(_Strict):
    """The runtime that ran the rows; tables of two runtimes do not merge."""

    name: str
    version: str


class CompositionSection(_Strict):
    """A Composition as TOML."""

    metric: str
    unit: str
    precision: str
    batch: int
    threads: int | None = None
    form: str = "sum"
    call: float
    scale: float
    layout: float = 0.0
    alone: float | None = None
    factor: dict[str, float] = {}
    fitted_on: int
    mape_percent: float
    bias_percent: float
    spearman: float
    n: int
    valid_low: float
    valid_high: float


class ClockSection(_Strict):
    """How long a clock takes to switch."""

    name: str
    switch_ms: float


class SessionSection(_Strict):
    """What was noticed of one session: steal time, drift of the control workload, temperatures."""

    session: int
    steal_ms: float | None = None
    drift_percent: float | None = None
    temps_c: dict[str, float] = {}
    flags: list[str] = []


class _File(_Strict):
    table: Origin
    source: dict[str, str]
    runtime: RuntimeSection
    composition: list[CompositionSection] = []
    clock: list[ClockSection] = []
    session: list[SessionSection] = []
    returned: dict[str, int] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyTable:
    """Rows of one target × backend × space; one source per metric.

    parts: block_key of a whole network or segment -> (part key, count) of what it executes.
    returned: block_key -> elements of the graph's outputs at batch 1; {} in tables that do not say.
    """

    origin: Origin
    runtime: RuntimeSection
    row: Mapping[Cell, Row]
    parts: Mapping[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    returned: Mapping[str, int] = field(default_factory=dict)
    compositions: tuple[Composition, ...] = ()
    clocks: tuple[ClockSection, ...] = ()
    sessions: tuple[SessionSection, ...] = ()

    def __post_init__(self) -> None:
        for metric in METRICS:
            sources = {str(found[1]) for r in self.row.values() if (found := r.metric(metric))}
            if len(sources) > 1:
                raise EvidenceError(f"{self.name}: {metric} mixes {', '.join(sorted(sources))}; one table, one source")

    @property
    def name(self) -> str:
        """`host/onnxruntime-digits`."""
        return f"{self.origin.target}/{self.origin.backend}-{self.origin.space}"

    @property
    def settings(self) -> tuple[Setting, ...]:
        """All settings that any row has, sorted."""
        return tuple(sorted({c.setting for c in self.row}, key=order))

    @property
    def source(self) -> dict[str, Evidence]:
        """The one evidence of each metric that the table holds."""
        return {m: next(f[1] for r in self.row.values() if (f := r.metric(m))) for m in METRICS if self._has(m)}

    @property
    def sha256(self) -> str:
        """Hash of everything the table says; what a search pins."""
        digest = hashlib.sha256()
        for text in self._texts().values():
            digest.update(text.encode())
        return digest.hexdigest()

    def rows(self, metric: str, keys: Sequence[str], settings: Sequence[Setting]) -> tuple[np.ndarray, Evidence]:
        """Values (P, K) of K block keys at P settings, and their one evidence.

        Raises MissingRows naming ten missing rows and the command that fills them; nothing is ever taken as 0.
        """
        values = np.full((len(settings), len(keys)), np.nan)
        missing: dict[str, None] = {}
        evidence: list[Evidence] = []
        for p, setting in enumerate(settings):
            for k, key in enumerate(keys):
                row = self.row.get(Cell(block_key=key, setting=setting))
                found = row.metric(metric) if row is not None else None
                if found is None:
                    missing[f"{key} [{setting}]"] = None
                else:
                    values[p, k] = found[0].value
                    evidence.append(found[1])
        if missing:
            raise MissingRows(self._missing(metric, tuple(missing)), tuple(missing))
        if not evidence:
            raise ConfigError(f"{self.name}: no rows were asked for {metric}")
        return values, evidence[0] if len(set(evidence)) == 1 else join(*evidence)

    def composition(self, metric: str, setting: Setting) -> Composition:
        """The composition of a metric for that setting, whatever its clocks; ConfigError when none was fitted."""
        for composition in self.compositions:
            if composition.metric == metric and composition.setting == setting.without_clocks:
                return composition
        raise ConfigError(
            f"{self.name}: no composition for {metric} at {setting.without_clocks}; its rows cannot be added up; "
            f"run: hwbench profile --target {self.origin.target} --space {self.origin.space} --networks 64"
        )

    def predict(self, metric: str, parts: Iterable[tuple[str, int]], setting: Setting, *, returns: int = 0) -> float:
        """Value of a network that runs these parts in one call.

        returns: elements of its outputs; what a classifier returns is too little to matter.
        """
        keys, counts = zip(*parts, strict=True)
        values, _ = self.rows(metric, keys, [setting])
        number = np.asarray(counts)
        composition = self.composition(metric, setting)
        elements = 0.0
        if composition.layout:
            unknown = [key for key in keys if key not in self.returned]
            if unknown:
                raise ConfigError(f"{self.name}: the table does not say what {unknown[0]} returns; profile again")
            elements = returns - float(np.array([self.returned[key] for key in keys]) @ number)
        rows = values[0] * composition.factors(keys)
        return float(composition.from_sums(rows @ number, int(number.sum()), elements))

    def merge(self, other: LatencyTable) -> LatencyTable:
        """Both tables' rows; `other` wins where both have a cell. Refuses other boards, runtimes or sources."""
        for what, mine, theirs in (
            ("target", self.origin.target, other.origin.target),
            ("board", sorted(self.origin.boards), sorted(other.origin.boards)),
            ("backend", self.origin.backend, other.origin.backend),
            ("space", self.origin.space, other.origin.space),
            ("runtime", (self.runtime.name, self.runtime.version), (other.runtime.name, other.runtime.version)),
        ):
            if mine != theirs:
                raise ConfigError(f"{self.name}: tables of different {what} do not merge ({mine} and {theirs})")
        fitted = {(c.metric, c.setting) for c in other.compositions}
        return replace(
            other,
            row={**self.row, **other.row},
            parts={**self.parts, **other.parts},
            returned={**self.returned, **other.returned},
            compositions=tuple(c for c in self.compositions if (c.metric, c.setting) not in fitted)
            + other.compositions,
        )

    def write(self, stem: Path) -> None:
        """Write `stem.csv`, `stem.parts.csv` and `stem.toml`, each replaced in one step."""
        stem.parent.mkdir(parents=True, exist_ok=True)
        for suffix, text in self._texts().items():
            file = stem.with_name(stem.name + suffix)
            temporary = file.with_name(file.name + ".part")
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(file)

    @classmethod
    def read(cls, stem: Path) -> LatencyTable:
        """Read the three files; `stem` may also be the path of the `.csv`. Raises ConfigError naming file and line."""
        stem = stem.with_suffix("") if stem.suffix in (".csv", ".toml") else stem
        file = _read_toml(stem.with_name(stem.name + ".toml"))
        csv_file = stem.with_name(stem.name + ".csv")
        rows = read_rows(str(csv_file), _read_text(csv_file))
        return cls(
            origin=file.table,
            runtime=file.runtime,
            row=rows,
            parts=_read_parts(stem.with_name(stem.name + ".parts.csv")),
            returned=file.returned,
            compositions=tuple(_composition(section) for section in file.composition),
            clocks=tuple(file.clock),
            sessions=tuple(file.session),
        )

    def _has(self, metric: str) -> bool:
        return any(r.metric(metric) for r in self.row.values())

    def _missing(self, metric: str, missing: tuple[str, ...]) -> str:
        listed = "\n  ".join(missing[:10])
        more = f"\n  … and {len(missing) - 10} more" if len(missing) > 10 else ""
        return (
            f"{self.name}: {len(missing)} rows without {metric}:\n  {listed}{more}\n"
            f"fill them with: hwbench profile --target {self.origin.target} --backend {self.origin.backend} "
            f"--space {self.origin.space} --resume"
        )

    def _texts(self) -> dict[str, str]:
        parts = sorted((k, p, n) for k, all_parts in self.parts.items() for p, n in all_parts)
        file = _File(
            table=self.origin,
            source={metric.partition("_")[0]: str(evidence) for metric, evidence in self.source.items()},
            runtime=self.runtime,
            composition=[_section(c) for c in self.compositions],
            clock=list(self.clocks),
            session=list(self.sessions),
            returned=dict(sorted(self.returned.items())),
        )
        return {
            ".csv": write_rows(self.row.values()),
            ".parts.csv": csv_text(["block_key", "part_key", "count"], [[k, p, str(n)] for k, p, n in parts]),
            ".toml": tomli_w.dumps(file.model_dump(by_alias=True, exclude_none=True)),
        }


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{file}: no such table; make it with: hwbench profile") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error})") from error


def _read_parts(file: Path) -> dict[str, tuple[tuple[str, int], ...]]:
    lines = list(csv.reader(io.StringIO(_read_text(file))))
    if not lines or lines[0] != ["block_key", "part_key", "count"]:
        raise ConfigError(f"{file}: the first line must be block_key,part_key,count")
    parts: dict[str, list[tuple[str, int]]] = {}
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != 3 or not line[2].isdigit():
            raise ConfigError(f"{file}:{number}: expected block_key,part_key,count, found {','.join(line)!r}")
        parts.setdefault(line[0], []).append((line[1], int(line[2])))
    return {key: tuple(value) for key, value in parts.items()}


def _read_toml(file: Path) -> _File:
    try:
        raw: dict[str, Any] = tomllib.loads(_read_text(file))
        schema = raw.get("table", {}).get("schema")
        if schema != SCHEMA:
            raise ConfigError(f"{file}: schema {schema!r}, this version reads {SCHEMA}")
        return _File.model_validate(raw)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{file}: {'.'.join(str(p) for p in first['loc'])}: {first['msg']}") from error


def _section(composition: Composition) -> CompositionSection:
    setting, error = composition.setting, composition.error
    return CompositionSection(
        metric=composition.metric,
        unit=setting.unit,
        precision=setting.precision,
        batch=setting.batch,
        threads=setting.threads,
        call=composition.call,
        scale=composition.scale,
        layout=composition.layout,
        alone=composition.alone,
        factor=dict(composition.factor),
        fitted_on=composition.fitted_on,
        mape_percent=error.mape_percent,
        bias_percent=error.bias_percent,
        spearman=error.spearman,
        n=error.n,
        valid_low=composition.valid.low,
        valid_high=composition.valid.high,
    )


def _composition(section: CompositionSection) -> Composition:
    return Composition(
        metric=section.metric,
        setting=Setting(unit=section.unit, precision=section.precision, batch=section.batch, threads=section.threads),
        call=section.call,
        scale=section.scale,
        layout=section.layout,
        alone=section.alone,
        factor=section.factor,
        error=Error(
            mape_percent=section.mape_percent,
            bias_percent=section.bias_percent,
            spearman=section.spearman,
            n=section.n,
        ),
        valid=Range(low=section.valid_low, high=section.valid_high),
        fitted_on=section.fitted_on,
    )
