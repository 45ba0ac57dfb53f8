"""What is wrong with a table although it can be read: the checks behind `hwbench table check`."""

from __future__ import annotations

from hwbench.measurement import Cell
from hwbench.row import METRICS
from hwbench.table import LatencyTable

# A part may read slower alone than inside its network, but not by more than this.
_ALONE_OVER_INSIDE = 1.5


def problems(table: LatencyTable, *, max_mape_percent: float) -> list[str]:
    """One line for each thing a user of this table should know; empty when all is well.

    max_mape_percent: the largest composition error, on networks left out of the fit, that is still acceptable.
    """
    return [*_intervals(table), *_parts(table), *_compositions(table, max_mape_percent), *_flags(table)]


def _intervals(table: LatencyTable) -> list[str]:
    found = []
    for row in table.row.values():
        for metric in METRICS:
            value = row.metric(metric)
            if value is None:
                continue
            interval = value[0]
            low = interval.value if interval.low is None else interval.low
            high = interval.value if interval.high is None else interval.high
            if not low <= interval.value <= high:
                found.append(f"{row.cell.block_key} [{row.cell.setting}]: {metric} lies outside its own interval")
    return found


def _parts(table: LatencyTable) -> list[str]:
    found = []
    for key, executed in table.parts.items():
        for setting in table.settings:
            whole = table.row.get(Cell(block_key=key, setting=setting))
            if whole is None:
                continue
            for part, _ in executed:
                row = table.row.get(Cell(block_key=part, setting=setting))
                if row is None:
                    found.append(f"{key} [{setting}]: its part {part} has no row")
                elif row.latency_ms.value > _ALONE_OVER_INSIDE * whole.latency_ms.value:
                    found.append(f"{key} [{setting}]: faster than its part {part}; one of both is wrong")
    return found


def _compositions(table: LatencyTable, max_mape_percent: float) -> list[str]:
    return [
        f"{c.metric} [{c.setting}]: composition errs {c.error.mape_percent:.1f} % on networks left out, "
        f"more than {max_mape_percent:g} %"
        for c in table.compositions
        if c.error.mape_percent > max_mape_percent
    ]


def _flags(table: LatencyTable) -> list[str]:
    flagged = [r for r in table.row.values() if r.flags]
    if not flagged:
        return []
    kinds = sorted({flag for r in flagged for flag in r.flags})
    return [f"{len(flagged)} of {len(table.row)} rows are flagged ({', '.join(kinds)}): measure again with --resume"]
