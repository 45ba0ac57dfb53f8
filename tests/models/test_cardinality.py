"""models.cardinality: exact counts of spaces far too large to walk over."""

from __future__ import annotations

import numpy as np
import pytest

from hwbench.errors import ConfigError
from models.cardinality import activity, draw, eliminate

Table = tuple[tuple[int, ...], np.ndarray]
CHOICES, DEPTHS, STAGES = 9, (2, 3, 4), 5


def per_layer_space() -> tuple[list[int], dict[int, Table]]:
    """Kernel and expansion per layer, as in once-for-all: 5 stages of 2 to 4 layers with 9 choices each."""
    sizes: list[int] = []
    tables: list[Table] = []
    for _ in range(STAGES):
        depth = len(sizes)
        sizes.append(len(DEPTHS))
        for layer in range(max(DEPTHS)):
            table = np.array([[c if layer < d else -1 for c in range(CHOICES)] for d in DEPTHS])
            tables.append(((depth, len(sizes)), table))
            sizes.append(CHOICES)
    found = {g: activity(g, n, tables) for g, n in enumerate(sizes)}
    return sizes, {g: table for g, table in found.items() if table is not None}


def test_a_space_of_ten_to_the_nineteen_is_counted_exactly() -> None:
    sizes, inert = per_layer_space()
    assert sum(CHOICES**d for d in DEPTHS) ** STAGES == eliminate(sizes, inert).count


def test_draws_follow_the_count_of_networks_below_each_choice(rng: np.random.Generator) -> None:
    """9^4 of 9^2 + 9^3 + 9^4 networks of a stage have four layers, so 89 % of the draws must."""
    sizes, inert = per_layer_space()
    n = 4000
    points = draw(n, eliminate(sizes, inert), rng)
    share = CHOICES**4 / sum(CHOICES**d for d in DEPTHS)
    for stage in range(STAGES):
        found = (points[:, stage * 5] == 2).mean()
        assert abs(found - share) < 4 * np.sqrt(share * (1 - share) / n)


def test_a_gene_that_nothing_depends_on_counts_once() -> None:
    tables: list[Table] = [((0,), np.array([0, 1]))]
    nothing = activity(1, 5, tables)
    assert nothing is not None
    assert eliminate([2, 5], {1: nothing}).count == 2


def test_a_space_too_entangled_to_count_says_so() -> None:
    tables: list[Table] = [((0, *range(i, i + 6)), np.zeros((3, *[10] * 6))) for i in (1, 7)]
    for _, table in tables:
        table[1, 0, 0, 0, 0, 0, 0] = 1
        table[1, 9, 9, 9, 9, 9, 9] = 1
        table[1, 5, 4, 3, 2, 1, 0] = 1
        table[2, 0, 1, 2, 3, 4, 5] = 1
    with pytest.raises(ConfigError, match="let fewer genes share a slot"):
        activity(0, 3, tables)
