"""models.spaces.digits: small enough to measure, large enough to search."""

from __future__ import annotations

from models.space import load_space

SPACE = load_space("digits")


def test_few_blocks_make_many_networks() -> None:
    """Every block is measured by the demo, exit heads included; the networks are only looked up."""
    assert 83 == len(SPACE.blocks) <= 120
    assert 2 * (2 * 4 * 2 * 2) * (2 * 6 * 2 * 2) * (3 * 6 * 3) == SPACE.size()


def test_the_smallest_network_has_at_most_4000_parameters() -> None:
    """Classifier included; the largest has a hundred times as many."""
    assert [3_810, 689_818] == SPACE.params([SPACE.smallest(), SPACE.largest()]).tolist()


def test_an_exit_stands_behind_every_layer_but_the_last() -> None:
    """16 layers at most."""
    heads = SPACE.head_ids([SPACE.largest(), SPACE.smallest()])
    assert [15, 2] == (heads >= 0).sum(1).tolist()


def test_it_reads_the_images_of_digits32() -> None:
    """One channel, 32×32, ten digits."""
    assert {(1, 32, 32)} == {block.in_shape for block in SPACE.blocks if block.kind == "stem"}
    assert {(10, 1, 1)} == {block.out_shape for block in SPACE.blocks if block.kind in ("tail", "head")}
