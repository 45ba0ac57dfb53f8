"""A latency table of a whole space, with invented rows: values grow with a block's work, one composition a unit."""

from __future__ import annotations

from collections.abc import Sequence

from hwbench.composition import Composition, Error, Range
from hwbench.evidence import DECLARED, MEASURED
from hwbench.measurement import Cell, Interval
from hwbench.row import Row
from hwbench.setting import Setting
from hwbench.table import LatencyTable, Origin, RuntimeSection
from models.space import Space

SETTING = Setting(unit="cpu", precision="fp32", threads=1)
SLOW = Setting(unit="cpu", precision="fp32", threads=1, clocks=(("cpu", 600.0),))
FAST = Setting(unit="cpu", precision="fp32", threads=1, clocks=(("cpu", 1500.0),))


def table(space: Space, settings: Sequence[Setting] = (SETTING,), *, energy: bool = True) -> LatencyTable:
    """Every block of the space at every setting; lower clocks are slower and save energy."""
    rows = []
    for setting in settings:
        mhz = next((float(value) for _, value in setting.clocks), 1500.0)
        for block in space.blocks:
            latency_ms = 0.004 + (block.macs / 5e6 + 1e-4) * 1500.0 / mhz
            rows.append(
                Row(
                    cell=Cell(block_key=block.key, setting=setting),
                    kind="block",
                    latency_ms=Interval(value=latency_ms),
                    latency_evidence=MEASURED,
                    energy_mj=Interval(value=0.01 + block.macs / 1e6 * mhz / 1500.0) if energy else None,
                    energy_evidence=DECLARED if energy else None,
                )
            )
    kinds = dict.fromkeys(s.without_clocks for s in settings)
    parts = [("latency_ms", 0.003, 0.9)] + [("energy_mj", 0.005, 0.95)] * energy
    return LatencyTable(
        origin=Origin(target="host", backend="onnxruntime", space=space.name, boards=["b"], created="2026-01-01"),
        runtime=RuntimeSection(name="onnxruntime", version="1.0"),
        row={row.cell: row for row in rows},
        compositions=tuple(
            Composition(
                metric=metric, setting=kind, call=call, scale=scale, fitted_on=12,
                error=Error(mape_percent=1.0, bias_percent=0.0, spearman=1.0, n=12), valid=Range(low=0.01, high=100.0),
            )
            for kind in kinds
            for metric, call, scale in parts
        ),
    )  # fmt: skip
