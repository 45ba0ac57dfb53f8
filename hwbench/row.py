"""One row of a lookup table, and how it stands in a CSV file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hwbench.errors import ConfigError, EvidenceError
from hwbench.evidence import Evidence
from hwbench.measurement import Cell, Interval
from hwbench.setting import Setting, parse_clocks

METRICS = ("latency_ms", "energy_mj")
COLUMNS = [
    *("block_key", "kind", "unit", "precision", "batch", "threads", "clocks"),
    *("latency_ms", "latency_low_ms", "latency_high_ms", "latency_evidence"),
    *("energy_mj", "energy_low_mj", "energy_high_mj", "energy_evidence"),
    *("peak_memory_mb", "runs", "sessions", "flags", "artifact_sha256"),
]
KINDS = ("block", "segment", "network")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One cell of the table. energy_mj and peak_memory_mb are None where nothing told them."""

    cell: Cell
    kind: str
    latency_ms: Interval
    latency_evidence: Evidence
    energy_mj: Interval | None = None
    energy_evidence: Evidence | None = None
    peak_memory_mb: float | None = None
    runs: int = 0
    sessions: int = 0
    flags: tuple[str, ...] = ()
    artifact_sha256: str = ""

    @property
    def inputs_per_s(self) -> float:
        """Inputs a second when one call follows the other: batch / latency. Derived; nothing was run side by side."""
        return self.cell.setting.batch * 1e3 / self.latency_ms.value

    def metric(self, name: str) -> tuple[Interval, Evidence] | None:
        """The interval and evidence of `latency_ms` or `energy_mj`; None where the row has none."""
        if name == "latency_ms":
            return self.latency_ms, self.latency_evidence
        if name == "energy_mj":
            if self.energy_mj is None or self.energy_evidence is None:
                return None
            return self.energy_mj, self.energy_evidence
        raise ConfigError(f"tables hold {' and '.join(METRICS)}, not {name!r}")


def order(setting: Setting) -> tuple[str, str, int, int, str]:
    """Sorting key of settings: threads and clocks left to the runtime come first."""
    return setting.unit, setting.precision, setting.batch, setting.threads or 0, setting.clocks_text


def write_rows(rows: Iterable[Row]) -> str:
    """The CSV text of rows, sorted by key and setting."""
    by_key = sorted(rows, key=lambda r: (r.cell.block_key, r.kind, *order(r.cell.setting)))
    return csv_text(COLUMNS, [_cells(row) for row in by_key])


def read_rows(file: str, text: str) -> dict[Cell, Row]:
    """Rows by cell from a CSV text; raises ConfigError naming `file` and the line."""
    lines = list(csv.reader(io.StringIO(text)))
    if not lines or lines[0] != COLUMNS:
        got = ",".join(lines[0]) if lines else "an empty file"
        raise ConfigError(f"{file}: the first line must name the columns {','.join(COLUMNS)}; found {got}")
    rows: dict[Cell, Row] = {}
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(COLUMNS):
            raise ConfigError(f"{file}:{number}: {len(line)} columns, expected {len(COLUMNS)}; is the file cut short?")
        try:
            row = _row(dict(zip(COLUMNS, line, strict=True)))
        except (ValueError, EvidenceError, ConfigError) as error:
            raise ConfigError(f"{file}:{number}: {error}") from error
        if row.cell in rows:
            raise ConfigError(f"{file}:{number}: {row.cell.block_key} [{row.cell.setting}] is there twice")
        rows[row.cell] = row
    return rows


def _row(cells: dict[str, str]) -> Row:
    if cells["kind"] not in KINDS:
        raise ConfigError(f"kind {cells['kind']!r} is none of {', '.join(KINDS)}")
    latency = _interval(cells, "latency", "ms")
    if latency is None:
        raise ConfigError("latency_ms is empty; a row without a latency is no row")
    energy = _interval(cells, "energy", "mj")
    if (energy is None) != (cells["energy_evidence"] == ""):
        raise ConfigError("energy_mj and energy_evidence must both be there or both be empty")
    return Row(
        cell=Cell(
            block_key=cells["block_key"],
            setting=Setting(
                unit=cells["unit"],
                precision=cells["precision"],
                batch=int(cells["batch"]),
                threads=int(cells["threads"]) if cells["threads"] else None,
                clocks=parse_clocks(cells["clocks"]),
            ),
        ),
        kind=cells["kind"],
        latency_ms=latency,
        latency_evidence=Evidence.parse(cells["latency_evidence"]),
        energy_mj=energy,
        energy_evidence=Evidence.parse(cells["energy_evidence"]) if cells["energy_evidence"] else None,
        peak_memory_mb=_positive(cells, "peak_memory_mb"),
        runs=int(cells["runs"]),
        sessions=int(cells["sessions"]),
        flags=tuple(cells["flags"].split()),
        artifact_sha256=cells["artifact_sha256"],
    )


def _interval(cells: dict[str, str], metric: str, unit: str) -> Interval | None:
    value = _positive(cells, f"{metric}_{unit}")
    if value is None:
        return None
    return Interval(
        value=value, low=_positive(cells, f"{metric}_low_{unit}"), high=_positive(cells, f"{metric}_high_{unit}")
    )


def _positive(cells: dict[str, str], column: str) -> float | None:
    if cells[column] == "":
        return None
    value = float(cells[column])
    # HW-NAS-Bench writes -1 and nn-Meter adds 0 for what was never measured; neither is a number here.
    if not math.isfinite(value) or value < 0 or (value == 0 and column.endswith(("latency_ms", "energy_mj"))):
        raise ConfigError(f"{column} is {cells[column]}; unknown values are empty, never 0, negative or NaN")
    return value


def csv_text(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A CSV file's text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return text.getvalue()


def _cells(row: Row) -> list[str]:
    setting, energy = row.cell.setting, row.energy_mj
    return [
        row.cell.block_key,
        row.kind,
        setting.unit,
        setting.precision,
        str(setting.batch),
        _text(setting.threads),
        setting.clocks_text,
        _text(row.latency_ms.value),
        _text(row.latency_ms.low),
        _text(row.latency_ms.high),
        str(row.latency_evidence),
        _text(energy.value if energy else None),
        _text(energy.low if energy else None),
        _text(energy.high if energy else None),
        str(row.energy_evidence) if row.energy_evidence else "",
        _text(row.peak_memory_mb),
        str(row.runs),
        str(row.sessions),
        " ".join(row.flags),
        row.artifact_sha256,
    ]


def _text(value: float | int | None) -> str:
    # Six digits outlast any timer's noise and keep the files readable in a diff.
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
