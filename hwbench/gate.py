"""Did it get slower? Two arms, a verdict for each row, and one for all: what `hwbench gate` decides.

Where both arms can be run they are measured side by side in the same fresh sessions; tables are compared by what they
hold. The statistics are in `gate_rule`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from hwbench import gate_rule
from hwbench.campaign import Progress
from hwbench.diff import check_comparable
from hwbench.errors import ConfigError, Finding, Inconclusive
from hwbench.gate_arms import Arm, as_rows_of, read_arm
from hwbench.gate_measure import Place, fresh_table, side_by_side
from hwbench.gate_report import GatePlace, GateReport, GateRow
from hwbench.gate_rule import Docket, Effect, Rule
from hwbench.gate_tests import compare_tests
from hwbench.measurement import Cell
from hwbench.row import Row
from hwbench.table import LatencyTable
from hwbench.target import Target

# A row measured while the board slowed itself down says something about the board.
_SPOILS = ("throttled", "clock_moved")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One question: is NEW slower than BASE?

    base, new: as the command line takes them (see `gate_arms.read_arm`).
    target: where to measure; None = nothing is measured unless one arm is a table, which names its own.
    """

    base: str
    new: str
    target: Target | None = None
    place: Place = field(default_factory=Place)
    metric: str = "latency_ms"
    rule: Rule = field(default_factory=Rule)


def gate(
    asked: Gate,
    *,
    progress: Callable[[Progress], None] | None = None,
    phase: Callable[[str], None] = lambda text: None,
) -> GateReport:
    """Compare both arms; raises ConfigError and DeviceError, never for what it finds: that is in the report."""
    with TemporaryDirectory(prefix="hwbench-gate-") as folder:
        scratch = Path(folder)
        base, new = read_arm(asked.base, scratch / "base"), read_arm(asked.new, scratch / "new")
        try:
            if base.suite is not None or new.suite is not None:
                return _of_tests(asked, base, new)
            if base.bundle is not None and new.bundle is not None:
                target = asked.target or _host()
                compared = side_by_side(
                    base, new, target, asked.place, asked.metric, asked.rule, scratch, progress=progress, phase=phase
                )
                return GateReport(
                    base=asked.base,
                    new=asked.new,
                    metric=asked.metric,
                    rule=replace(asked.rule, looks=compared.looks),
                    how=compared.how,
                    place=compared.place,
                    rows=_ordered(compared.rows),
                )
            first, second, each = _tables(asked, base, new, scratch, progress, phase)
            rows = [
                replace(row, new_sessions=each.get((row.block_key, row.setting), ()))
                for row in compare_tables(first, second, asked.metric, asked.rule)
            ]
            known = base.table is not None and new.table is not None
            return GateReport(
                base=asked.base,
                new=asked.new,
                metric=asked.metric,
                rule=asked.rule,
                how="intervals of two tables" if known else "a table and fresh sessions",
                place=None if known else GatePlace.of(first if base.table is None else second),
                rows=_ordered(rows),
            )
        except Inconclusive as error:
            return GateReport(
                base=asked.base, new=asked.new, metric=asked.metric, rule=asked.rule, how="", rows=(), reason=str(error)
            )


def compare_tables(base: LatencyTable, new: LatencyTable, metric: str, rule: Rule) -> list[GateRow]:
    """A verdict for every row of two tables; raises Inconclusive where they are not of one board and runtime."""
    check_comparable(base, new, metric)
    both = [cell for cell in base.row if cell in new.row]
    rows: list[GateRow] = []
    effects: dict[int, Effect] = {}
    for cell in both:
        before, after = base.row[cell], new.row[cell]
        row = _row(cell, before, after, metric)
        effect = _effect(before, after, metric)
        spoiled = sorted({f.partition(":")[0] for r in (before, after) for f in r.flags} & set(_SPOILS))
        if row.base is None and row.new is None:
            continue
        if row.new is None or row.base is None:
            rows.append(replace(row, verdict="missing" if row.new is None else "added", note=f"no {metric}"))
        elif spoiled:
            rows.append(replace(row, note=f"measured while {' and '.join(spoiled)}"))
        elif effect is None:
            rows.append(replace(row, note="a single session has no interval"))
        else:
            effects[len(rows)] = effect
            rows.append(row)
    docket = Docket(rule=rule)
    for at, effect in docket.hear(effects).items():
        rows[at] = rows[at].judged(docket.verdicts[at], effect)
    return rows + _unmatched(base, new, metric)


def check(report: GateReport) -> None:
    """Raise what the verdict of all rows is: Finding for a regression, Inconclusive; nothing when all is well."""
    if report.verdict == "regression":
        raise Finding(report.line)
    if report.verdict == "inconclusive":
        raise Inconclusive(report.line)


