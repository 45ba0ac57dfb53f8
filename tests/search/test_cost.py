"""Costs are sums of rows by the table's composition, block by block and segment by segment."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from hwbench.errors import ConfigError, MissingRows
from hwbench.setting import Setting
from hwbench.workload import Op
from models.space import Block, Gene, Slot, Space, load_space
from search.cost import Costs
from tests.search.priced import FAST, SETTING, SLOW, table

GENES = 20


@pytest.fixture(scope="module")
def digits() -> Space:
    return load_space("digits")


def parts(space: Space, genes: np.ndarray, first: int, last: int) -> list[tuple[str, int]]:
    """Block keys and counts of the slots first … last − 1 that run."""
    ids = space.block_ids(genes[None])[0]
    return [(space.blocks[b].key, space.slots[i].count) for i, b in enumerate(ids) if b >= 0 and first <= i < last]


def test_a_network_costs_what_the_table_predicts_of_its_parts(digits: Space, rng: np.random.Generator) -> None:
    """One call; every operating point, latency and energy."""
    priced = table(digits, (SLOW, FAST))
    costs = Costs.of(digits, priced, (SLOW, FAST), ["latency_ms", "energy_mj"])
    genes = digits.sample(GENES, rng)
    network = costs.network(genes)
    for metric in ("latency_ms", "energy_mj"):
        for p, setting in enumerate((SLOW, FAST)):
            expected = [priced.predict(metric, parts(digits, g, 0, len(digits.slots)), setting) for g in genes]
            np.testing.assert_allclose(network[metric][p], expected, rtol=1e-12)
    np.testing.assert_array_equal(network["macs"][0], digits.macs(genes))


def test_nothing_costs_less_than_the_least(digits: Space, rng: np.random.Generator) -> None:
    """Neither whole networks nor leaving at any one exit; and a space of one network costs just that."""
    costs = Costs.of(digits, table(digits, (SLOW, FAST)), (SLOW, FAST), ["latency_ms", "energy_mj"])
    for metric in ("latency_ms", "energy_mj", "macs"):
        least = costs.least(metric)
        genes = np.concatenate([digits.sample(GENES, rng), digits.smallest()[None]])
        assert (costs.network(genes)[metric] > least[:, None]).all()
        for one in genes:
            for position in np.flatnonzero(digits.head_ids(one[None])[0] >= 0).tolist():
                stages = costs.stages(one, [position])
                assert (stages.step[metric][:, 0] + stages.ask[metric][:, 0] >= least).all()
    slots = tuple(Slot(genes=(), block=s.block.ravel()[-1]) for s in digits.slots)
    single = Space(name="digits", genes=(), slots=slots, blocks=digits.blocks)
    costs = Costs.of(single, table(digits, (SLOW, FAST)), (SLOW, FAST), ["latency_ms"])
    np.testing.assert_allclose(costs.least("latency_ms"), costs.network(np.empty((1, 0), int))["latency_ms"][:, 0])


def test_leaving_at_an_exit_costs_the_segments_up_to_it(digits: Space, rng: np.random.Generator) -> None:
    """Each placed exit ends a segment that is one call of blocks and head; exits that are not placed cost nothing."""
    priced = table(digits, (SLOW, FAST))
    costs = Costs.of(digits, priced, (SLOW, FAST), ["latency_ms", "energy_mj"])
    for genes in digits.sample(GENES, rng):
        exists = np.flatnonzero(digits.head_ids(genes[None])[0] >= 0).tolist()
        stages = costs.stages(genes, exists)
        placed = rng.random(len(exists)) < 0.5
        for metric in ("latency_ms", "energy_mj"):
            for p, setting in enumerate((SLOW, FAST)):
                expected, start = 0.0, 0
                for s, position in enumerate(exists):
                    if placed[s]:
                        end = digits.positions[position] + 1
                        head = digits.blocks[digits.head_ids(genes[None])[0][position]].key
                        segment = [*parts(digits, genes, start, end), (head, 1)]
                        expected += priced.predict(metric, segment, setting)
                        start = end
                        paid = (
                            stages.step[metric][p, : s + 1].sum()
                            + stages.ask[metric][p, : s + 1][placed[: s + 1]].sum()
                        )
                        assert paid == pytest.approx(expected, rel=1e-12)
                expected += priced.predict(metric, parts(digits, genes, start, len(digits.slots)), setting)
                asked = stages.ask[metric][p][np.append(placed, True)].sum()
                assert stages.step[metric][p].sum() + asked == pytest.approx(expected, rel=1e-12)


def test_an_exit_pays_for_the_features_it_hands_on(digits: Space, rng: np.random.Generator) -> None:
    """Where returned elements cost, blocks inside a segment save theirs; the table says the same."""
    plain = table(digits)
    priced = replace(
        plain,
        compositions=tuple(replace(c, layout=1e-7) for c in plain.compositions),
        returned={block.key: math.prod(block.out_shape) for block in digits.blocks},
    )
    costs = Costs.of(digits, priced, (SETTING,), ["latency_ms"])
    for genes in digits.sample(GENES, rng):
        whole = parts(digits, genes, 0, len(digits.slots))
        expected = priced.predict("latency_ms", whole, SETTING, returns=10)
        assert costs.network(genes[None])["latency_ms"][0, 0] == pytest.approx(expected, rel=1e-12)
        exists = np.flatnonzero(digits.head_ids(genes[None])[0] >= 0).tolist()
        if not exists:
            continue
        stages = costs.stages(genes, exists[:1])
        head = digits.blocks[digits.head_ids(genes[None])[0][exists[0]]]
        segment = [*parts(digits, genes, 0, digits.positions[exists[0]] + 1), (head.key, 1)]
        expected = priced.predict("latency_ms", segment, SETTING, returns=math.prod(head.in_shape) + 10 + 1)
        paid = stages.step["latency_ms"][0, 0] + stages.ask["latency_ms"][0, 0]
        assert paid == pytest.approx(expected, rel=1e-12)


def test_without_exits_the_stages_cost_the_whole_network(digits: Space, rng: np.random.Generator) -> None:
    costs = Costs.of(digits, table(digits), (SETTING,), ["latency_ms"])
    for genes in digits.sample(GENES, rng):
        network, stages = costs.network(genes[None]), costs.stages(genes, [])
        for metric in ("latency_ms", "energy_mj", "macs"):
            np.testing.assert_allclose(stages.step[metric] + stages.ask[metric], network[metric], rtol=1e-12)
        for metric in ("size_bytes", "memory_bytes"):
            np.testing.assert_array_equal(network[metric], stages.resident[metric])


def test_size_counts_four_bytes_a_parameter_and_one_at_int8(digits: Space) -> None:
    """Heads of placed exits are in it; memory adds the largest block's activations."""
    largest = digits.largest()
    head = digits.blocks[digits.head_ids(largest[None])[0][0]]
    for precision, size in (("fp32", 4), ("int8", 1)):
        setting = replace(SETTING, precision=precision)
        stages = Costs.of(digits, table(digits, (setting,)), (setting,), ["latency_ms"]).stages(largest, [0])
        params, peak = (int(f(largest[None])[0]) for f in (digits.params, digits.peak_activation_count))
        assert [size * head.params, size * params] == stages.resident["size_bytes"].tolist()
        assert size * (params + peak) == stages.resident["memory_bytes"][-1]


