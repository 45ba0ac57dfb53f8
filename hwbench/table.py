"""The lookup table: rows of one target, backend and space, each metric with its interval and evidence.

Files with one stem: `.csv` (rows), `.parts.csv` (what whole networks execute), `.toml` (source, runtime, composition,
sessions), and after a sweep over clocks `.clocks.csv` (models between the measured ones). Only hwbench writes them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hwbench import clock_composition, clock_rows
from hwbench.clock_rows import ClockModels
from hwbench.composition import Composition, Error
from hwbench.errors import ConfigError, EvidenceError, MissingRows
from hwbench.evidence import Evidence, join
from hwbench.measurement import Cell
from hwbench.row import METRICS, Row, csv_text, order, read_rows, write_rows
from hwbench.samples import gather
from hwbench.setting import Setting
from hwbench.table_file import (
    BetweenSection,
    CalibrationSection,
    ClockSection,
    Origin,
    RuntimeSection,
    SessionSection,
    TableFile,
    composition_of,
    read_table_file,
    section_of,
)

__all__ = [
    "BetweenSection",
    "CalibrationSection",
    "ClockSection",
    "LatencyTable",
    "Origin",
    "RuntimeSection",
    "SessionSection",
]

# A composition carried to clocks where nobody tried how well that goes says so: unknown is not 0.
_UNKNOWN = Error(mape_percent=math.nan, bias_percent=math.nan, spearman=math.nan, n=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyTable:
    """Rows of one target × backend × space; one source per metric.

    parts: block_key of a whole network or segment -> (part key, count) of what it executes.
    returned: block_key -> elements of the graph's outputs at batch 1; {} in tables that do not say.
    clock_models: of metrics over clocks, by metric and cell.  between: their error on networks at points left out.
    calibrations: of a simulated board, what its parameters were fitted to.  clocks: how long each takes to switch.
    imported: where another tool's numbers come from; {} of our own.
    """

    origin: Origin
    runtime: RuntimeSection
    row: Mapping[Cell, Row]
    parts: Mapping[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    returned: Mapping[str, int] = field(default_factory=dict)
    compositions: tuple[Composition, ...] = ()
    clock_models: ClockModels = field(default_factory=dict)
    between: tuple[BetweenSection, ...] = ()
    calibrations: tuple[CalibrationSection, ...] = ()
    clocks: tuple[ClockSection, ...] = ()
    sessions: tuple[SessionSection, ...] = ()
    imported: Mapping[str, str] = field(default_factory=dict)
    # Compositions at points between the measured ones: each takes some fitting, and a search asks again and again.
    _between: dict[tuple[str, Setting], Composition] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

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

        A point without a row is answered by the block's model between clocks (derived), inside the range that it was
        fitted on.  Raises MissingRows naming ten missing rows and the command that fills them; nothing is taken as 0.
        """
        values, evidence = self._values(metric, keys, settings)
        missing = dict.fromkeys(f"{keys[k]} [{settings[p]}]" for p, k in np.argwhere(np.isnan(values)).tolist())
        if missing:
            raise MissingRows(self._missing(metric, tuple(missing), settings), tuple(missing))
        if not evidence:
            raise ConfigError(f"{self.name}: no rows were asked for {metric}")
        return values, evidence[0] if len(set(evidence)) == 1 else join(*evidence)

    def answers(self, metric: str, keys: Sequence[str], settings: Sequence[Setting]) -> np.ndarray:
        """(P,) whether all K blocks have a row or a model at a setting: where `rows` would not raise."""
        return np.asarray(~np.isnan(self._values(metric, keys, settings)[0]).any(axis=1))

    def _values(
        self, metric: str, keys: Sequence[str], settings: Sequence[Setting]
    ) -> tuple[np.ndarray, list[Evidence]]:
        """(P, K) values, NaN where nothing tells, and the evidence of those that something does."""
        values = np.full((len(settings), len(keys)), np.nan)
        evidence: list[Evidence] = []
        for p, setting in enumerate(settings):
            for k, key in enumerate(keys):
                row = self.row.get(Cell(block_key=key, setting=setting))
                found = row.metric(metric) if row is not None else None
                if found is not None:
                    values[p, k] = found[0].value
                    evidence.append(found[1])
        if np.isnan(values).any() and self.clock_models:
            modelled = clock_rows.answer(self.clock_models, metric, keys, settings)
            answered = np.isnan(values) & ~np.isnan(modelled)
            values = np.where(answered, modelled, values)
            if answered.any():
                evidence.append(replace(self.source[metric], derived=True))
        return values, evidence

    def composition(self, metric: str, setting: Setting) -> Composition:
        """The composition of a metric in that setting; ConfigError when none was fitted.

        At an operating point where no networks were measured it is fitted on their clock models; its error is that on
        networks at points left out (NaN where none were).
        """
        near = clock_composition.nearby(self.compositions, metric, setting)
        for composition in near:
            if composition.setting == setting:
                return composition
        if not near:
            raise ConfigError(
                f"{self.name}: no composition for {metric} at {setting}; its rows cannot be added up; "
                f"run: {self._command([setting])} --networks 64"
            )
        if (metric, setting) not in self._between:
            self._between[metric, setting] = self._composed(near, metric, setting)
        return self._between[metric, setting]

    def composition_at(self, metric: str, settings: Sequence[Setting]) -> list[Composition]:
        """The compositions of a metric in these settings."""
        return [self.composition(metric, setting) for setting in settings]

    def _composed(self, near: Sequence[Composition], metric: str, setting: Setting) -> Composition:
        plain = setting.without_clocks
        tried = (b.error for b in self.between if (b.metric, b.setting) == (metric, plain))
        error = next(tried, _UNKNOWN)
        if not near[0].setting.clocks:
            typical = self._typical(metric, near[0].setting, setting)
            return clock_composition.scaled(near[0], setting, typical, error)
        keys = sorted({part for executed in self.parts.values() for part, _ in executed} | self.parts.keys())
        told = clock_rows.answer(self.clock_models, metric, keys, [setting])[0]
        values = {key: value for key, value in zip(keys, told.tolist(), strict=True) if not math.isnan(value)}
        modelled = gather(values, self.parts, self.returned)
        composed = clock_composition.between(near, setting, modelled, error)
        if composed is None:
            raise ConfigError(
                f"{self.name}: no composition for {metric} at {setting}, and too few networks with models that reach "
                f"there; run: {self._command([setting])}"
            )
        return composed

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
        tried = {(b.metric, b.setting) for b in other.between}
        switched = {c.name for c in other.clocks}
        return replace(
            other,
            row={**self.row, **other.row},
            parts={**self.parts, **other.parts},
            returned={**self.returned, **other.returned},
            compositions=tuple(c for c in self.compositions if (c.metric, c.setting) not in fitted)
            + other.compositions,
            clock_models={**self.clock_models, **other.clock_models},
            between=tuple(b for b in self.between if (b.metric, b.setting) not in tried) + other.between,
            # Of one version of the simulation, so those of both are of the same parameters.
            calibrations=tuple(dict.fromkeys((*self.calibrations, *other.calibrations))),
            clocks=tuple(c for c in self.clocks if c.name not in switched) + other.clocks,
        )

    def write(self, stem: Path) -> None:
        """Write `stem.csv`, `stem.parts.csv`, `stem.toml` and, with models, `stem.clocks.csv`, each in one step."""
        stem.parent.mkdir(parents=True, exist_ok=True)
        if not self.clock_models:
            stem.with_name(f"{stem.name}.clocks.csv").unlink(missing_ok=True)
        for suffix, text in self._texts().items():
            file = stem.with_name(stem.name + suffix)
            temporary = file.with_name(file.name + ".part")
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(file)

    @classmethod
    def read(cls, stem: Path) -> LatencyTable:
        """Read the files; `stem` may also be the path of the `.csv`. Raises ConfigError naming file and line."""
        stem = stem.with_suffix("") if stem.suffix in (".csv", ".toml") else stem
        toml, clocks = stem.with_name(stem.name + ".toml"), stem.with_name(stem.name + ".clocks.csv")
        file = read_table_file(toml, _read_text(toml))
        csv_file = stem.with_name(stem.name + ".csv")
        rows = read_rows(str(csv_file), _read_text(csv_file))
        return cls(
            origin=file.table,
            runtime=file.runtime,
            row=rows,
            parts=_read_parts(stem.with_name(stem.name + ".parts.csv")),
            returned=file.returned,
            compositions=tuple(composition_of(section) for section in file.composition),
            clock_models=clock_rows.read(str(clocks), _read_text(clocks)) if clocks.is_file() else {},
            between=tuple(file.between),
            calibrations=tuple(file.calibration),
            clocks=tuple(file.clock),
            sessions=tuple(file.session),
            imported=file.imported,
        )

    def _has(self, metric: str) -> bool:
        return any(r.metric(metric) for r in self.row.values())

    def _missing(self, metric: str, missing: tuple[str, ...], settings: Sequence[Setting]) -> str:
        if metric == "energy_mj" and not self._has(metric):
            # Measuring again would not help: nothing on the board tells it.
            return (
                f"{self.name}: all rows are without {metric}; give target {self.origin.target} a [[meter]] or [power], "
                f"then measure again: {self._command(settings)} (or ask for another metric, such as latency)"
            )
        listed = "\n  ".join(missing[:10])
        more = f"\n  … and {len(missing) - 10} more" if len(missing) > 10 else ""
        return (
            f"{self.name}: {len(missing)} rows without {metric}:\n  {listed}{more}\n"
            f"fill them with: {self._command(settings)} --resume"
        )

    def _command(self, settings: Iterable[Setting]) -> str:
        """What measures such rows: a profile, or a sweep where operating points are asked for."""
        verb, clocks = ("sweep", " --clocks all") if any(s.clocks for s in settings) else ("profile", "")
        origin = self.origin
        return f"hwbench {verb} --target {origin.target} --backend {origin.backend} --space {origin.space}{clocks}"

    def _typical(self, metric: str, found: Setting, setting: Setting) -> float:
        """How much more blocks cost in a setting than in another; 1 where that is not known."""
        keys = [c.block_key for c, r in self.row.items() if r.kind == "block" and c.setting == found]
        try:
            values, _ = self.rows(metric, sorted(keys), [found, setting])
        except ConfigError:
            return 1.0
        return float(np.exp(np.diff(np.log(values), axis=0).mean()))

    def _texts(self) -> dict[str, str]:
        parts = sorted((k, p, n) for k, all_parts in self.parts.items() for p, n in all_parts)
        file = TableFile(
            table=self.origin,
            source={metric.partition("_")[0]: str(evidence) for metric, evidence in self.source.items()},
            runtime=self.runtime,
            composition=[section_of(c) for c in self.compositions],
            between=list(self.between),
            calibration=list(self.calibrations),
            clock=list(self.clocks),
            session=list(self.sessions),
            returned=dict(sorted(self.returned.items())),
            imported=dict(self.imported),
        )
        return {
            ".csv": write_rows(self.row.values()),
            ".parts.csv": csv_text(["block_key", "part_key", "count"], [[k, p, str(n)] for k, p, n in parts]),
            ".toml": file.text(),
            **({".clocks.csv": clock_rows.write(self.clock_models)} if self.clock_models else {}),
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
