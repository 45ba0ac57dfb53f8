"""Networks at operating points where none was measured."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwbench import clock_rows
from hwbench.composition import Composition, Error, Range
from hwbench.errors import ConfigError, MissingRows
from hwbench.evidence import Evidence
from hwbench.measurement import Cell, Interval
from hwbench.setting import Clocks, Setting
from hwbench.table import LatencyTable, Origin, RuntimeSection
from tests.doubles.swept import BLOCKS, GRID, MEASURED_AT, PLAIN, at, call_ms, energy_mj, latency_ms, networks, swept

UNSEEN = [point for point in GRID if point not in MEASURED_AT]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> LatencyTable:
    return swept(tmp_path_factory.mktemp("swept"))


def _composition(clocks: Clocks, call: float, scale: float, factor: dict[str, float] | None = None) -> Composition:
    return Composition(
        metric="latency_ms",
        setting=at(clocks),
        call=call,
        scale=scale,
        factor=factor or {},
        error=Error(mape_percent=1, bias_percent=0, spearman=1, n=9),
        valid=Range(low=1, high=2),
        fitted_on=9,
    )


def test_networks_are_predicted_where_nothing_was_measured(table: LatencyTable) -> None:
    """Blocks and the composition from clock models: within 2 % each, energies within 4 %."""
    for point in UNSEEN:
        for key, parts in networks(10).items():
            truth = latency_ms(key, point, parts)
            assert table.predict("latency_ms", parts, at(point), returns=10) == pytest.approx(truth, rel=0.02)
            energy = table.predict("energy_mj", parts, at(point), returns=10)
            assert energy == pytest.approx(energy_mj(truth, point), rel=0.04)


def test_its_error_is_that_on_points_left_out(table: LatencyTable) -> None:
    """What the table says of unmeasured points is near what they really are."""
    told = table.composition("latency_ms", at(UNSEEN[0])).error
    off = [
        abs(table.predict("latency_ms", parts, at(point), returns=10) / latency_ms(key, point, parts) - 1)
        for point in UNSEEN
        for key, parts in networks(10).items()
    ]
    assert told == next(b.error for b in table.between if b.metric == "latency_ms")
    assert told.n == 10 * len(MEASURED_AT)
    assert 0.3 < told.mape_percent / (100 * float(np.mean(off))) < 3


def test_an_error_that_nothing_tells_is_unknown(tmp_path: Path) -> None:
    """Half of four networks are too few to fit on, so none judge; what lies between is still answered."""
    few = swept(tmp_path, count=4, energy=False)
    assert few.between == ()
    found = few.composition("latency_ms", at(UNSEEN[0]))
    assert found.call == pytest.approx(call_ms(UNSEEN[0]), rel=0.2)
    assert math.isnan(found.error.mape_percent)


def test_a_measured_point_has_the_composition_of_its_own_networks(table: LatencyTable) -> None:
    """Nothing is averaged where something was measured."""
    for point in MEASURED_AT:
        found = table.composition("latency_ms", at(point))
        assert found.setting == at(point)
        assert found in table.compositions


def test_evidence_of_a_predicted_point_is_derived(table: LatencyTable) -> None:
    """Measured rows are measured; as soon as one is predicted, all that is made with it is."""
    _, seen = table.rows("latency_ms", BLOCKS, [at(MEASURED_AT[0])])
    _, mixed = table.rows("latency_ms", BLOCKS, [at(MEASURED_AT[0]), at(UNSEEN[0])])
    assert seen == Evidence(source="measured")
    assert mixed == Evidence(source="measured", derived=True)


def test_beyond_the_measured_clocks_rows_are_missing(table: LatencyTable) -> None:
    """The way out is a sweep, not a profile."""
    beyond = at((("emc", 1600.0), ("gpu", 2000.0)))
    with pytest.raises(MissingRows, match="hwbench sweep --target made --backend tensorrt --space swept --clocks all"):
        table.rows("latency_ms", BLOCKS, [at(UNSEEN[0]), beyond])


def test_it_has_the_form_of_the_measured_points(table: LatencyTable) -> None:
    """The call there is the board's, though no network was measured; asked again, it is the same object."""
    found = table.composition("latency_ms", at(UNSEEN[1]))
    assert found.call == pytest.approx(call_ms(UNSEEN[1]), rel=0.1)
    assert (found.setting, found.alone) == (at(UNSEEN[1]), table.compositions[0].alone)
    assert table.composition("latency_ms", at(UNSEEN[1])) is found


def test_networks_that_were_measured_at_too_few_points_tell_nothing_between(table: LatencyTable) -> None:
    """Blocks may have models where networks have none: then their rows cannot be added up there."""
    blocks = {c: r for c, r in table.row.items() if r.kind == "block" or c.setting == at(MEASURED_AT[0])}
    few = replace(table, row=blocks, clock_models=clock_rows.fit(blocks), compositions=table.compositions[:1])
    assert few.rows("latency_ms", BLOCKS, [at(UNSEEN[0])])[0].shape == (1, len(BLOCKS))
    with pytest.raises(ConfigError, match=r"too few networks with models that reach there; run: hwbench sweep"):
        few.composition("latency_ms", at(UNSEEN[0]))


def test_a_composition_at_clocks_as_found_serves_all_points() -> None:
    """Where no networks were measured at any point, scale and factors of clocks as found carry over."""
    plain = _composition((), 1.0, 1.1, {"a": 0.9})
    found = _table(plain).composition("latency_ms", at((("gpu", 200.0),)))
    assert (found.call, found.scale, found.factor) == (1.0, 1.1, {"a": 0.9})
    assert math.isnan(found.error.mape_percent)
    with pytest.raises(ConfigError, match=r"no composition for latency_ms .* hwbench profile"):
        _table(_composition((("gpu", 100.0),), 1.0, 1.0)).composition("latency_ms", PLAIN)


def test_other_modes_and_other_clocks_say_nothing() -> None:
    """A composition of one power mode is none of another."""
    table = _table(_composition((("gpu", 100.0), ("mode", "MAXN")), 1.0, 1.0))
    for clocks in ((("gpu", 100.0), ("mode", "15W")), (("gpu", 100.0),), (("emc", 1.0), ("gpu", 1.0))):
        with pytest.raises(ConfigError, match="hwbench sweep"):
            table.composition("latency_ms", Setting(unit="gpu", precision="fp16", clocks=clocks))


def _table(*compositions: Composition) -> LatencyTable:
    """Compositions over no rows."""
    return LatencyTable(
        origin=Origin(target="made", backend="tensorrt", space="swept", boards=["b1"], created="2026-01-01"),
        runtime=RuntimeSection(name="tensorrt", version="8"),
        row={},
        compositions=compositions,
    )


def test_costs_at_clocks_as_found_are_scaled_as_blocks_are(table: LatencyTable) -> None:
    """A call, an element and standing alone cost more where blocks do."""
    here = at(MEASURED_AT[0])
    slower = {
        Cell(block_key=c.block_key, setting=PLAIN): replace(
            r, cell=Cell(block_key=c.block_key, setting=PLAIN), latency_ms=Interval(value=r.latency_ms.value / 2)
        )
        for c, r in table.row.items()
        if c.setting == here
    }
    plain = replace(_composition((), 1.0, 1.1), setting=PLAIN, layout=0.5, alone=2.0)
    both = replace(table, row={**table.row, **slower}, compositions=(plain,), between=())
    found = both.composition("latency_ms", here)
    assert (found.call, found.layout, found.alone) == pytest.approx((2.0, 1.0, 4.0))
    assert found.scale == 1.1
