"""A table keeps what it was given, refuses what is no number, and never adds what is not there."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwbench.composition import fit
from hwbench.errors import ConfigError, EvidenceError, MissingRows
from hwbench.evidence import DECLARED, MEASURED, Evidence
from hwbench.measurement import Cell, Interval
from hwbench.row import COLUMNS, Row, read_rows, write_rows
from hwbench.setting import Setting
from hwbench.table import LatencyTable, Origin, RuntimeSection

SETTING = Setting(unit="cpu", precision="fp32", threads=1)
COMPOSITION = fit(
    "latency_ms", SETTING, sums=[1, 2, 3, 4], counts=[3, 4, 6, 7], measured=[0.9, 1.8, 2.8, 3.6], smallest_row=0.1
)


def row(key: str, latency_ms: float, *, evidence: Evidence = MEASURED, setting: Setting = SETTING) -> Row:
    return Row(
        cell=Cell(block_key=key, setting=setting),
        kind="block",
        latency_ms=Interval(value=latency_ms, low=latency_ms * 0.99, high=latency_ms * 1.01),
        latency_evidence=evidence,
        energy_mj=Interval(value=latency_ms * 3),
        energy_evidence=DECLARED,
        runs=50,
        sessions=3,
    )


def table(*rows: Row, space: str = "digits", version: str = "1.31") -> LatencyTable:
    return LatencyTable(
        origin=Origin(target="host", backend="onnxruntime", space=space, boards=["b1"], created="2026-01-01"),
        runtime=RuntimeSection(name="onnxruntime", version=version),
        row={r.cell: r for r in rows},
        parts={"net-1": (("a", 2), ("b", 1))},
        returned={"a": 64, "b": 10},
        compositions=(COMPOSITION,),
    )


positive = st.floats(1e-6, 1e6).map(lambda x: float(f"{x:.6g}"))
names = st.text(st.characters(categories=("L", "N"), include_characters="-_=.;"), min_size=1, max_size=20)
settings = st.builds(
    Setting,
    unit=st.sampled_from(["cpu", "cpu.big", "gpu"]),
    precision=st.sampled_from(["fp32", "int8"]),
    batch=st.integers(1, 64),
    threads=st.none() | st.integers(1, 8),
    clocks=st.lists(st.sampled_from(["gpu", "emc", "cpu"]), unique=True).flatmap(
        lambda ns: st.tuples(
            *[st.tuples(st.just(n), st.floats(1, 4000).map(lambda v: round(v, 1))) for n in sorted(ns)]
        )
    ),
)
rows = st.builds(
    Row,
    cell=st.builds(Cell, block_key=names, setting=settings),
    kind=st.sampled_from(["block", "segment", "network"]),
    latency_ms=st.builds(Interval, value=positive, low=st.none() | positive, high=st.none() | positive),
    latency_evidence=st.just(MEASURED),
    energy_mj=st.builds(Interval, value=positive),
    energy_evidence=st.just(DECLARED),
    peak_memory_mb=st.none() | positive,
    runs=st.integers(0, 10**6),
    sessions=st.integers(0, 100),
    flags=st.lists(st.sampled_from(["unsteady", "throttled"]), unique=True).map(tuple),
)


@given(st.lists(rows, unique_by=lambda r: r.cell, max_size=8))
def test_rows_read_back_as_they_were_written(written: list[Row]) -> None:
    """Every row survives its CSV: keys with any letter, absent values, operating points."""
    assert read_rows("t.csv", write_rows(written)) == {r.cell: r for r in written}


@given(st.data())
def test_a_csv_cut_anywhere_inside_a_line_is_refused_or_holds_whole_rows_only(data: st.DataObject) -> None:
    """A truncated file never yields a row that was not written."""
    text = write_rows([row("a", 1.25), row("b", 2.5)])
    cut = data.draw(st.integers(0, len(text) - 1))
    try:
        found = read_rows("t.csv", text[:cut])
    except ConfigError:
        return
    whole = read_rows("t.csv", text)
    assert all(found[cell].latency_ms == whole[cell].latency_ms for cell in found)


def test_a_table_reads_back_and_keeps_its_hash(tmp_path: Path) -> None:
    """Rows, parts, composition and origin survive the three files."""
    written = table(row("a", 1.0), row("b", 2.0))
    written.write(tmp_path / "onnxruntime-digits")
    found = LatencyTable.read(tmp_path / "onnxruntime-digits.csv")
    assert found == written
    assert found.sha256 == written.sha256


def test_rows_come_as_points_by_keys_with_their_evidence() -> None:
    """(P, K) in the order asked, measured because nothing was composed."""
    values, evidence = table(row("a", 1.0), row("b", 2.0)).rows("latency_ms", ["b", "a", "b"], [SETTING])
    np.testing.assert_array_equal(values, [[2.0, 1.0, 2.0]])
    assert str(evidence) == "measured"


def test_a_missing_row_is_an_error_that_names_ten_and_the_command() -> None:
    """Nothing unknown is ever added as 0."""
    with pytest.raises(MissingRows, match="hwbench profile --target host") as caught:
        table(row("a", 1.0)).rows("latency_ms", [f"missing{i}" for i in range(13)], [SETTING])
    assert len(caught.value.keys) == 13
    assert str(caught.value).count("missing") == 10
    assert "and 3 more" in str(caught.value)


def test_a_returned_element_that_costs_must_be_known() -> None:
    """A composition that charges for them does not take unknown elements as none."""
    charging = replace(table(row("a", 1.0), row("b", 2.0)), compositions=(replace(COMPOSITION, layout=0.001),))
    saved = charging.predict("latency_ms", [("a", 2), ("b", 1)], SETTING)
    plain = replace(charging, compositions=(COMPOSITION,)).predict("latency_ms", [("a", 2), ("b", 1)], SETTING)
    assert saved == pytest.approx(plain - 0.001 * (2 * 64 + 10))
    with pytest.raises(ConfigError, match="does not say what b returns"):
        replace(charging, returned={"a": 64}).predict("latency_ms", [("a", 2), ("b", 1)], SETTING)


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1.2ms"])
def test_a_latency_that_is_no_number_is_refused_with_its_line(value: str) -> None:
    """HW-NAS-Bench's -1 and a silent 0 are not latencies."""
    cells = dict.fromkeys(COLUMNS, "") | {
        "block_key": "a", "kind": "block", "unit": "cpu", "precision": "fp32", "batch": "1",
        "latency_ms": value, "latency_evidence": "measured", "runs": "1", "sessions": "1",
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"t\.csv:2"):
        read_rows("t.csv", ",".join(COLUMNS) + "\n" + ",".join(cells.values()) + "\n")


