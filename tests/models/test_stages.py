"""models.stages: descriptions of MobileNetV3-like spaces, in Python and as TOML."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwbench.errors import ConfigError
from models.space import load_space
from models.stages import Exits, Stage, StageSpace, Stem, Tail

TWO = StageSpace(
    name="two",
    classes=4,
    resolutions=(24, 32),
    native=32,
    stem=Stem(widths=(8, 16)),
    stages=(
        Stage(widths=(8,), depths=(1, 2), kernels=(3, 5), expands=(1, 4), act="relu"),
        Stage(widths=(16, 24), depths=(1, 3), kernels=(3,), expands=(2,), stride=2, squeeze=True),
    ),
    tail=Tail(widths=(32, 48)),
    exits=Exits(width=16),
)
TOML = """
schema = 1
[space]
name = "two"
classes = 4
resolutions = [24, 32]
native = 32
[space.stem]
widths = [8, 16]
[[space.stages]]
widths = [8]
depths = [1, 2]
kernels = [3, 5]
expands = [1, 4]
act = "relu"
[[space.stages]]
widths = [16, 24]
depths = [1, 3]
kernels = [3]
expands = [2]
stride = 2
squeeze = true
[space.tail]
widths = [32, 48]
[space.exits]
width = 16
"""


def exits_of(space: StageSpace, **choice: int) -> list[int]:
    """Slots behind which an exit stands, for genes at their first value but for `choice` (indices by gene name)."""
    built = space.space()
    genes = [choice.get(g.name.replace(".", "_"), 0) for g in built.genes]
    ids = built.head_ids(np.array([genes]))[0]
    return [slot for slot, head in zip(built.positions, ids, strict=True) if head >= 0]


def test_choices_of_one_value_are_no_genes_and_the_order_is_fixed() -> None:
    names = ["resolution", "width.stem", "width.2", "width.tail", "depth.1", "depth.2", "kernel.1", "expand.1"]
    assert names == [g.name for g in TWO.space().genes]
    assert 2**8 == TWO.space().size()


def test_slots_are_stem_layers_and_tail() -> None:
    space = TWO.space()
    assert 1 + 2 + 3 + 1 == len(space.slots)
    kinds = [{space.blocks[b].kind for b in slot.block.ravel() if b >= 0} for slot in space.slots]
    assert [{"stem"}, *[{"mbconv"}] * 5, {"tail"}] == kinds


def test_shapes_of_neighbouring_blocks_meet(rng: np.random.Generator) -> None:
    for space in (TWO.space(), load_space("sdu"), load_space("attentivenas")):
        genes = space.sample(50, rng)
        for row, heads in zip(space.block_ids(genes), space.head_ids(genes), strict=True):
            run = [space.blocks[b] for b in row if b >= 0]
            assert all(a.out_shape == b.in_shape for a, b in itertools.pairwise(run))
            for slot, head in zip(space.positions, heads, strict=True):
                assert head < 0 or space.blocks[head].in_shape == space.blocks[row[slot]].out_shape


def test_an_image_is_scaled_in_the_stem_only_where_its_side_differs() -> None:
    space = TWO.space()
    small, native = space.block_ids(np.array([[0] * 8, [1] + [0] * 7]))[:, 0]
    assert (24, (3, 32, 32)) == (space.blocks[small].resize, space.blocks[small].in_shape)
    assert 0 == space.blocks[native].resize
    assert ["resize", "conv", "activation"] == [op.kind for op in space.blocks[small].ops]
    assert (8, 12, 12) == space.blocks[small].out_shape


def test_exits_stand_behind_every_running_layer_but_the_last() -> None:
    assert [1] == exits_of(TWO)
    assert [1, 2] == exits_of(TWO, depth_1=1)
    assert [1, 3, 4] == exits_of(TWO, depth_2=1)
    assert [1, 2, 3, 4] == exits_of(TWO, depth_1=1, depth_2=1)


def test_the_first_exit_waits_for_that_many_running_layers() -> None:
    third = replace(TWO, exits=Exits(width=16, first=3))
    assert [] == exits_of(third)
    assert [4] == exits_of(third, depth_2=1)
    assert [3, 4] == exits_of(third, depth_1=1, depth_2=1)


def test_without_exits_there_are_no_positions() -> None:
    space = replace(TWO, exits=None).space()
    assert ((), ()) == (space.positions, space.heads)
    assert space.head_ids(space.smallest()[None]).shape == (1, 0)


def test_a_toml_describes_the_same_space(tmp_path: Path) -> None:
    file = tmp_path / "two.toml"
    file.write_text(TOML)
    assert TWO.space() == load_space(file)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("depths", "depht", "space.stages.0.*depht"),
        ("schema = 1", "schema = 7", "schema 7"),
        ("[8, 16]", "[16, 8]", "stem.widths"),
        ("kernels = [3]", "kernels = [4]", "odd"),
        ('"relu"', '"rleu"', "rleu"),
        ("[space]", "[space", "not valid TOML"),
        ("depths = [1, 2]", "depths = [0, 2]", "stages.0.depths"),
        ("widths = [8, 16]", "", "widths"),
        ("widths = [8, 16]", "widths = 8", "widths: Input should be a list"),
        ('"two"', '"my space"', "letters, digits and . _ - only"),
        ('"two"', '"ofa-mbv3"', "is that of a ready-made space"),
    ],
)
def test_a_wrong_description_is_refused_by_name(tmp_path: Path, old: str, new: str, told: str) -> None:
    file = tmp_path / "two.toml"
    file.write_text(TOML.replace(old, new, 1))
    with pytest.raises(ConfigError, match=told) as caught:
        load_space(file)
    assert "two.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("right", "wrong", "text"),
    [
        (
            "kernels = [3, 5]",
            "kernals = [3, 5]",
            r"\[space.stages.0\]: unknown key 'kernals' — did you mean 'kernels'\?",
        ),
        ("native = 32", "nativ = 32", r"\[space\]: unknown key 'nativ' — did you mean 'native'\?"),
        ("schema = 1", "schema = 1\nspce = 2", r"unknown key 'spce' — did you mean 'space'\?"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(tmp_path: Path, right: str, wrong: str, text: str) -> None:
    """In the section where it stands."""
    file = tmp_path / "two.toml"
    file.write_text(TOML.replace(right, wrong, 1))
    with pytest.raises(ConfigError, match=text):
        load_space(file)
