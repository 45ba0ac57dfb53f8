"""What a gate found, as a line, as JSON and as Markdown for a pull request."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any

from hwbench.gate_rule import Effect, Rule
from hwbench.table import LatencyTable

FAILS = ("regression", "missing", "renamed")
_MOST_ROWS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRow:
    """One row of both arms.

    verdict: `ok`, `regression`, `improvement`, `missing`, `renamed`, `added` or `inconclusive`.
    base, new: in the metric's unit; None where an arm has none.
    low, high: 95 % interval of new / base; None = unknown.
    sessions: behind the interval.  new_sessions: NEW's value in each, where it was measured.
    note: why, where numbers do not say it.
    """

    block_key: str
    setting: str
    verdict: str
    base: float | None = None
    new: float | None = None
    low: float | None = None
    high: float | None = None
    sessions: int = 0
    new_sessions: tuple[float, ...] = ()
    note: str = ""

    def judged(self, verdict: str, effect: Effect) -> GateRow:
        """This row with what its effect says."""
        low, high = effect.interval()
        return replace(self, verdict=verdict, low=low, high=high, sessions=effect.sessions)

    @property
    def ratio(self) -> float | None:
        """New over base; the middle of its interval where there is one."""
        if self.low is not None and self.high is not None:
            return math.sqrt(self.low * self.high)
        return None if self.base is None or self.new is None else self.new / self.base

    @property
    def change(self) -> str:
        """`+3.1 % [+2.2, +4.0]`; empty for unknown."""
        if self.ratio is None:
            return ""
        bounds = "" if self.low is None or self.high is None else f" [{_percent(self.low)}, {_percent(self.high)}]"
        return f"{_percent(self.ratio)} %{bounds}"

    @property
    def line(self) -> str:
        """One line, as a failing test shows it."""
        setting = f" [{self.setting}]" if self.setting else ""
        parts = [f"{self.verdict}: {self.block_key}{setting}", self.change, self.note]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePlace:
    """Where a gate measured: the target's name, model and serial of the board as tables have them, and the runtime."""

    target: str
    board: str
    runtime: str

    @classmethod
    def of(cls, table: LatencyTable) -> GatePlace:
        """Where a table was measured."""
        runtime = f"{table.runtime.name} {table.runtime.version}"
        return cls(target=table.origin.target, board=", ".join(table.origin.boards), runtime=runtime)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """All rows and what they come to.

    base, new: as the user named them.  how: what was compared.  reason: why nothing could be; empty otherwise.
    place: where it was measured for this; None = nothing was.
    rows: what asks for attention first.
    """

    base: str
    new: str
    metric: str
    rule: Rule
    how: str
    rows: tuple[GateRow, ...]
    reason: str = ""
    place: GatePlace | None = None

    @property
    def verdict(self) -> str:
        """`ok`, `regression` (also for missing and renamed rows) or `inconclusive`."""
        found = {row.verdict for row in self.rows}
        if found & set(FAILS):
            return "regression"
        # Nothing compared is nothing excluded.
        return "inconclusive" if self.reason or "inconclusive" in found or not found - {"added"} else "ok"

    @property
    def line(self) -> str:
        """`regression: 1 regression, 39 ok of 40 rows; worst: …`."""
        if self.reason:
            return f"{self.verdict}: {self.reason}"
        counts = Counter(row.verdict for row in self.rows)
        told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        total = "1 row" if len(self.rows) == 1 else f"{len(self.rows)} rows"
        worst = f"; first: {self.rows[0].line}" if self.verdict != "ok" and self.rows else ""
        unsure = self.verdict == "inconclusive" and self.rows and not self.rows[0].note
        advice = "; the interval is too wide: quieten the machine or measure more sessions" if unsure else ""
        return f"{self.verdict}: {told or 'nothing to compare'} of {total}{worst}{advice}"

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "verdict": self.verdict,
            "line": self.line,
            "base": self.base,
            "new": self.new,
            "metric": self.metric,
            "how": self.how,
            "place": None if self.place is None else asdict(self.place),
            "rule": asdict(self.rule),
            "rows": [asdict(row) | {"ratio": row.ratio} for row in self.rows],
        }

    def markdown(self) -> str:
        """A summary for a pull request: the verdict, then every row that is not simply ok."""
        mark = {"ok": "✅", "regression": "❌", "inconclusive": "⚠️"}[self.verdict]
        lines = [f"### {mark} hwbench gate: {_cell(self.line)}", ""]
        told = [row for row in self.rows if row.verdict != "ok"]
        if told:
            unit = self.metric.rpartition("_")[2].replace("mj", "mJ")
            lines += [
                f"| verdict | block | setting | base {unit} | new {unit} | change [95 %] | sessions | |",
                "| --- | --- | --- | ---: | ---: | ---: | ---: | --- |",
            ]
            lines += [_markdown_row(row) for row in told[:_MOST_ROWS]]
            if len(told) > _MOST_ROWS:
                lines.append(f"\n… and {len(told) - _MOST_ROWS} more")
            lines.append("")
        rule = self.rule
        lines += [
            f"`{_cell(self.base)}` → `{_cell(self.new)}`, {self.how or 'not compared'}.",
            f"A regression is a slowdown shown to exceed {100 * rule.threshold:g} % (false discovery rate "
            f"{100 * rule.rate:g} % over rows); ok excludes one of {100 * rule.max_slowdown:g} %.",
        ]
        return "\n".join(lines) + "\n"


def _markdown_row(row: GateRow) -> str:
    cells = (
        row.verdict,
        f"`{_cell(row.block_key)}`",
        _cell(row.setting),
        _number(row.base),
        _number(row.new),
        row.change,
        str(row.sessions or ""),
        _cell(row.note),
    )
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    """Text that ends neither a table's cell nor a code span, and starts no tag."""
    for sign, harmless in (("|", "\\|"), ("`", "'"), ("<", "&lt;"), ("\n", " ")):
        text = text.replace(sign, harmless)
    return text


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f}"
