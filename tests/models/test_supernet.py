"""models.supernet: seeds, and the file of a supernet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hwbench.errors import ConfigError
from models import supernet
from models.families.mobilenetv3 import build
from models.space import Space
from models.stages import Stage, StageSpace, Stem

TINY = StageSpace(
    name="tiny",
    classes=3,
    channels=1,
    resolutions=(8,),
    stem=Stem(widths=(8,)),
    stages=(Stage(widths=(8, 16), depths=(1, 2), kernels=(3, 5), expands=(2,)),),
)
SPACE = TINY.space()


def weights(module: torch.nn.Module) -> list[torch.Tensor]:
    return [t.detach().clone() for t in module.state_dict().values()]


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    file = tmp_path / "weights" / "tiny.safetensors"
    supernet.save(file, supernet.create(SPACE, seed=4), {"command": "train", "seed": "4"})
    return file


def test_a_seed_decides_the_weights_and_leaves_other_randomness_alone() -> None:
    torch.manual_seed(1)
    before = torch.rand(3)
    torch.manual_seed(1)
    first = supernet.create(SPACE, seed=7)
    assert torch.equal(before, torch.rand(3))
    assert same(first, supernet.create(SPACE, seed=7))
    assert not same(first, supernet.create(SPACE, seed=8))


def test_a_block_built_twice_has_the_same_bytes_and_another_block_has_not() -> None:
    a, b = SPACE.blocks[1], SPACE.blocks[2]
    assert same(supernet.build(SPACE, a), supernet.build(SPACE, a))
    assert not same(supernet.build(SPACE, a), supernet.build(SPACE, a, salt="other"))
    assert not torch.equal(weights(build(a))[0].flatten()[:8], weights(build(b))[0].flatten()[:8])
    assert not build(a).training


def test_the_family_keeps_the_contract() -> None:
    assert isinstance(supernet.create(SPACE), supernet.Supernet)


def test_a_file_gives_back_the_weights_and_how_they_came_to_be(saved: Path) -> None:
    net, metadata = supernet.load(saved, SPACE)
    assert same(supernet.create(SPACE, seed=4), net)
    assert not net.training
    assert ("tiny", SPACE.digest(), "train", "4") == tuple(
        metadata[k] for k in ("space", "space_sha256", "command", "seed")
    )
    assert [saved] == list(saved.parent.iterdir())


def test_the_space_is_found_by_the_name_in_the_file(saved: Path) -> None:
    with pytest.raises(ConfigError, match="unknown space 'tiny'"):
        supernet.load(saved)


@pytest.mark.parametrize("keep", [0, 5, 300, -1])
def test_a_file_cut_short_is_refused(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(ConfigError, match="not a whole safetensors file"):
        supernet.load(saved, SPACE)


def test_a_changed_byte_is_found(saved: Path) -> None:
    data = bytearray(saved.read_bytes())
    data[-5] ^= 1
    saved.write_bytes(data)
    with pytest.raises(ConfigError, match="differ from their digest"):
        supernet.load(saved, SPACE)


def test_weights_of_another_space_are_refused(saved: Path) -> None:
    other: Space = replace(TINY, classes=4).space()
    with pytest.raises(ConfigError, match="another space"):
        supernet.load(saved, other)


def test_weights_that_lack_a_tensor_are_refused(saved: Path) -> None:
    net = supernet.create(SPACE)
    del net.layers[1].project
    supernet.save(saved, net)
    with pytest.raises(ConfigError, match="do not fit what the supernet"):
        supernet.load(saved, SPACE)


def test_a_file_without_metadata_is_refused(tmp_path: Path, saved: Path) -> None:
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(saved), bare)
    with pytest.raises(ConfigError, match="which space"):
        supernet.load(bare, SPACE)


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="train the supernet first"):
        supernet.load(tmp_path / "absent.safetensors", SPACE)