def test_composed_costs_say_that_they_are_predicted(digits: Space) -> None:
    costs = Costs.of(digits, table(digits), (SETTING,), ["latency_ms"])
    assert "predicted:measured" == str(costs.evidence["latency_ms"])
    assert {"predicted:declared"} == {str(costs.evidence[m]) for m in ("energy_mj", "macs", "size_bytes")}


def test_a_missing_row_is_named_with_the_command_that_fills_it(digits: Space) -> None:
    """Nothing is taken as 0, and the error comes before a search begins."""
    full = table(digits)
    head = digits.blocks[digits.head_ids(digits.largest()[None])[0][0]].key
    holed = replace(full, row={cell: row for cell, row in full.row.items() if cell.block_key != head})
    with pytest.raises(
        MissingRows, match="hwbench profile --target host --backend onnxruntime --space digits"
    ) as error:
        Costs.of(digits, holed, (SETTING,), ["latency_ms"])
    assert (f"{head} [{SETTING}]",) == error.value.keys


def test_energy_is_left_out_where_it_is_unknown_and_refused_where_it_is_needed(digits: Space) -> None:
    silent = table(digits, energy=False)
    costs = Costs.of(digits, silent, (SETTING,), ["latency_ms"])
    assert "energy_mj" not in costs.network(digits.largest()[None]) | dict(costs.evidence)
    with pytest.raises(MissingRows, match="energy_mj"):
        Costs.of(digits, silent, (SETTING,), ["latency_ms", "energy_mj"])


