"""The differentiable cost is the exact cost where every gene has decided."""

from __future__ import annotations

import numpy as np
import pytest

from hwbench import plugin
from models.space import load_space
from search.cost import Costs
from tests.search.priced import SETTING, table


@pytest.mark.parametrize("name", plugin.names("models.spaces"))
def test_soft_cost_at_one_hot_is_the_exact_cost(name: str, rng: np.random.Generator) -> None:
    """constant + Σ_slots Σ_v Π_g p(v_g) · table[v], with p one-hot, for every space that ships."""
    space = load_space(name)
    costs = Costs.of(space, table(space), (SETTING,), ["latency_ms", "energy_mj"])
    genes = space.sample(10, rng)
    exact = costs.network(genes)
    for metric in ("latency_ms", "energy_mj", "macs"):
        constant, terms = costs.soft_terms(metric)
        for row, expected in zip(genes, exact[metric][0], strict=True):
            chance = [np.eye(size)[value] for size, value in zip(space.sizes, row, strict=True)]
            soft = constant
            for scope, values in terms:
                for gene in scope:
                    values = np.tensordot(chance[gene], values, axes=(0, 0))
                soft += float(values)
            assert soft == pytest.approx(expected, rel=1e-12)
