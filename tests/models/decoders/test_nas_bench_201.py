"""models.decoders.nas_bench_201: what of a cell is executed, by hand and over the whole space."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hwbench.errors import ConfigError
from models.decoders.nas_bench_201 import EDGES, OPS, decode, executed, parse, size

NONE, SKIP, CONV_1, CONV_3, POOL = range(5)


def name(*ops: int) -> str:
    """The published name of a cell; operations in the order of EDGES."""
    words = [f"{OPS[op]}~{source}" for op, (source, _) in zip(ops, EDGES, strict=True)]
    return f"|{words[0]}|+|{words[1]}|{words[2]}|+|{words[3]}|{words[4]}|{words[5]}|"


def test_a_name_is_the_operation_of_each_edge() -> None:
    """In the order of the published names."""
    text = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    assert (POOL, CONV_1, SKIP, CONV_1, SKIP, SKIP) == parse(text)


@pytest.mark.parametrize("text", ["", "|none~0|", name(0, 0, 0, 0, 0, 0).replace("none~2", "lstm~2"), "|" * 1000])
def test_another_name_is_refused(text: str) -> None:
    """With what is expected."""
    with pytest.raises(ConfigError, match="expected"):
        parse(text)


def test_what_the_output_does_not_need_is_not_executed() -> None:
    """A convolution into node 2 that nothing reads; only the reading as written keeps it."""
    cell = (NONE, CONV_3, NONE, CONV_1, NONE, NONE)
    assert (NONE, NONE, NONE, CONV_1, NONE, NONE) == executed(cell, "backward") == executed(cell, "both_ways")
    assert cell == executed(cell, "as_written")


_PLAIN = (NONE, NONE, NONE, CONV_1, NONE, NONE)


@pytest.mark.parametrize(
    ("cell", "left"),
    [
        ((NONE, CONV_3, NONE, CONV_1, NONE, NONE), (NONE, CONV_3, NONE, CONV_1, NONE, NONE)),
        ((CONV_3, NONE, CONV_1, CONV_1, NONE, NONE), (CONV_3, NONE, CONV_1, CONV_1, NONE, NONE)),
        ((POOL, NONE, CONV_1, CONV_1, NONE, NONE), (POOL, NONE, CONV_1, CONV_1, NONE, NONE)),
        ((CONV_3, NONE, SKIP, CONV_1, NONE, NONE), (CONV_3, NONE, SKIP, CONV_1, NONE, NONE)),
        ((NONE, CONV_3, SKIP, CONV_1, NONE, NONE), (NONE, CONV_3, SKIP, CONV_1, NONE, NONE)),
        ((POOL, CONV_3, NONE, CONV_1, NONE, NONE), (NONE, CONV_3, NONE, CONV_1, NONE, NONE)),
        ((NONE, POOL, NONE, CONV_1, NONE, NONE), _PLAIN),
        ((NONE, CONV_3, POOL, CONV_1, NONE, NONE), _PLAIN),
        ((CONV_3, NONE, POOL, CONV_1, NONE, NONE), _PLAIN),
        ((SKIP, CONV_3, CONV_1, CONV_1, NONE, NONE), _PLAIN),
        ((CONV_3, CONV_3, NONE, CONV_1, NONE, NONE), _PLAIN),
        ((CONV_3, POOL, NONE, CONV_1, NONE, NONE), _PLAIN),
        # A constant output costs nothing, what is thrown away beside it does.
        ((NONE, CONV_3, NONE, NONE, CONV_1, NONE), (NONE, CONV_3, NONE, NONE, NONE, NONE)),
        ((NONE, NONE, NONE, NONE, CONV_1, NONE), (NONE, NONE, NONE, NONE, NONE, NONE)),
    ],
)
def test_convolutions_that_nothing_reads_are_read_with_ends(cell: tuple[int, ...], left: tuple[int, ...]) -> None:
    """Those that are all of a node; pools and sums there are not executed, nor what leads to them."""
    assert left == executed(cell, "with_ends")


def test_what_the_input_does_not_reach_is_executed_unless_read_both_ways() -> None:
    """A convolution of node 1, which has no input: of zeros."""
    cell = (NONE, NONE, NONE, CONV_1, CONV_3, NONE)
    assert cell == executed(cell, "backward")
    assert (NONE, NONE, NONE, CONV_1, NONE, NONE) == executed(cell, "both_ways")


def test_the_space_is_decoded_whole() -> None:
    """15,625 cells; 341 have a constant output, as published; fewer operations the more is left out."""
    cells = list(itertools.product(range(5), repeat=6))
    decoded = decode([name(*c) for c in cells])
    assert size() == len(cells) == 15_625
    assert 341 == decoded.constant.sum()
    by_name = {r.name: r for r in decoded.readings}
    totals = [by_name[n].counts.sum(axis=1) for n in ("as_written", "backward", "both_ways")]
    assert (totals[0] >= totals[1]).all()
    assert (totals[1] >= totals[2]).all()
    assert (by_name["both_ways"].counts[decoded.constant] == 0).all()
    assert all(np.isfinite(r.traits).all() for r in decoded.readings)


def test_additions_are_counted() -> None:
    """A node with three inputs adds twice."""
    (reading, *_) = decode([name(SKIP, SKIP, NONE, SKIP, SKIP, SKIP)]).readings
    assert 2 == reading.counts[0, reading.ops.index("addition")]


def test_what_a_network_executes_is_what_was_published() -> None:
    """220.1 million multiply-accumulates where every edge is a 3×3 convolution, 7.8 where none is an operation."""
    decoded = decode([name(*(CONV_3,) * 6), name(*(SKIP,) * 6), name(NONE, NONE, NONE, POOL, NONE, NONE)])
    found = decoded.readings[0].executed
    assert found is not None
    macs = found.times @ np.array([op.macs for op in found.ops]) / 1e6
    assert [220.1, 7.8, 7.8] == [round(m, 1) for m in macs]
    kinds = {k: found.times @ np.array([op.kind == k for op in found.ops]) for k in ("pool", "add")}
    # Two of the reductions and one before the classifier; a cell of skips adds, one of a single pool does not.
    assert [3, 3, 3 + 15] == kinds["pool"].tolist()
    assert [2 + 3 * 15, 2 + 3 * 15, 2] == kinds["add"].tolist()
