"""What `hwbench table import` does: read a file by its importer, judge it, and write a table or a networks file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import ValidationError

from hwbench import plausible, plugin
from hwbench.errors import ConfigError, nearest
from hwbench.evidence import Evidence
from hwbench.importer import Entry, Given, Imported, Importer
from hwbench.measurement import Cell
from hwbench.provenance import provenance
from hwbench.row import Row, csv_text
from hwbench.setting import Setting, parse_clocks
from hwbench.table import LatencyTable, Origin, RuntimeSection
from hwbench.target_file import find_target
from hwbench.workload import Bundle

_PACKAGE = "hwbench.importers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What the user said. source: of published numbers; None = they were measured by the user.

    bundle: a folder whose workloads say what rows compute, to hold them against the target's peaks.
    """

    format: str
    file: Path
    options: dict[str, Any]
    target: str
    backend: str | None
    space: str | None
    name: str | None
    setting: Setting
    source: str | None
    licence: str | None
    url: str | None
    bundle: Path | None
    trust_units: bool
    out: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What came of it; `repeated` rows stood there twice with the same values, `left_out` were not measurable."""

    file: Path
    kind: Literal["table", "networks"]
    rows: int
    repeated: int
    left_out: int
    evidence: str
    missing: tuple[str, ...]


def formats() -> tuple[str, ...]:
    """Names as the command line has them."""
    return tuple(name.replace("_", "-") for name in plugin.names(_PACKAGE))


def question(
    format_: str,
    file: Path,
    *,
    column: tuple[str, ...],
    settings: tuple[str, ...],
    unit: str,
    precision: str,
    batch: int,
    threads: int | None,
    clocks: str,
    **said: Any,
) -> Question:
    """What the command line says, as a Question."""
    options: dict[str, Any] = {"column": column} if column else {}
    for text in settings:
        name, equals, value = text.partition("=")
        if not equals or not name or name in options:
            raise ConfigError(f"--set {text!r} is not NAME=VALUE, or NAME stands there twice")
        options[name] = value
    setting = Setting(unit=unit, precision=precision, batch=batch, threads=threads, clocks=parse_clocks(clocks))
    return Question(format=format_, file=file, options=options, setting=setting, **said)


def import_file(asked: Question) -> Written:
    """All of it; ConfigError says what is wrong, and nothing is written then."""
    name = asked.name or asked.file.stem.partition(".")[0]
    found = _importer(asked).read(asked.file, Given(name=name, setting=asked.setting))
    if not found.entries:
        raise ConfigError(f"{asked.file}: no rows in it")
    entries, repeated = _once(found.entries)
    _check(asked, entries)
    if not any(e.latency_ms is not None or e.energy_mj is not None for e in entries):
        raise ConfigError(f"{asked.file}: none of its {len(entries)} rows holds a measurement")
    source: Literal["measured", "published", "simulated"] = (
        "simulated" if found.estimated else "measured" if asked.source is None else "published"
    )
    write = _write_networks if all(e.kind == "arch" for e in entries) else _write_table
    file, rows = write(asked, found, entries, Evidence(source=source))
    return Written(
        file=file,
        kind="networks" if write is _write_networks else "table",
        rows=rows,
        repeated=repeated,
        left_out=len(entries) - rows,
        evidence=source,
        missing=_missing(asked, found),
    )


def _importer(asked: Question) -> Importer:
    names = formats()
    if asked.format not in names:
        raise ConfigError(f"unknown format {asked.format!r}{nearest(asked.format, names)}")
    module: Any = plugin.load(_PACKAGE, asked.format.replace("-", "_"))
    try:
        options = module.Options.model_validate(asked.options)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(p) for p in first["loc"])
        raise ConfigError(
            f"{asked.format}: {key}: {first['msg']}{nearest(key, module.Options.model_fields)}"
        ) from error
    importer: Importer = module.open(options)
    return importer


def _once(entries: Sequence[Entry]) -> tuple[list[Entry], int]:
    """Each cell once, and how many were repeated; ConfigError where they disagree."""
    found: dict[tuple[str, str, Setting], Entry] = {}
    for entry in entries:
        key = (entry.kind, entry.key, entry.setting)
        first = found.setdefault(key, entry)
        if (first.latency_ms, first.energy_mj) != (entry.latency_ms, entry.energy_mj):
            raise ConfigError(
                f"{entry.where}: {entry.key} [{entry.setting}] stands there twice with other values "
                f"(first at {first.where}); keep one, or their median"
            )
    return list(found.values()), len(entries) - len(found)


def _check(asked: Question, entries: Sequence[Entry]) -> None:
    if asked.trust_units:
        return
    if asked.bundle is not None:
        workloads = {w.block_key: w for w in Bundle.read(asked.bundle).workloads}
        simulation = find_target(asked.target).simulation
        known = 0
        for entry in entries:
            peaks = simulation.get(entry.setting.unit, {}).get(entry.setting.precision)
            workload = workloads.get(entry.key)
            if peaks is not None and workload is not None:
                known += 1
                least = plausible.bound_ms(workload, peaks, entry.setting.precision, entry.setting.batch)
                plausible.check_bound(entry, least)
        if not known:
            raise ConfigError(
                f"{asked.bundle}: tells of no row what it computes at {asked.target}'s peaks "
                "(block keys, unit and precision must be the same)"
            )
    plausible.check_together([e for e in entries if "profiled" not in e.flags])


def _missing(asked: Question, found: Imported) -> tuple[str, ...]:
    """What the file does not tell, and for published numbers what the user did not say."""
    unsaid = () if asked.source is None or asked.licence else ("licence",)
    known = {"clocks"} if asked.setting.clocks else set()
    return tuple(word for word in (*found.missing, *unsaid) if word not in known)


def _provenance(asked: Question, found: Imported, evidence: Evidence) -> dict[str, str]:
    told = {
        **{f"file.{name}": value for name, value in found.told.items() if value},
        "format": asked.format,
        "file": asked.file.name,
        "file_sha256": hashlib.sha256(asked.file.read_bytes()).hexdigest(),
        "evidence": str(evidence),
        "source": asked.source or "",
        "licence": asked.licence or "",
        "url": asked.url or "",
        "missing": " ".join(_missing(asked, found)),
    }
    return {name: value for name, value in told.items() if value}


def _write_table(asked: Question, found: Imported, entries: Sequence[Entry], evidence: Evidence) -> tuple[Path, int]:
    missing = tuple(f"no_{word}" for word in _missing(asked, found))
    rows = {}
    for entry in entries:
        if entry.kind == "arch" or entry.latency_ms is None:
            continue
        cell = Cell(block_key=entry.key, setting=entry.setting)
        energy = None if entry.energy_mj is None else replace(evidence, derived=entry.energy_derived)
        if cell in rows:
            raise ConfigError(f"{entry.where}: {entry.key} is there as a block and as a network")
        rows[cell] = Row(
            cell=cell,
            kind=entry.kind,
            latency_ms=entry.latency_ms,
            latency_evidence=evidence,
            energy_mj=entry.energy_mj,
            energy_evidence=energy,
            runs=entry.runs,
            sessions=entry.sessions,
            flags=("imported", *entry.flags, *missing),
        )
    if not rows:
        raise ConfigError(f"{asked.file}: no row has a latency, and a table's row is no row without")
    backend = asked.backend or found.told.get("runtime") or asked.format
    space = asked.space or asked.file.stem.partition(".")[0]
    made = provenance()
    table = LatencyTable(
        origin=Origin(
            target=asked.target,
            backend=backend,
            space=space,
            boards=[found.told.get("machine") or asked.target],
            created=made["created"],
            commit=made.get("commit", ""),
            command=made["command"],
        ),
        runtime=RuntimeSection(name=backend, version=found.told.get("runtime_version") or "unknown"),
        row=rows,
        imported=_provenance(asked, found, evidence),
    )
    stem = asked.out or Path("latency_tables") / asked.target / f"{backend}-{space}"
    stem = stem.with_suffix("") if stem.suffix in (".csv", ".toml") else stem
    table.write(stem)
    return stem.with_name(f"{stem.name}.csv"), len(rows)


def _write_networks(asked: Question, found: Imported, entries: Sequence[Entry], evidence: Evidence) -> tuple[Path, int]:
    """`family,arch,…` for `table fit --networks`; an empty field is a network that could not be measured."""
    settings = {entry.setting for entry in entries}
    if len(settings) > 1:
        raise ConfigError(f"{asked.file}: networks in {len(settings)} settings; a networks file is of one")
    metrics = [m for m in ("latency_ms", "energy_mj") if any(getattr(e, m) is not None for e in entries)]
    lines = []
    for entry in entries:
        values = (getattr(entry, metric) for metric in metrics)
        lines.append([found.family, entry.key, *("" if v is None else f"{v.value:.9g}" for v in values)])
    stem = asked.out or Path("latency_tables") / asked.target / (asked.space or asked.file.stem)
    file = stem if stem.suffix == ".csv" else stem.with_name(f"{stem.name}.csv")
    file.parent.mkdir(parents=True, exist_ok=True)
    setting = next(iter(settings))
    beside = {"target": asked.target, "setting": str(setting)} | _provenance(asked, found, evidence)
    for path, text in (
        (file, csv_text(["family", "arch", *metrics], lines)),
        (file.with_suffix(".source.toml"), tomli_w.dumps({"source": beside})),
    ):
        temporary = path.with_name(path.name + ".part")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    return file, sum(any(getattr(e, m) is not None for m in metrics) for e in entries)
