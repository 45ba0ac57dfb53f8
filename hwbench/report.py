"""`hwbench report`: tables on one page, side by side, with what they are worth.

A column is a table at one setting; of a table with several operating points it is the one that runs the blocks fastest.
What a table does not know stays empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hwbench import drawing
from hwbench.errors import ConfigError, EvidenceError
from hwbench.fit import samples
from hwbench.measurement import Cell
from hwbench.page import Block, Fact, Figure, Page, Section, Table
from hwbench.setting import Setting, grid_points
from hwbench.statistics import spearman
from hwbench.table import LatencyTable
from hwbench.target_file import find_target
from hwbench.view import calibration_lines, noise_line

_COLUMNS = 8  # of a heat map, so that its numbers can be read
_BLOCKS = 40  # rows of a heat map; a space may have hundreds
_METRICS = {"latency_ms": ("latency", "ms"), "energy_mj": ("energy", "mJ")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A table at one setting."""

    table: LatencyTable
    setting: Setting

    @property
    def name(self) -> str:
        """Short enough to stand above a column."""
        return f"{self.table.origin.target} {self.setting.unit} {self.setting.precision}"

    def value(self, metric: str, key: str) -> float:
        """Of a block; NaN where the table has no such row."""
        row = self.table.row.get(Cell(block_key=key, setting=self.setting))
        found = row.metric(metric) if row is not None else None
        return float("nan") if found is None else found[0].value


def page(tables: Sequence[LatencyTable]) -> Page:
    """The page; ConfigError where a table has no rows."""
    columns = [column for table in tables for column in _columns(table)]
    sections = [
        Section(title="Side by side", blocks=[_compared(columns)]),
        *(Section(title=f"Blocks: {_METRICS[m][0]}", blocks=_blocks(columns, m)) for m in _METRICS),
        Section(title="Clocks", blocks=[b for table in tables for b in _clocks(table)]),
        Section(title="Whole networks against the table", blocks=[b for t in tables for b in _residuals(t)]),
        Section(title="Provenance", blocks=[_provenance(table) for table in tables]),
    ]
    spaces = sorted({table.origin.space for table in tables})
    return Page(
        title=f"{', '.join(spaces)} on {', '.join(dict.fromkeys(t.origin.target for t in tables))}",
        subtitle=", ".join(f"{table.name} ({_evidence(table)})" for table in tables),
        facts=_facts(tables, columns),
        sections=[section for section in sections if section.blocks],
    )


def _columns(table: LatencyTable) -> list[Column]:
    """One for each unit, precision, batch and number of threads: at the clocks that are fastest over its blocks."""
    by_kind: dict[Setting, list[Setting]] = {}
    for setting in table.settings:
        by_kind.setdefault(setting.without_clocks, []).append(setting)
    if not by_kind:
        raise ConfigError(f"{table.name}: the table has no rows to report")
    found = []
    for settings in by_kind.values():
        columns = [Column(table=table, setting=setting) for setting in settings]
        keys = _keys(columns)
        found.append(min(columns, key=lambda c: _mean([c.value("latency_ms", key) for key in keys])))
    return found


def _mean(values: Sequence[float]) -> float:
    known = np.array([v for v in values if np.isfinite(v)])
    return float(np.exp(np.log(known).mean())) if len(known) else float("inf")


def _keys(columns: Sequence[Column]) -> list[str]:
    """Blocks that all columns have."""
    each = [
        {cell.block_key for cell, row in c.table.row.items() if row.kind == "block" and cell.setting == c.setting}
        for c in columns
    ]
    return sorted(set.intersection(*each)) if each else []


def _facts(tables: Sequence[LatencyTable], columns: Sequence[Column]) -> list[Fact]:
    shared = _keys(columns)
    facts = [
        Fact(value=str(len(tables)), label="tables" if len(tables) > 1 else "table"),
        Fact(value=str(sum(len(table.row) for table in tables)), label="rows"),
        Fact(value=str(len(shared)), label="blocks that all columns have" if len(columns) > 1 else "blocks"),
    ]
    errors = [(c.error.mape_percent, c, t) for t in tables for c in t.compositions if np.isfinite(c.error.mape_percent)]
    if errors:
        worst, composition, table = max(errors, key=lambda e: e[0])
        remark = f"{table.origin.target}, {composition.metric}, n {composition.error.n}"
        facts.append(Fact(value=f"{worst:.2g} %", label="largest error of a composition, left out", remark=remark))
    return facts


