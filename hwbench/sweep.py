"""A campaign over operating points: some are measured, the others are answered by models fitted on those."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hwbench import clock_rows, fit
from hwbench.clock_rows import mean_error, modes_only
from hwbench.errors import ConfigError
from hwbench.row import METRICS
from hwbench.setting import Setting
from hwbench.table import LatencyTable

logger = logging.getLogger(__name__)

DEFAULT_POINTS = 12  # four coefficients of a latency over two clocks, eight of an energy


def spec(clocks: str | None, sample: int | None) -> str:
    """The operating points to measure, as `Target.settings` takes them; by default a sample that fills the grid.

    clocks: `all`, `sample:N` or points.  sample: so many of the grid.  Raises ConfigError where they contradict.
    """
    if clocks == "found":
        raise ConfigError("a sweep goes over operating points; for clocks as found: hwbench profile")
    if sample is None:
        return clocks or f"sample:{DEFAULT_POINTS}"
    if clocks not in (None, "all"):
        raise ConfigError(f"--clocks {clocks} names the points itself; leave --sample out")
    return f"sample:{sample}"


def joined(table: LatencyTable, stem: Path, *, tell: Callable[[str], None] = logger.info) -> LatencyTable:
    """The table with the rows of one that is there already, as far as it is of the same board and runtime.

    Models are fitted anew on all rows. Where the two do not go together the new one replaces the old; `tell` says so.
    """
    together = _merged(stem, table, tell, lambda there: there)
    if together is table:
        return table
    together = replace(together, clock_models=clock_rows.fit(together.row))
    return replace(together, between=fit.between(together))


def with_points(table: LatencyTable, stem: Path, *, tell: Callable[[str], None] = logger.info) -> LatencyTable:
    """A profile's table with what sweeps left in the one that is there: rows and models of operating points."""
    return _merged(stem, table, tell, _only_points)


def _only_points(there: LatencyTable) -> LatencyTable | None:
    if not any(setting.clocks for setting in there.settings):
        return None
    return replace(
        there,
        row={cell: row for cell, row in there.row.items() if cell.setting.clocks},
        compositions=tuple(c for c in there.compositions if c.setting.clocks),
    )


def _merged(
    stem: Path,
    table: LatencyTable,
    tell: Callable[[str], None],
    kept: Callable[[LatencyTable], LatencyTable | None],
) -> LatencyTable:
    """The table over what is `kept` of one that is there; itself where there is none, or where they do not merge."""
    if not stem.with_name(f"{stem.name}.csv").is_file():
        return table
    try:
        there = kept(LatencyTable.read(stem))
        return table if there is None else there.merge(table)
    except ConfigError as error:
        # Never an error: what was measured just now must not be lost over a file that was there.
        tell(f"the table that was there is replaced: {error}")
        return table


def lines(table: LatencyTable) -> list[str]:
    """What a sweep found, for a terminal: how well points in between are predicted, how long clocks take to switch."""
    points = len({setting.clocks for setting in table.settings if setting.clocks})
    found = [f"{len(table.row)} rows, {points} operating points"]
    for metric in METRICS:
        error = mean_error(table.clock_models, metric)
        number = sum(of == metric for of, _ in table.clock_models)
        if number:
            told = "no point lies between others" if math.isnan(error) else f"{error:.2f} % on points left out"
            found.append(f"{metric} between clocks: {told} (mean of {number} blocks and networks)")
    if not points:
        found.append("no clock has a grid here: all was measured with clocks as found")
    elif not table.clock_models:
        found.append(
            f"no models between operating points: {points} are too few; with a larger grid, ask for more --sample"
        )
    for between in table.between:
        found.append(
            f"{between.metric} [{between.setting}] of whole networks at points left out: "
            f"mape {between.mape_percent:.2f} %, bias {between.bias_percent:+.2f} %, n {between.n}"
        )
    found += [f"clock {clock.name} switches in {clock.switch_ms:.1f} ms" for clock in table.clocks]
    return [*found, *_cheapest(table)]


def as_json(table: LatencyTable) -> dict[str, Any]:
    """The same as figures."""
    errors = {metric: mean_error(table.clock_models, metric) for metric in METRICS}
    return {
        "models": len(table.clock_models),
        "left_out_mape": {metric: error for metric, error in errors.items() if not math.isnan(error)},
        "between": [between.model_dump() for between in table.between],
        "switch_ms": {clock.name: clock.switch_ms for clock in table.clocks},
    }


def _cheapest(table: LatencyTable) -> list[str]:
    """The measured point with the least energy over all blocks, beside the fastest, of each way to run."""
    found = []
    blocks = {row.cell.block_key for row in table.row.values() if row.kind == "block"}
    bases: dict[Setting, list[Setting]] = {}
    for setting in table.settings:
        if setting.clocks:
            bases.setdefault(modes_only(setting), []).append(setting)
    for settings in bases.values():
        try:
            energy = table.rows("energy_mj", sorted(blocks), settings)[0].sum(axis=1)
            latency = table.rows("latency_ms", sorted(blocks), settings)[0].sum(axis=1)
        except ConfigError:
            continue  # a block without a row or without energy: the sums would not compare
        least, fastest = int(np.argmin(energy)), int(np.argmin(latency))
        found.append(
            f"{settings[least].without_clocks}: least energy at {settings[least].clocks_text}, "
            f"{100 * (1 - energy[least] / energy[fastest]):.0f} % less than at the fastest, "
            f"{settings[fastest].clocks_text}, for {latency[least] / latency[fastest]:.2f} x its time (sums of blocks)"
        )
    return found