def test_rows_without_a_composition_are_not_added_up(digits: Space) -> None:
    with pytest.raises(ConfigError, match="no composition for latency_ms"):
        Costs.of(digits, replace(table(digits), compositions=()), (SETTING,), ["latency_ms"])


def test_an_exit_that_does_not_exist_has_no_cost(digits: Space) -> None:
    costs = Costs.of(digits, table(digits), (SETTING,), ["latency_ms"])
    smallest = digits.smallest()
    absent = np.flatnonzero(digits.head_ids(smallest[None])[0] < 0)
    with pytest.raises(ConfigError, match="no exits at positions"):
        costs.stages(smallest, [int(absent[0])])


def test_a_learned_gate_weighs_what_it_is(digits: Space) -> None:
    """At every exit and not at the end: 369 weights and 352 multiply-accumulates; no row tells its time."""
    costs = Costs.of(digits, table(digits), (SETTING,), ["latency_ms"])
    plain, gated = (costs.stages(digits.largest(), [0, 3], gated=g) for g in (False, True))
    assert [369 * 4, 369 * 4, 0] == (gated.resident["size_bytes"] - plain.resident["size_bytes"]).tolist()
    assert [369 * 4, 369 * 4, 0] == (gated.resident["memory_bytes"] - plain.resident["memory_bytes"]).tolist()
    assert [[352, 352, 0]] == (gated.ask["macs"] - plain.ask["macs"]).tolist()
    np.testing.assert_array_equal(plain.ask["latency_ms"], gated.ask["latency_ms"])


def test_one_precision_at_a_time(digits: Space) -> None:
    settings = (SETTING, Setting(unit="cpu", precision="int8", threads=1))
    with pytest.raises(ConfigError, match="one precision"):
        Costs.of(digits, table(digits, settings), settings, ["latency_ms"])


def plain_block(key: str, params: int, elements: int) -> Block:
    op = Op(kind="conv", macs=1000 * params, weight_count=params, read_count=elements, write_count=0)
    return Block(key=key, kind="stem", in_shape=(1, 1, 1), out_shape=(1, 1, 1), ops=(op,), params=params)


def test_a_repeated_slot_costs_each_of_its_runs() -> None:
    """Blocks a, b, b: in the sum of a network and in the stage they belong to."""
    space = Space(
        name="repeated",
        family="mobilenetv3",
        genes=(Gene(name="g", values=(0,), group="width"),),
        blocks=(plain_block("a", 1, 1), plain_block("b", 2, 1)),
        slots=(Slot(genes=(0,), block=np.array([0])), Slot(genes=(0,), block=np.array([1]), count=2)),
    )
    priced = table(space)
    costs = Costs.of(space, priced, (SETTING,), ["latency_ms"])
    genes = np.zeros((1, 1), np.int16)
    expected = priced.predict("latency_ms", [("a", 1), ("b", 2)], SETTING)
    stages = costs.stages(genes[0], [])
    constant, terms = costs.soft_terms("latency_ms")
    assert costs.network(genes)["latency_ms"].tolist() == [[pytest.approx(expected)]]
    assert (stages.step["latency_ms"] + stages.ask["latency_ms"]).tolist() == [[pytest.approx(expected)]]
    assert constant + sum(float(values[0]) for _, values in terms) == pytest.approx(expected)


def test_a_head_larger_than_the_backbone_raises_the_peak() -> None:
    """Its weights count always, its activations only beyond the backbone's peak."""
    for elements, beyond in ((5, 0), (30, 20)):
        space = Space(
            name="headed",
            family="mobilenetv3",
            genes=(Gene(name="g", values=(0,), group="width"),),
            blocks=(plain_block("a", 1, 10), plain_block("b", 2, 7), plain_block("head", 3, elements)),
            slots=(Slot(genes=(0,), block=np.array([0])), Slot(genes=(0,), block=np.array([1]))),
            positions=(0,),
            heads=(Slot(genes=(0,), block=np.array([2])),),
        )
        costs = Costs.of(space, table(space), (SETTING,), ["latency_ms"])
        memory = costs.stages(np.zeros(1, np.int16), [0]).resident["memory_bytes"]
        assert memory.tolist() == [4 * (3 + beyond), 4 * (1 + 2 + 10)]