def _compared(columns: Sequence[Column]) -> Table:
    """Each column against the first: how much slower over the blocks they share, and whether it ranks them alike."""
    shared = _keys(columns)
    first = np.array([columns[0].value("latency_ms", key) for key in shared])
    rows: list[list[str | None]] = []
    for column in columns:
        values = np.array([column.value("latency_ms", key) for key in shared])
        ratio = float(np.exp(np.log(values / first).mean())) if len(shared) else None
        rank = spearman(first, values) if len(shared) > 2 else None
        error = _error(column, "latency_ms")
        energies = [column.value("energy_mj", key) for key in shared]
        rows.append([
            column.name,
            " ".join(f"{name}={value}" for name, value in column.setting.clocks) or None,
            _evidence(column.table),
            str(sum(row.kind == "block" and c.setting == column.setting for c, row in column.table.row.items())),
            None if not shared else f"{values.sum():.4g}",
            None if not shared or not np.isfinite(energies).all() else f"{sum(energies):.4g}",
            None if ratio is None else f"{ratio:.3g}",
            None if rank is None or not np.isfinite(rank) else f"{rank:.3f}",
            error,
        ])  # fmt: skip
    return Table(
        header=["column", "clocks", "evidence", "blocks", "sum ms", "sum mJ", "× first", "Spearman", "error %"],
        rows=rows,
        caption=f"Over the {len(shared)} blocks that all have. × first: geometric mean of latency ratios to the first "
        "column; Spearman: of the blocks' order; error: of composed networks that were left out of the fit.",
    )


def _error(column: Column, metric: str) -> str | None:
    for composition in column.table.compositions:
        if (composition.metric, composition.setting) == (metric, column.setting):
            error = composition.error
            return f"{error.mape_percent:.2f}" if np.isfinite(error.mape_percent) else None
    return None


def _blocks(columns: Sequence[Column], metric: str) -> list[Block]:
    keys = sorted({c.block_key for col in columns for c, row in col.table.row.items() if row.kind == "block"})
    values = np.array([[column.value(metric, key) for column in columns] for key in keys]).reshape(-1, len(columns))
    if not np.isfinite(values).any():
        return []
    # What most columns know first, and of that the dearest.
    known = np.isfinite(values).sum(1)
    order = sorted(range(len(keys)), key=lambda i: (-known[i], -_mean(values[i].tolist()) if known[i] else 0.0))[
        :_BLOCKS
    ]
    name, unit = _METRICS[metric]
    cut = f"The {len(order)} dearest of {len(keys)} blocks" if len(order) < len(keys) else f"All {len(keys)} blocks"
    blocks: list[Block] = []
    for start in range(0, len(columns), _COLUMNS):
        some = columns[start : start + _COLUMNS]
        shown = values[order, start : start + _COLUMNS]
        if not np.isfinite(shown).any():
            continue
        blocks.append(
            Figure(
                svg=drawing.heat_map(shown, [keys[i] for i in order], [c.name for c in some], f"{name}, {unit}"),
                caption=f"{cut}, batch {', '.join(sorted({str(c.setting.batch) for c in some}))}; {name} in {unit}. "
                "White: no row.",
                alt=f"{name} of each block on each board",
            )
        )
    return blocks


