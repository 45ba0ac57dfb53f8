"""From measurements to a table: rows, and the composition fitted on the whole networks measured beside the blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hwbench import composition
from hwbench.composition import Composition
from hwbench.measurement import Cell, Measurement
from hwbench.row import METRICS, Row
from hwbench.setting import Setting
from hwbench.table import LatencyTable, Origin, RuntimeSection, SessionSection
from hwbench.workload import Bundle

Parts = Mapping[str, tuple[tuple[str, int], ...]]


def tabulate(
    measurements: Iterable[Measurement],
    bundle: Bundle,
    *,
    origin: Origin,
    runtime: RuntimeSection,
    sessions: Sequence[SessionSection] = (),
) -> LatencyTable:
    """Make a table of what was measured.

    A composition is fitted for every metric and setting with enough whole networks; without them the table has rows
    only, and adding those up is an error that says so.
    """
    kinds = {w.block_key: w.kind for w in bundle.workloads}
    rows = {m.cell: _row(m, kinds[m.cell.block_key]) for m in measurements}
    measured = {cell.block_key for cell in rows}
    parts = {w.block_key: w.parts for w in bundle.workloads if w.parts and w.block_key in measured}
    return LatencyTable(
        origin=origin,
        runtime=runtime,
        row=rows,
        parts=parts,
        compositions=compositions(rows, parts),
        sessions=tuple(sessions),
    )


def compositions(rows: Mapping[Cell, Row], parts: Parts) -> tuple[Composition, ...]:
    """One composition for each metric and setting (without clocks) that has enough whole networks with all parts."""
    fitted = []
    for metric in METRICS:
        for setting in sorted({c.setting.without_clocks for c in rows}, key=str):
            sums, counts, values = samples(rows, parts, metric, setting)
            if len(values) >= composition.MINIMUM_NETWORKS:
                smallest = min(v for c in rows if (v := _value(rows, metric, c.block_key, setting)) is not None)
                fitted.append(
                    composition.fit(
                        metric, setting, sums=sums, counts=counts, measured=values, smallest_row=float(smallest)
                    )
                )
    return tuple(fitted)


def samples(
    rows: Mapping[Cell, Row], parts: Parts, metric: str, setting: Setting
) -> tuple[list[float], list[int], list[float]]:
    """Row sum, number of rows and measured value of every whole network and segment whose parts all have rows."""
    sums, counts, values = [], [], []
    for key, executed in parts.items():
        value = _value(rows, metric, key, setting)
        pieces = [(_value(rows, metric, part, setting), count) for part, count in executed]
        known = [(piece, count) for piece, count in pieces if piece is not None]
        if value is not None and len(known) == len(pieces):
            sums.append(sum(piece * count for piece, count in known))
            counts.append(sum(count for _, count in known))
            values.append(value)
    return sums, counts, values


def _value(rows: Mapping[Cell, Row], metric: str, key: str, setting: Setting) -> float | None:
    row = rows.get(Cell(block_key=key, setting=setting))
    found = row.metric(metric) if row is not None else None
    return found[0].value if found is not None else None


def _row(measurement: Measurement, kind: str) -> Row:
    return Row(
        cell=measurement.cell,
        kind=kind,
        latency_ms=measurement.latency_ms,
        latency_evidence=measurement.evidence["latency"],
        energy_mj=measurement.energy_mj,
        energy_evidence=measurement.evidence.get("energy"),
        peak_memory_mb=measurement.peak_memory_mb,
        runs=sum(len(w.run_ns) for w in measurement.windows),
        sessions=len({w.session for w in measurement.windows}),
        flags=measurement.flags,
        artifact_sha256=measurement.windows[-1].artifact_sha256 or "",
    )
