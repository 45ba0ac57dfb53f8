"""Clock models of a table: their file, and what they say where there are no rows."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwbench import clock_rows
from hwbench.clock_model import ClockModel, coefficients
from hwbench.errors import ConfigError
from hwbench.measurement import Cell
from hwbench.setting import Setting
from hwbench.table import LatencyTable
from tests.doubles.swept import BLOCKS, GRID, MEASURED_AT, PLAIN, at, energy_mj, latency_ms, swept

UNSEEN = [point for point in GRID if point not in MEASURED_AT]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> LatencyTable:
    return swept(tmp_path_factory.mktemp("swept"))


def test_each_block_and_network_has_a_model_of_each_metric(table: LatencyTable) -> None:
    """Fitted on all measured points, with an error on points left out."""
    assert len(table.clock_models) == 2 * (len(BLOCKS) + 10)
    assert {m.points for m in table.clock_models.values()} == {len(MEASURED_AT)}
    assert clock_rows.mean_error(table.clock_models, "latency_ms") < 1
    assert clock_rows.mean_error(table.clock_models, "energy_mj") < 2
    assert math.isnan(clock_rows.mean_error({}, "latency_ms"))


def test_points_without_rows_are_answered(table: LatencyTable) -> None:
    """Latency within 2 % and energy within 3 % of the truth at points that were never measured."""
    settings = [at(point) for point in UNSEEN]
    ms = np.array([[latency_ms(key, point) for key in BLOCKS] for point in UNSEEN])
    mj = np.array([[energy_mj(latency_ms(key, point), point) for key in BLOCKS] for point in UNSEEN])
    latency = clock_rows.answer(table.clock_models, "latency_ms", BLOCKS, settings)
    energy = clock_rows.answer(table.clock_models, "energy_mj", BLOCKS, settings)
    assert np.abs(latency / ms - 1).max() < 0.02
    assert np.abs(energy / mj - 1).max() < 0.03


def test_nothing_is_said_of_other_blocks_settings_and_clocks(table: LatencyTable) -> None:
    """NaN is the answer where nothing is known."""
    beyond = at((("emc", 1600.0), ("gpu", 2000.0)))
    settings = [at(UNSEEN[0]), beyond, PLAIN, Setting(unit="cpu", precision="fp16", clocks=UNSEEN[0])]
    found = clock_rows.answer(table.clock_models, "latency_ms", [BLOCKS[0], "none"], settings)
    assert np.isfinite(found).tolist() == [[True, False], [False, False], [False, False], [False, False]]


def test_each_power_mode_has_models_of_its_own(table: LatencyTable) -> None:
    """The same block in two modes is two models, and a third mode none."""
    rows = {}
    for mode, slower in (("15W", 1.5), ("MAXN", 1.0)):
        for cell, row in table.row.items():
            setting = replace(cell.setting, clocks=(*cell.setting.clocks, ("mode", mode)))
            moved = Cell(block_key=cell.block_key, setting=setting)
            interval = replace(row.latency_ms, value=slower * row.latency_ms.value)
            rows[moved] = replace(row, cell=moved, latency_ms=interval)
    models = clock_rows.fit(rows, metrics=("latency_ms",))
    asked = [at((*UNSEEN[0], ("mode", mode))) for mode in ("15W", "MAXN", "30W")]
    slow, fast, none = clock_rows.answer(models, "latency_ms", [BLOCKS[3]], asked)[:, 0]
    assert slow == pytest.approx(1.5 * fast)
    assert math.isnan(none)
    assert clock_rows.read("x.clocks.csv", clock_rows.write(models)) == models


def test_energy_unknown_at_some_points_is_modelled_from_the_others(table: LatencyTable) -> None:
    """A window too short for the meter leaves a hole, no guess and no refusal."""
    gone = Cell(block_key=BLOCKS[0], setting=at(MEASURED_AT[6]))
    rows = {c: replace(r, energy_mj=None, energy_evidence=None) if c == gone else r for c, r in table.row.items()}
    models = clock_rows.fit(rows)
    assert models["energy_mj", Cell(block_key=BLOCKS[0], setting=PLAIN)].points == len(MEASURED_AT) - 1
    assert models["latency_ms", Cell(block_key=BLOCKS[0], setting=PLAIN)].points == len(MEASURED_AT)


def test_the_file_says_what_the_models_say(table: LatencyTable) -> None:
    """Written, read and written again without a difference: coefficients are rounded when they are fitted."""
    text = clock_rows.write(table.clock_models)
    read = clock_rows.read("x.clocks.csv", text)
    assert clock_rows.write(read) == text
    assert read == dict(table.clock_models)


numbers = st.floats(1e-6, 1e6).map(lambda x: float(f"{x:.6g}"))


@st.composite
def _models(draw: st.DrawFn) -> tuple[tuple[str, Cell], ClockModel]:
    metric = draw(st.sampled_from(["latency_ms", "energy_mj"]))
    names = draw(st.lists(st.sampled_from(["cpu.big", "emc", "gpu", "low.x"]), min_size=1, max_size=3, unique=True))
    lows = {name: draw(numbers) for name in sorted(names)}
    valid = {name: (low, float(f"{low * draw(st.sampled_from([1.0, 2.0])):.6g}")) for name, low in lows.items()}
    moving = sorted(name for name, (low, high) in valid.items() if low < high)
    fixed = draw(st.dictionaries(st.just("mode"), st.sampled_from(["MAXN", "MODE_15W"])))
    model = ClockModel(
        metric=metric,
        params={name: draw(numbers) for name in coefficients(metric, moving)},
        valid=valid,
        fixed=fixed,
        points=draw(st.integers(1, 99)),
        mape_percent=draw(numbers),
    )
    setting = Setting(unit="gpu", precision="fp16", threads=draw(st.none() | st.just(4)), clocks=tuple(fixed.items()))
    return (metric, Cell(block_key=draw(st.text("ab-=;,\"'", min_size=1)), setting=setting)), model


@given(st.lists(_models(), max_size=5))
def test_any_models_survive_their_file(pairs: list[tuple[tuple[str, Cell], ClockModel]]) -> None:
    """Whatever clocks, modes and keys there are."""
    models = dict(pairs)
    assert clock_rows.read("x.clocks.csv", clock_rows.write(models)) == models


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("block_key,unit", "block,unit", "first line must name the columns"),
        (",blend,", ",line,", "no form 'line'"),
        ("a.emc=", "a.dla=", "params of latency_ms must be a.emc, a.gpu, c, p"),
        ("low.gpu=120", "low.gpu=1400", "low. and high. of each clock"),
        (";high.gpu=1300", "", "low. and high. of each clock"),
        (";p=", ";p=-", "finite number"),
        (";p=", ";p=x", "could not convert"),
        (";p=", ";c=1;p=", "not a new NAME=VALUE"),
    ],
)
def test_a_damaged_file_is_refused_and_its_line_named(table: LatencyTable, old: str, new: str, message: str) -> None:
    """What does not fit the form is an error, never a model that answers something else."""
    text = clock_rows.write({k: m for k, m in table.clock_models.items() if k[0] == "latency_ms"})
    assert old in text
    with pytest.raises(ConfigError, match=message) as error:
        clock_rows.read("x.clocks.csv", text.replace(old, new, 1))
    assert "x.clocks.csv" in str(error.value)


def test_one_model_twice_or_a_cut_line_is_refused(table: LatencyTable) -> None:
    """A file that was appended to or cut is no table."""
    lines = clock_rows.write(table.clock_models).splitlines(keepends=True)
    with pytest.raises(ConfigError, match="twice"):
        clock_rows.read("x", "".join([*lines, lines[-1]]))
    with pytest.raises(ConfigError, match="columns, expected"):
        clock_rows.read("x", "".join(lines)[:-20].rpartition(",")[0])


def test_a_table_keeps_its_models(table: LatencyTable, tmp_path: Path) -> None:
    """Written beside the rows, hashed with them, merged, and removed with them."""
    stem = tmp_path / "tensorrt-swept"
    table.write(stem)
    read = LatencyTable.read(stem)
    assert read.sha256 == table.sha256
    assert read.clock_models == dict(table.clock_models)
    assert read.between == table.between
    plain = replace(table, clock_models={}, between=())
    assert plain.sha256 != table.sha256
    assert plain.merge(table).clock_models == dict(table.clock_models)
    assert table.merge(plain).clock_models == dict(table.clock_models)
    plain.write(stem)
    assert not stem.with_name("tensorrt-swept.clocks.csv").exists()
    assert LatencyTable.read(stem).clock_models == {}