def test_one_metric_has_one_source() -> None:
    """Measured and simulated latencies do not stand in one table."""
    with pytest.raises(EvidenceError, match="mixes"):
        table(row("a", 1.0), row("b", 1.0, evidence=Evidence(source="simulated")))


@pytest.mark.parametrize("other", [{"space": "sdu"}, {"version": "1.0"}])
def test_tables_of_other_spaces_or_runtimes_do_not_merge(other: dict[str, str]) -> None:
    """What was measured differently is not one table."""
    with pytest.raises(ConfigError, match="do not merge"):
        table(row("a", 1.0)).merge(table(row("b", 1.0), **other))


def test_a_merge_keeps_both_and_prefers_the_newer() -> None:
    """Rows measured again replace the old ones, the rest stays."""
    merged = table(row("a", 1.0), row("b", 2.0)).merge(table(row("b", 3.0)))
    values, _ = merged.rows("latency_ms", ["a", "b"], [SETTING])
    np.testing.assert_array_equal(values, [[1.0, 3.0]])


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (".toml", "[table", "not valid TOML"),
        (".toml", "[table]\nschema = 9\n", "schema 9"),
        (".csv", "", "first line"),
        (".parts.csv", "block_key,part_key,count\na,b,x\n", ":2:"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, suffix: str, content: str, message: str) -> None:
    """Each of the three files says which it is and what is wrong."""
    table(row("a", 1.0)).write(tmp_path / "t")
    (tmp_path / f"t{suffix}").write_text(content)
    with pytest.raises(ConfigError, match=message):
        LatencyTable.read(tmp_path / "t")
