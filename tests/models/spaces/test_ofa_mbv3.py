"""models.spaces.ofa_mbv3: its exact size, inert genes, and its supernet."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from models import supernet
from models.space import load_space

SPACE = load_space("ofa_mbv3")
RESOLUTIONS, UNITS = 25, 5


def test_it_has_the_choices_of_the_paper() -> None:
    """Depth a unit, kernel and expansion a layer, sides from 128 to 224."""
    by_group = {g.group: g.values for g in SPACE.genes}
    assert ((2, 3, 4), (3, 5, 7), (3, 4, 6)) == (by_group["depth"], by_group["kernel"], by_group["expand"])
    assert (128, 224, RESOLUTIONS) == (
        by_group["resolution"][0],
        by_group["resolution"][-1],
        len(SPACE.genes[0].values),
    )
    assert UNITS * (1 + 4 + 4) + 1 == len(SPACE.genes)


def test_its_size_is_the_published_one_and_exact() -> None:
    """A unit's forms are walked over one by one; the paper says roughly 2×10^19 for one resolution."""
    forms = {
        layers
        for depth in (2, 3, 4)
        for layers in itertools.product(itertools.product((3, 5, 7), (3, 4, 6)), repeat=depth)
    }
    assert len(forms) ** UNITS * RESOLUTIONS == SPACE.size()
    assert "2e+19" == f"{SPACE.size() / RESOLUTIONS:.0e}"


def test_genes_of_layers_left_out_do_not_count(rng: np.random.Generator) -> None:
    """At the smallest depths, whatever the third and fourth layers would be, it is one network."""
    names = [g.name for g in SPACE.genes]
    genes = rng.integers(0, SPACE.sizes, size=(50, len(names)))
    genes[:, [names.index(f"depth.{u}") for u in range(2, 7)]] = 0
    dropped = [i for i, name in enumerate(names) if name.split(".")[-1] in ("3", "4") and name.count(".") == 2]
    other = genes.copy()
    other[:, dropped] = rng.integers(0, 3, size=(50, len(dropped)))
    assert UNITS * 2 * 2 == len(dropped)
    assert np.array_equal(SPACE.canonical(genes), SPACE.canonical(other))
    assert np.array_equal(SPACE.block_ids(genes), SPACE.block_ids(other))


def test_different_canonical_points_are_different_networks(rng: np.random.Generator) -> None:
    """Changing one active gene changes a block."""
    points = SPACE.sample(20, rng)
    for point in points:
        for gene, size in enumerate(SPACE.sizes):
            changed = point.copy()
            changed[gene] = (changed[gene] + 1) % size
            if not np.array_equal(SPACE.canonical(changed)[0], point) and point[gene] != 0:
                assert not np.array_equal(SPACE.block_ids(SPACE.canonical(changed)), SPACE.block_ids(point))


def test_a_hyphen_in_its_name_is_understood() -> None:
    """As the paper's users write it."""
    assert SPACE.digest() == load_space("ofa-mbv3").digest()


@pytest.fixture(scope="module")
def net() -> torch.nn.Module:
    return supernet.create(SPACE, seed=1).eval()


def test_a_subnet_taken_out_answers_as_the_supernet(net: supernet.Supernet) -> None:
    """With unequal kernels and expansions inside a unit, at its own resolution."""
    genes = SPACE.sample(1, np.random.default_rng(3))[0]
    genes[0] = 0
    x = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        shared, own = net(x, genes), supernet.run(net.extract(genes), x)
    assert (1, 1000) == tuple(own.shape)
    torch.testing.assert_close(shared, own, rtol=1e-4, atol=1e-5)
