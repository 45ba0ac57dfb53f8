"""models.spaces.attentivenas: its size, its parts, and the published networks as points of it."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from models.space import load_space

SPACE = load_space("attentivenas")


def test_it_has_28_genes_39_slots_and_896_blocks() -> None:
    kinds = [b.kind for b in SPACE.blocks]
    assert (28, 39, 896) == (len(SPACE.genes), len(SPACE.slots), len(kinds) - kinds.count("head"))
    groups = [g.group for g in SPACE.genes]
    assert [1, 9, 7, 7, 4] == [groups.count(g) for g in ("resolution", "width", "depth", "kernel", "expand")]


def test_it_is_larger_than_the_paper_prints() -> None:
    """No gene is ever inert, so the size is the product of the choices: 3/2 of the printed 2.94×10^11."""
    assert math.prod(SPACE.sizes) == SPACE.size() == 440_301_256_704
    assert SPACE.size() > 2.94e11
    assert round(SPACE.size() * 2 / 3 / 1e11, 2) == 2.94


def test_exits_start_behind_the_fifth_running_layer(rng: np.random.Generator) -> None:
    genes = SPACE.sample(200, rng)
    layers = SPACE.block_ids(genes)[:, 1:-1] >= 0
    order = np.cumsum(layers, axis=1)
    for running, nth, heads in zip(layers, order, SPACE.head_ids(genes) >= 0, strict=True):
        assert np.array_equal(running & (nth >= 5) & (nth < nth[-1]), heads)


@pytest.mark.skipif(
    "HWBENCH_PUBLISHED_DATA" not in os.environ,
    reason="HWBENCH_PUBLISHED_DATA names no folder with attentivenas/attentivenas_a0_a6.json (CC BY-NC, not shipped)",
)
def test_published_networks_have_their_published_flops() -> None:
    file = Path(os.environ["HWBENCH_PUBLISHED_DATA"]) / "attentivenas" / "attentivenas_a0_a6.json"
    published = json.loads(file.read_text())["models"]
    rows = []
    for model in published:
        chosen = {"resolution": model["resolution"]}
        chosen.update({f"width.{w}": v for w, v in zip(["stem", *"1234567", "tail"], model["width"], strict=True)})
        for group, field in (("depth", "depth"), ("kernel", "kernel_size"), ("expand", "expand_ratio")):
            chosen.update({f"{group}.{i}": v for i, v in enumerate(model[field], 1)})
        rows.append([g.values.index(chosen[g.name]) for g in SPACE.genes])
    mflops = SPACE.macs(SPACE.canonical(rows)) / 1e6
    assert 7 == len(published)
    assert np.abs(mflops - [m["mflops_published"] for m in published]).max() < 0.5