def _unmatched(base: LatencyTable, new: LatencyTable, metric: str) -> list[GateRow]:
    """Rows of one table only: renamed when the same file has another key, else missing or added."""
    gone = [cell for cell in base.row if cell not in new.row]
    come = [cell for cell in new.row if cell not in base.row]
    by_file: dict[tuple[str, object], list[Cell]] = {}
    for cell in come:
        if new.row[cell].artifact_sha256:
            by_file.setdefault((new.row[cell].artifact_sha256, cell.setting), []).append(cell)
    points = {(cell.block_key, cell.setting.without_clocks) for cell in come}
    rows, taken = [], set()
    for cell in gone:
        row = _row(cell, base.row[cell], None, metric)
        same = by_file.get((base.row[cell].artifact_sha256, cell.setting), [])
        if same:
            now = same.pop(0)
            taken.add(now)
            after = new.row[now].metric(metric)
            rows.append(
                replace(row, verdict="renamed", note=f"now {now.block_key}", new=after[0].value if after else None)
            )
        elif (cell.block_key, cell.setting.without_clocks) in points:
            rows.append(replace(row, note="measured at other clocks"))
        else:
            rows.append(replace(row, verdict="missing", note="no longer in the table"))
    added = (replace(_row(cell, None, new.row[cell], metric), verdict="added") for cell in come if cell not in taken)
    return [*rows, *added]


def _row(cell: Cell, before: Row | None, after: Row | None, metric: str) -> GateRow:
    old, now = (row.metric(metric) if row is not None else None for row in (before, after))
    return GateRow(
        block_key=cell.block_key,
        setting=str(cell.setting),
        verdict="inconclusive",
        base=old[0].value if old else None,
        new=now[0].value if now else None,
    )


def _effect(before: Row, after: Row, metric: str) -> Effect | None:
    old, now = before.metric(metric), after.metric(metric)
    if old is None or now is None:
        return None
    first, second = old[0], now[0]
    if first.low is None or first.high is None or second.low is None or second.high is None:
        # A simulation without noise has no interval because it needs none.
        return gate_rule.exact(first.value, second.value) if old[1].source == "simulated" else None
    return gate_rule.between(
        (first.value, first.low, first.high),
        (second.value, second.low, second.high),
        before.sessions,
        after.sessions,
    )


def _tables(
    asked: Gate,
    base: Arm,
    new: Arm,
    scratch: Path,
    progress: Callable[[Progress], None] | None,
    phase: Callable[[str], None],
) -> tuple[LatencyTable, LatencyTable, dict[tuple[str, str], tuple[float, ...]]]:
    """Both arms as tables: the one that is none is measured in the settings of the other.

    Also what the new arm took in each session, by key and setting, where it was measured.
    """
    if base.table is not None and new.table is not None:
        return base.table, new.table, {}
    known, other = (base.table, new) if base.table is not None else (new.table, base)
    if known is None:
        raise ConfigError("a gate of two files measures both side by side")
    rows, arm = as_rows_of(known, other)
    target = asked.target or _named(known.origin.target)
    measured, each = fresh_table(arm, target, rows, asked.place, scratch, progress=progress, phase=phase)
    if base.table is None:
        return measured, rows, {}
    return rows, measured, {(c.block_key, str(c.setting)): values for c, values in each.items()}


def _of_tests(asked: Gate, base: Arm, new: Arm) -> GateReport:
    if base.suite is None or new.suite is None:
        raise ConfigError(
            f"{asked.base} and {asked.new}: tests in JSON are compared with JSON alone; give a table or two networks"
        )
    if asked.metric != "latency_ms":
        raise ConfigError(f"{asked.new}: tests in JSON tell times, no {asked.metric}")
    rows, how = compare_tests(base.suite, new.suite, asked.rule, least=asked.place.sessions)
    return GateReport(
        base=asked.base, new=asked.new, metric=asked.metric, rule=asked.rule, how=how, rows=_ordered(rows)
    )


def _host() -> Target:
    return _named("host")


def _named(name: str) -> Target:
    from hwbench.target_file import find_target

    return find_target(name)


_ORDER: Mapping[str, int] = {
    v: i for i, v in enumerate(("regression", "missing", "renamed", "inconclusive", "improvement", "added", "ok"))
}


def _ordered(rows: Iterable[GateRow]) -> tuple[GateRow, ...]:
    """What asks for attention first, the largest change on top."""
    return tuple(sorted(rows, key=lambda r: (_ORDER[r.verdict], -abs((r.ratio or 1.0) - 1.0), r.block_key, r.setting)))
