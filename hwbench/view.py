"""How tables and measurements look in a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import fields

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hwbench.composition import Composition
from hwbench.diff import Change
from hwbench.errors import MissingRows
from hwbench.gate_report import GateRow
from hwbench.measurement import Interval
from hwbench.noise import Noise, grade_of, middle
from hwbench.row import Row
from hwbench.table import LatencyTable

_BAR_WIDTH = 24
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def console(*, stderr: bool = False) -> Console:
    """Results go to stdout, progress and logs to stderr; text that we did not write is never read as markup."""
    # A pipe has no width; wide enough that a row stays on one line for grep and awk.
    made = Console(stderr=stderr, highlight=False, soft_wrap=False, markup=False)
    if not made.is_terminal:
        made.width = 200
    return made


def rows_table(rows: Iterable[Row], *, limit: int | None = None, title: str = "", throughput: bool = False) -> Table:
    """Rows by latency, slowest first, each with a bar; energy and memory print empty where unknown.

    throughput: also inputs a second, one call after the other.
    """
    ordered = sorted(rows, key=lambda r: -r.latency_ms.value)
    shown = ordered if limit is None else ordered[:limit]
    longest = max((r.latency_ms.value for r in shown), default=1.0)
    has_energy = any(r.energy_mj for r in shown)
    has_memory = any(r.peak_memory_mb is not None for r in shown)
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    table.add_column("block", overflow="fold")
    table.add_column("setting")
    table.add_column("ms", justify="right")
    table.add_column("95 %", justify="right", style="dim")
    table.add_column("")
    if throughput:
        table.add_column("inputs/s", justify="right")
    if has_energy:
        table.add_column("mJ", justify="right")
    if has_memory:
        table.add_column("peak MB", justify="right")
    table.add_column("flags", style="yellow")
    for row in shown:
        cells: list[str | Text] = [
            row.cell.block_key,
            str(row.cell.setting),
            number(row.latency_ms.value),
            interval(row.latency_ms),
            Text(bar(row.latency_ms.value / longest), style="cyan"),
        ]
        if throughput:
            cells.append(number(row.inputs_per_s))
        if has_energy:
            cells.append(number(row.energy_mj.value if row.energy_mj else None))
        if has_memory:
            cells.append(number(row.peak_memory_mb))
        cells.append(" ".join(row.flags))
        table.add_row(*cells)
    if limit is not None and len(ordered) > limit:
        table.caption = f"{limit} slowest of {len(ordered)}"
        table.caption_justify = "left"
    return table


def residuals_table(table: LatencyTable, metric: str = "latency_ms", limit: int = 12) -> Table | None:
    """Whole networks: measured, the plain sum of their rows, and what the composition says. None without networks."""
    view = Table(box=None, pad_edge=False, title="whole networks against their blocks", title_justify="left")
    for name in ("network", "setting", "measured ms", "sum of blocks", "residual", "composed", "error"):
        view.add_column(name, justify="left" if name in ("network", "setting") else "right", overflow="fold")
    fitted = {(c.metric, c.setting.without_clocks) for c in table.compositions}
    found = 0
    for key, parts in table.parts.items():
        for cell, row in table.row.items():
            whole = row.metric(metric)
            if cell.block_key != key or row.kind != "network" or whole is None:
                continue
            found += 1
            if found > limit:
                continue
            try:
                values, _ = table.rows(metric, [p for p, _ in parts], [cell.setting])
            except MissingRows:  # a block that the board refuses may run inside a network all the same
                view.add_row(key, str(cell.setting), number(whole[0].value), "", "", "", "")
                continue
            bare = float(sum(v * n for v, (_, n) in zip(values[0], parts, strict=True)))
            composed, error = "", ""
            if (metric, cell.setting.without_clocks) in fitted:
                predicted = table.predict(metric, parts, cell.setting, returns=table.returned.get(key, 0))
                composed, error = number(predicted), f"{100 * (predicted / whole[0].value - 1):+.1f} %"
            view.add_row(
                key,
                str(cell.setting),
                number(whole[0].value),
                number(bare),
                f"{100 * (bare / whole[0].value - 1):+.1f} %",
                composed,
                error,
            )
    if found > limit:
        view.caption = f"{limit} of {found} networks"
        view.caption_justify = "left"
    return view if found else None


def noise_line(table: LatencyTable) -> str:
    """One line: the grade of the table's middle session and what it stands for; empty where none was graded."""
    graded = [session for session in table.sessions if session.grade is not None]
    grades = [session.grade or "" for session in graded]
    if not graded:
        return ""
    names = [field.name for field in fields(Noise)]
    typical = middle([Noise(**{name: getattr(session, name) for name in names}) for session in graded])
    each = ", ".join(f"{count} {grade}" for grade, count in sorted(Counter(grades).items()))
    return f"noise: grade {grade_of(grades)} ({each}); in the middle {typical.line}"