def _clocks(table: LatencyTable) -> list[Block]:
    """Of the largest whole network that a swept table knows: latency and energy at every operating point."""
    blocks: list[Block] = []
    if "energy_mj" not in table.source:
        return blocks
    kinds = dict.fromkeys(s.without_clocks for s in table.settings if s.clocks)
    for kind in kinds:
        measured = [s for s in table.settings if s.without_clocks == kind]
        network = _network(table, measured[0])
        if network is None or len(measured) < 2:
            continue
        points = list(dict.fromkeys([*measured, *_grid(table, kind)]))
        points = [p for p in points if table.answers("latency_ms", [network], [p])[0]]
        try:
            latency, said = table.rows("latency_ms", [network], points)
            energy, _ = table.rows("energy_mj", [network], points)
        except (ConfigError, EvidenceError):
            continue  # no energy at these points: there is no surface to draw
        clock = _moving(points)
        svg = drawing.operating_points(
            latency[:, 0],
            energy[:, 0],
            np.array([float(dict(p.clocks)[clock]) for p in points]),
            clock,
            np.array([p in set(measured) for p in points]),
        )
        blocks.append(
            Figure(
                svg=svg,
                caption=f"{network} on {table.origin.target} {kind.unit} {kind.precision}: {len(points)} operating "
                f"points, {len(measured)} of them rows of the table (large), the others by its clock models; {said}.",
                alt=f"latency and energy of {table.origin.target} over its clocks",
            )
        )
    return blocks


def _network(table: LatencyTable, setting: Setting) -> str | None:
    rows = (r for c, r in table.row.items() if r.kind == "network" and c.setting == setting)
    whole = {r.cell.block_key: r.latency_ms.value for r in rows}
    return max(whole, key=lambda key: whole[key]) if whole else None


def _grid(table: LatencyTable, kind: Setting) -> list[Setting]:
    """The operating points that clock models may answer; none where the target is not described here."""
    if not table.clock_models:
        return []
    try:
        target = find_target(table.origin.target)
    except ConfigError:
        return []
    fixed = [c for s in table.settings if s.without_clocks == kind for c in s.clocks if isinstance(c[1], str)]
    every = [tuple(sorted({*point, *fixed})) for point in grid_points(target.grid(kind.unit))]
    return [replace(kind, clocks=point) for point in every]


def _moving(points: Sequence[Setting]) -> str:
    """The clock in MHz that takes the most values."""
    values: dict[str, set[float]] = {}
    for point in points:
        for name, value in point.clocks:
            if not isinstance(value, str):
                values.setdefault(name, set()).add(value)
    return max(values, key=lambda name: len(values[name]))


def _residuals(table: LatencyTable) -> list[Block]:
    blocks: list[Block] = []
    fastest = {column.setting for column in _columns(table)}
    for composition in table.compositions:
        if composition.setting not in fastest:
            continue
        rows = {c: r for c, r in table.row.items() if r.kind != "segment"}
        whole = {k: p for k, p in table.parts.items() if any(c.block_key == k for c in rows)}
        seen = samples(rows, whole, table.returned, composition.metric, composition.setting)
        if not len(seen.measured):
            continue
        name, unit = _METRICS[composition.metric]
        error = composition.error
        series = {"plain sum of blocks": seen.sums, "composition": seen.predict(composition)}
        blocks.append(
            Figure(
                svg=drawing.residuals(seen.measured, series, f"{name} of whole networks, {unit}"),
                caption=f"{table.origin.target}, {composition.setting}: {table.source[composition.metric]}; left-out "
                f"error {error.mape_percent:.2g} %, bias {error.bias_percent:+.2g} %, Spearman {error.spearman:.3f}, "
                f"n {error.n}.",
                alt=f"residuals of {name} on {table.origin.target}",
            )
        )
    return blocks


def _provenance(table: LatencyTable) -> Table:
    origin = table.origin
    drifts = [s.drift_percent for s in table.sessions if s.drift_percent is not None]
    rows: list[list[str | None]] = [
        ["command", origin.command or None],
        ["code", origin.commit or None],
        ["made", origin.created or None],
        ["board", ", ".join(origin.boards)],
        ["runtime", f"{table.runtime.name} {table.runtime.version}"],
        ["evidence", _evidence(table)],
        ["sessions", str(len(table.sessions)) if table.sessions else None],
        ["largest drift of the control", f"{max(map(abs, drifts)):.1f} %" if drifts else None],
        ["noise", noise_line(table).removeprefix("noise: ") or None],
        ["sha256", table.sha256],
    ]
    rows += [["simulation", line] for line in calibration_lines(table)]
    return Table(header=[table.name, "from"], rows=rows)


def _evidence(table: LatencyTable) -> str:
    return ", ".join(f"{_METRICS[m][0]} {e}" for m, e in table.source.items() if m in _METRICS)
