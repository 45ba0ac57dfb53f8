"""From windows to a table: rows as measured, compositions only where whole networks tell them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwbench.composition import Composition
from hwbench.errors import ConfigError
from hwbench.fit import compositions, samples, tabulate
from hwbench.measurement import Cell, Window
from hwbench.setting import Setting
from hwbench.summary import summarise
from hwbench.table import LatencyTable, Origin, RuntimeSection
from hwbench.workload import Bundle, Tensor, Workload

SETTING = Setting(unit="cpu", precision="fp32", threads=1)
CALL_MS, SCALE, LAYOUT_MS = 0.002, 1.1, 5e-7


def described(key: str, kind: str, returns: int, parts: tuple[tuple[str, int], ...] = ()) -> Workload:
    """A workload without a file."""
    return Workload(
        block_key=key,
        kind=kind,  # type: ignore[arg-type]
        inputs=(Tensor(name="x", dtype="float32", shape=(1, 8)),),
        outputs=(Tensor(name="y", dtype="float32", shape=(1, returns)),),
        parts=parts,
    )


def network_ms(parts: tuple[tuple[str, int], ...], rows: Mapping[str, float], returns: Mapping[str, int]) -> float:
    """What the law says of a network that returns 10 numbers."""
    inside = sum(n * (rows[p] - CALL_MS) for p, n in parts)
    return CALL_MS + SCALE * inside + LAYOUT_MS * (10 - sum(n * returns[p] for p, n in parts))


def made(networks: int, root: Path) -> tuple[Bundle, dict[str, float]]:
    """Twelve blocks and some networks of them, with values that keep the law exactly."""
    rng = np.random.default_rng(0)
    rows = {f"block-{i}": float(rng.uniform(0.02, 0.2)) for i in range(12)}
    returns = {key: int(rng.integers(100, 20000)) for key in rows}
    workloads = [described(key, "block", returns[key]) for key in rows]
    values = dict(rows)
    for i in range(networks):
        chosen = rng.choice(sorted(rows), size=int(rng.integers(3, 9)), replace=False)
        parts = tuple((str(key), int(rng.integers(1, 4))) for key in chosen)
        workloads.append(described(f"network-{i}", "network", 10, parts))
        values[f"network-{i}"] = network_ms(parts, rows, returns)
    return Bundle(root=root, space="made", workloads=tuple(workloads)), values


def table_of(bundle: Bundle, values: Mapping[str, float]) -> LatencyTable:
    """Three sessions of ten equal runs each."""

    def window(key: str, session: int) -> Window:
        return Window(
            cell=Cell(block_key=key, setting=SETTING),
            session=session,
            order=0,
            warmup_ns=np.zeros(0, dtype=np.int64),
            start_ns=np.arange(10, dtype=np.int64),
            run_ns=np.full(10, round(values[key] * 1e6), dtype=np.int64),
        )

    measured = [
        summarise(w, [window(w.block_key, s) for s in range(3)], None)
        for w in bundle.workloads
        if w.block_key in values
    ]
    return tabulate(
        measured,
        bundle,
        origin=Origin(target="host", backend="onnxruntime", space="made", boards=["b"], created="2026-01-01"),
        runtime=RuntimeSection(name="onnxruntime", version="1"),
    )


def test_rows_hold_what_was_measured_and_how_often(tmp_path: Path) -> None:
    bundle, values = made(3, tmp_path)
    table = table_of(bundle, values)
    row = table.row[Cell(block_key="block-3", setting=SETTING)]
    assert row.latency_ms.value == pytest.approx(values["block-3"], abs=1e-6)
    assert ("block", 30, 3) == (row.kind, row.runs, row.sessions)
    assert dict(bundle.workload("network-1").parts) == dict(table.parts["network-1"])


def test_the_law_is_recovered_from_networks(tmp_path: Path) -> None:
    """Call, scale and returned elements; the left-out error is rounding to nanoseconds."""
    table = table_of(*made(20, tmp_path))
    (found,) = table.compositions
    assert found.call == pytest.approx(CALL_MS, rel=0.05)
    assert found.scale == pytest.approx(SCALE, rel=1e-3)
    assert found.layout == pytest.approx(LAYOUT_MS, rel=1e-2)
    assert found.error.mape_percent < 0.05
    assert found.fitted_on == found.error.n == 20


def test_unseen_networks_are_predicted_by_the_table_as_by_the_samples(tmp_path: Path) -> None:
    """One law behind `predict` and behind the samples that a validation compares."""
    bundle, values = made(30, tmp_path)
    seen = {k: v for k, v in values.items() if not k.startswith("network-2")}
    table = table_of(bundle, seen)
    unseen = {w.block_key: w.parts for w in bundle.workloads if w.block_key in values and w.block_key not in seen}
    assert unseen and not set(unseen) & set(table.parts)
    for key, parts in unseen.items():
        predicted = table.predict("latency_ms", parts, SETTING, returns=table.returned[key])
        assert predicted == pytest.approx(values[key], rel=2e-3)
    whole = table_of(bundle, values)
    found = samples(whole.row, unseen, whole.returned, "latency_ms", SETTING)
    np.testing.assert_allclose(found.predict(table.compositions[0]), found.measured, rtol=2e-3)


def test_too_few_networks_give_rows_and_no_composition(tmp_path: Path) -> None:
    table = table_of(*made(3, tmp_path))
    assert () == table.compositions
    with pytest.raises(ConfigError, match="no composition for latency_ms"):
        table.predict("latency_ms", [("block-1", 1)], SETTING)


def test_a_network_with_an_unmeasured_part_is_no_sample(tmp_path: Path) -> None:
    """Nothing unknown is added as 0."""
    bundle, values = made(10, tmp_path)
    lost = bundle.workload("network-4").parts[0][0]
    whole, holed = table_of(bundle, values), table_of(bundle, {k: v for k, v in values.items() if k != lost})
    without = [k for k, parts in whole.parts.items() if lost not in dict(parts)]
    assert 10 > len(without)
    assert len(without) == len(samples(holed.row, holed.parts, holed.returned, "latency_ms", SETTING).measured)


def test_tables_that_do_not_say_what_graphs_return_are_fitted_without(tmp_path: Path) -> None:
    """Such a table composes by call and scale alone, and does not follow a composition that needs more."""
    table = table_of(*made(20, tmp_path))
    (plain,) = compositions(table.row, table.parts, {}, weights={})
    assert 0.0 == plain.layout
    assert plain.error.mape_percent > table.compositions[0].error.mape_percent
    unknown = samples(table.row, table.parts, {}, "latency_ms", SETTING)
    assert unknown.elements is None
    needing: Composition = replace(plain, layout=1e-6)
    with pytest.raises(ConfigError, match="does not say what its graphs return"):
        unknown.predict(needing)