def calibration_lines(table: LatencyTable) -> list[str]:
    """Of a simulated table, for each way to run: what its parameters were fitted to, or that they were not."""
    if not any(evidence.source == "simulated" for evidence in table.source.values()):
        return []
    told: dict[str, str] = {}
    for setting in table.settings:
        of = next((c.line for c in table.calibrations if c.tells(setting)), "not calibrated, nominal figures")
        told[str(setting.without_clocks)] = of
    return [f"simulated [{setting}]: {of}" for setting, of in told.items()]


def composition_line(composition: Composition) -> str:
    """One line: coefficients and the error on networks left out."""
    error = composition.error
    unit = composition.metric.rpartition("_")[2].replace("mj", "mJ")
    alone = "" if composition.alone is None else f" - {number(composition.alone)} {unit} a block"
    layout = f" + {number(1e6 * composition.layout)} {unit} a million elements" if composition.layout else ""
    return (
        f"{composition.metric} [{composition.setting}]: call {number(composition.call)} {unit} + "
        f"{composition.scale:.3f} x blocks{alone}{layout}; left-out error {error.mape_percent:.1f} % "
        f"(bias {error.bias_percent:+.1f} %, Spearman {error.spearman:.3f}, n {error.n})"
    )


def changes_table(changes: Sequence[Change]) -> Table:
    """Rows that differ between two tables."""
    view = Table(box=None, pad_edge=False)
    for name in ("block", "setting", "base", "new", "change", "verdict"):
        view.add_column(name, justify="right" if name in ("base", "new", "change") else "left", overflow="fold")
    for change in changes:
        ratio = change.ratio
        view.add_row(
            change.cell.block_key,
            str(change.cell.setting),
            number(change.base.value if change.base else None),
            number(change.new.value if change.new else None),
            "" if ratio is None else f"{100 * (ratio - 1):+.1f} %",
            change.verdict,
        )
    return view


def gate_table(rows: Sequence[GateRow]) -> Table:
    """Rows of a gate with their verdicts."""
    view = Table(box=None, pad_edge=False)
    for name in ("verdict", "block", "setting", "base", "new", "change [95 %]", "sessions", "note"):
        right = name in ("base", "new", "change [95 %]", "sessions")
        view.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in rows:
        view.add_row(
            row.verdict,
            row.block_key,
            row.setting,
            number(row.base),
            number(row.new),
            row.change,
            str(row.sessions or ""),
            row.note,
        )
    return view


def bar(share: float) -> str:
    """A bar of `share` (0..1) of the full width, in eighths of a character."""
    eighths = round(max(0.0, min(share, 1.0)) * _BAR_WIDTH * 8)
    return _EIGHTHS[8] * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def number(value: float | None) -> str:
    """Four significant digits; empty for unknown."""
    return "" if value is None else f"{value:.4g}"


def interval(value: Interval) -> str:
    """`0.981 – 1.02`, empty where a single session gave none."""
    return "" if value.low is None or value.high is None else f"{number(value.low)} – {number(value.high)}"
