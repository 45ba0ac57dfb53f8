"""models.spaces.fbnet: 9^22 networks, and a published one among them."""

from __future__ import annotations

import numpy as np

from models.decoders.fbnet import CANDIDATES, LAYERS
from models.decoders.fbnet import size as published_size
from models.space import load_space
from models.vision import import_timm

SPACE = load_space("fbnet")
FBNET_C = (
    *("k3_e1", "k3_e6", "skip", "k3_e1", "k3_e1", "k5_e6", "k5_e3", "k5_e6", "k3_e6", "k5_e6", "k5_e3"),
    *("k5_e6", "k5_e6", "k5_e6", "k5_e6", "k5_e6", "k5_e3", "k5_e6", "k5_e6", "k5_e6", "k5_e6", "k3_e6"),
)


def test_its_size_is_exact_and_no_gene_is_inert(rng: np.random.Generator) -> None:
    """Every point is a network of its own."""
    assert 9**22 == SPACE.size() == published_size()
    genes = rng.integers(0, 9, (50, LAYERS))
    assert np.array_equal(genes, SPACE.canonical(genes))


def test_its_candidates_are_the_published_ones_by_their_work() -> None:
    """None does less than the one before it, and `skip` nothing in the 16 layers that it can leave out."""
    for gene in SPACE.genes:
        assert set(CANDIDATES) == set(gene.values)
    layers = [slot.block.tolist() for slot in SPACE.slots[1:-1]]
    for layer in layers:
        work = [SPACE.blocks[b].macs for b in layer[1:]]
        assert sorted(work) == work
    assert ("skip", 16) == (SPACE.genes[0].values[0], sum(layer[0] < 0 for layer in layers))


def test_fbnet_c_has_the_parameters_that_timm_builds() -> None:
    """To the last one; FBNet-C's layers are those of the paper's figure 4."""
    genes = np.array([[gene.values.index(name) for gene, name in zip(SPACE.genes, FBNET_C, strict=True)]])
    built = import_timm().create_model("fbnetc_100", pretrained=False)
    assert sum(p.numel() for p in built.parameters()) == SPACE.params(genes)[0]


def test_exits_stand_behind_layers_that_run_from_the_fifth_on(rng: np.random.Generator) -> None:
    """A skipped layer has no exit of its own, one that a skip cannot leave out has; the last has the classifier."""
    genes = SPACE.sample(100, rng)
    runs = SPACE.block_ids(genes)[:, 1:-1] >= 0
    assert (~runs).any()
    assert np.array_equal(runs[:, 4:-1], SPACE.head_ids(genes) >= 0)
    assert runs[:, -1].all()
