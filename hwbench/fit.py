"""From measurements to a table: rows, and the composition fitted on the whole networks measured beside the blocks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np

from hwbench import clock_model, clock_rows, composition
from hwbench.composition import Composition, Error
from hwbench.errors import ConfigError
from hwbench.measurement import Cell, Measurement
from hwbench.row import METRICS, Row
from hwbench.samples import Parts, Samples, gather
from hwbench.setting import Setting
from hwbench.table import BetweenSection, ClockSection, LatencyTable, Origin, RuntimeSection, SessionSection
from hwbench.workload import Bundle, Workload


def tabulate(
    measurements: Iterable[Measurement],
    bundle: Bundle,
    *,
    origin: Origin,
    runtime: RuntimeSection,
    sessions: Sequence[SessionSection] = (),
    switch_ms: Mapping[str, float] | None = None,
) -> LatencyTable:
    """Make a table of what was measured; switch_ms: how long each clock took to go to another value.

    A composition is fitted for every metric and setting with enough whole networks; without them the table has rows
    only, and adding those up is an error that says so.
    """
    kinds = {w.block_key: w.kind for w in bundle.workloads}
    rows = {m.cell: row_of(m, kinds[m.cell.block_key]) for m in measurements}
    measured = {cell.block_key for cell in rows}
    parts = {w.block_key: w.parts for w in bundle.workloads if w.parts and w.block_key in measured}
    table = LatencyTable(
        origin=origin,
        runtime=runtime,
        row=rows,
        parts=parts,
        returned=elements_returned(bundle),
        clock_models=clock_rows.fit(rows),
        clocks=tuple(ClockSection(name=name, switch_ms=ms) for name, ms in sorted((switch_ms or {}).items())),
        compositions=compositions(
            rows,
            parts,
            elements_returned(bundle),
            weights={w.block_key: w.params for w in bundle.workloads if w.params is not None},
        ),
        sessions=tuple(sessions),
    )
    return replace(table, between=between(table))


def between(table: LatencyTable) -> tuple[BetweenSection, ...]:
    """How well networks are predicted at operating points where nothing was measured.

    Each point that lies between the others is left out once: rows and composition come from the others alone, and
    networks that this composition was not fitted on, as measured there, judge them.
    """
    found = []
    for metric in METRICS:
        for plain in sorted({c.setting.without_clocks for c in table.compositions if c.setting.clocks}, key=str):
            errors = list(_left_out(table, metric, plain))
            if errors:
                error = Error.of(*(np.concatenate(side) for side in zip(*errors, strict=True)))
                found.append(
                    BetweenSection(
                        metric=metric,
                        unit=plain.unit,
                        precision=plain.precision,
                        batch=plain.batch,
                        threads=plain.threads,
                        **asdict(error),
                    )
                )
    return tuple(found)


def _left_out(table: LatencyTable, metric: str, plain: Setting) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(predicted, measured) networks of one operating point after the other.

    Half of the networks tell the composition of that point, by their own models, and judge that of the other half.
    """
    composed = [c for c in table.compositions if c.metric == metric and c.setting.without_clocks == plain]
    settings = [c.setting for c in composed if c.setting.clocks]
    needed = METRICS[: METRICS.index(metric) + 1]  # an energy is a latency's
    # Of a large space most blocks stand in no network that was measured.
    judged = {part for executed in table.parts.values() for part, _ in executed} | table.parts.keys()
    alike = {c: r for c, r in table.row.items() if c.setting.without_clocks == plain and c.block_key in judged}
    for i in clock_model.inner([s.clocks for s in settings]):
        here = settings[i]
        rows = {c: r for c, r in alike.items() if c.setting != here}
        models = clock_rows.fit(rows, metrics=needed, errors=False)
        for half in (0, 1):
            seen, unseen = ({k: table.parts[k] for k in list(table.parts)[part::2]} for part in (half, 1 - half))
            others = replace(
                table,
                row=rows,
                parts=seen,
                clock_models=models,
                compositions=tuple(c for c in composed if c.setting != here),
            )
            judges = samples(table.row, unseen, table.returned, metric, here)
            try:
                predicted, _ = others.rows(metric, judges.blocks.keys, [here])
                by = others.composition(metric, here)
            except ConfigError:
                continue  # too few points are left for models of the blocks, or too few networks tell
            if len(judges.measured):
                yield replace(judges, blocks=replace(judges.blocks, rows=predicted[0])).predict(by), judges.measured


def compositions(
    rows: Mapping[Cell, Row], parts: Parts, returned: Mapping[str, int], *, weights: Mapping[str, int]
) -> tuple[Composition, ...]:
    """One composition for each metric and setting, clocks included, with enough whole networks that have all parts.

    returned: elements of each graph's outputs at batch 1.  weights: of each block; {} = unknown.
    """
    fitted = []
    for metric in METRICS:
        for setting in sorted({c.setting for c in rows}, key=str):
            found = samples(rows, parts, returned, metric, setting, weights=weights)
            if len(found.measured) >= composition.MINIMUM_NETWORKS:
                smallest = min(v for c in rows if (v := _value(rows, metric, c.block_key, setting)) is not None)
                fitted.append(
                    composition.fit(
                        metric,
                        setting,
                        sums=found.sums,
                        counts=found.counts,
                        elements=found.elements,
                        measured=found.measured,
                        smallest_row=float(smallest),
                        blocks=found.blocks,
                    )
                )
    return tuple(fitted)


def samples(
    rows: Mapping[Cell, Row],
    parts: Parts,
    returned: Mapping[str, int],
    metric: str,
    setting: Setting,
    *,
    weights: Mapping[str, int] | None = None,
) -> Samples:
    """Every whole network and segment of `parts` whose parts all have rows.

    weights: of each block, needed to fit on them, not to predict.
    """
    keys = {key for executed in parts.values() for key, _ in executed} | parts.keys()
    values = {key: value for key in sorted(keys) if (value := _value(rows, metric, key, setting)) is not None}
    return gather(values, parts, returned, weights=weights)


def elements_returned(bundle: Bundle) -> dict[str, int]:
    """Elements that each graph returns at batch 1."""
    return {w.block_key: _elements(w) for w in bundle.workloads}


def _elements(workload: Workload) -> int:
    """Elements of all outputs at batch 1; an open batch dimension counts once."""
    return sum(math.prod(size for size in tensor.shape[1:] if size > 0) for tensor in workload.outputs)


def _value(rows: Mapping[Cell, Row], metric: str, key: str, setting: Setting) -> float | None:
    row = rows.get(Cell(block_key=key, setting=setting))
    found = row.metric(metric) if row is not None else None
    return found[0].value if found is not None else None


def row_of(measurement: Measurement, kind: str) -> Row:
    """The row of a measured cell."""
    return Row(
        cell=measurement.cell,
        kind=kind,
        latency_ms=measurement.latency_ms,
        latency_evidence=measurement.evidence["latency"],
        energy_mj=measurement.energy_mj,
        energy_evidence=measurement.evidence.get("energy"),
        peak_memory_mb=measurement.peak_memory_mb,
        runs=sum(w.runs for w in measurement.windows),
        sessions=len({w.session for w in measurement.windows}),
        flags=measurement.flags,
        artifact_sha256=measurement.windows[-1].artifact_sha256 or "",
    )
