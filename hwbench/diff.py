"""Two tables side by side: which rows changed beyond their intervals, which are missing, which are new."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hwbench.errors import Inconclusive
from hwbench.measurement import Cell, Interval
from hwbench.table import LatencyTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One row in two tables; `ratio` is new over base, None where one side has no number.

    verdict: `same` (intervals overlap), `slower`, `faster`, `missing` (only in base), `added`, `unknown` (no interval).
    """

    cell: Cell
    metric: str
    base: Interval | None
    new: Interval | None
    verdict: str

    @property
    def ratio(self) -> float | None:
        """New over base."""
        return None if self.base is None or self.new is None else self.new.value / self.base.value


def diff(base: LatencyTable, new: LatencyTable, metric: str) -> list[Change]:
    """Compare all rows of a metric, the largest change first; raises as `check_comparable` does."""
    check_comparable(base, new, metric)
    return sorted(_changes(base, new, metric), key=lambda c: -abs((c.ratio or 1.0) - 1.0))


def check_comparable(base: LatencyTable, new: LatencyTable, metric: str) -> None:
    """Raise Inconclusive where tables come from different boards or runtimes: their rows answer other questions."""
    for what, first, second in (
        ("target", base.origin.target, new.origin.target),
        ("board", sorted(base.origin.boards), sorted(new.origin.boards)),
        ("backend", base.origin.backend, new.origin.backend),
        ("runtime", (base.runtime.name, base.runtime.version), (new.runtime.name, new.runtime.version)),
        ("evidence", str(base.source.get(metric)), str(new.source.get(metric))),
    ):
        if first != second:
            raise Inconclusive(
                f"{base.name} and {new.name} differ in {what} ({first} and {second}); "
                "a difference between their rows says nothing about the networks; measure both on one board and runtime"
            )


def _changes(base: LatencyTable, new: LatencyTable, metric: str) -> Iterator[Change]:
    for cell in {**base.row, **new.row}:
        before, after = (_interval(table, cell, metric) for table in (base, new))
        if before is not None or after is not None:
            yield Change(cell=cell, metric=metric, base=before, new=after, verdict=_verdict(before, after))


def _interval(table: LatencyTable, cell: Cell, metric: str) -> Interval | None:
    row = table.row.get(cell)
    found = row.metric(metric) if row is not None else None
    return found[0] if found is not None else None


def _verdict(base: Interval | None, new: Interval | None) -> str:
    if base is None or new is None:
        return "added" if base is None else "missing"
    if base.low is None or base.high is None or new.low is None or new.high is None:
        return "same" if base.value == new.value else "unknown"
    if new.low > base.high:
        return "slower"
    return "faster" if new.high < base.low else "same"
