"""hwbench.choice: what to count, told by a few networks of boards of which the truth is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from hwbench.choice import Known, choose, chosen_left_out
from hwbench.counts import tenths
from hwbench.decoder import decoder
from hwbench.fit_networks import fit_networks
from hwbench.network_model import Source, size
from tests.doubles.cells import Board, eager, fusing, measured, rough, unlike


def known(board: Board, count: int, rng: np.random.Generator, sources: Sequence[Source] = ()) -> Known:
    """Some networks of a board, and what others tell of them."""
    networks = measured(board, count, rng)
    value = networks.values["latency_ms"]
    return Known(
        decoded=decoder("nas-bench-201")(networks.archs),
        measured=value,
        sizes=size(value, float(np.median(value))),
        sources=tuple(sources),
        told={s.name: s.model.predict(networks.archs).value for s in sources},
    )


def other(name: str, board: Board, count: int, rng: np.random.Generator) -> Source:
    """A board that was measured before."""
    return Source(name=name, model=fit_networks(measured(board, count, rng), "latency_ms"))


def test_twenty_networks_tell_what_a_runtime_executes() -> None:
    """In nineteen draws of twenty, with 5 % of noise; the median error is misled in one of seven."""

    def noisy(archs: list[str], rng: np.random.Generator) -> np.ndarray:
        return eager(archs, rng) * rng.normal(1, 0.05, len(archs))

    found = [choose(known(noisy, 20, np.random.default_rng(seed))).reading.name for seed in range(40)]
    assert 38 <= found.count("as_written")


def test_the_same_board_at_another_clock_needs_no_operation(rng: np.random.Generator) -> None:
    """Ten networks tell one factor, and no costs of their own."""
    source = other("old", fusing, 300, rng)

    def slower(archs: list[str], rng: np.random.Generator) -> np.ndarray:
        return 2.5 * fusing(archs, rng)

    some = known(slower, 10, np.random.default_rng(3), [source])
    cost = choose(some).fit(some).cost
    assert cost["like old"] == pytest.approx(2.5, rel=0.1)
    assert {0.0} == {value for op, value in cost.items() if op != "like old"}


def test_the_error_of_what_was_chosen_is_not_flattered() -> None:
    """Readings and boards that tell nothing fit twelve networks by luck; left out of the choice, too, they do not."""
    sources = [other(f"n{i}", unlike, 40, np.random.default_rng(100 + i)) for i in range(2)]
    flattered, honest = [], []
    for seed in range(8):
        some = known(rough, 12, np.random.default_rng(seed), sources)
        flattered.append(some.off(choose(some).left_out))
        honest.append(some.off(chosen_left_out(some)))
    assert np.mean(honest) > 1.1 * np.mean(flattered)


@pytest.mark.parametrize("count", [1, 9, 10, 25])
def test_every_network_is_left_out_once(count: int) -> None:
    """And none of the parts is empty."""
    parts = list(tenths(count))
    assert min(10, count) == len(parts)
    np.testing.assert_array_equal(np.sum(parts, axis=0), np.ones(count))
    assert all(p.any() for p in parts)
