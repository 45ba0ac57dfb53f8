"""Exits that all subnets share: trained once, cut out for each, told from another supernet's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hwbench.errors import ConfigError
from models import datasets
from models.space import load_space
from models.supernet import Supernet, create, load
from models.training.exits import answer
from models.training.shared_exits import (
    SharedRecipe,
    load_shared,
    save_shared,
    shared_heads,
    train_shared_exits,
    with_shared_exits,
)

SPACE = load_space("digits")
FEW = SharedRecipe(steps=160)


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    return load(Path(__file__).parents[3] / "models" / "checkpoints" / "digits.safetensors")[0]


@pytest.fixture(scope="module")
def train() -> datasets.Split:
    return datasets.load("digits32", "train").take(slice(0, 1024))


@pytest.fixture(scope="module")
def heads(supernet: Supernet, train: datasets.Split) -> torch.nn.ModuleDict:
    return train_shared_exits(supernet, train, seed=0, recipe=FEW)


def test_trained_they_tell_digits_and_the_supernet_is_as_it_was(
    supernet: Supernet, train: datasets.Split, heads: torch.nn.ModuleDict
) -> None:
    """Of a subnet that was hardly ever drawn; untrained heads guess."""
    val = datasets.load("digits32", "val").take(slice(0, 512))
    genes = SPACE.sample(1, np.random.default_rng(11))[0].tolist()
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}

    def accuracy(shared: torch.nn.ModuleDict) -> np.ndarray:
        answers = answer(with_shared_exits(supernet, shared, genes, train, seed=0), val)
        return (answers.answer == val.labels[:, None]).mean(0)

    trained, fresh = accuracy(heads), accuracy(shared_heads(SPACE))
    assert trained[:-1].mean() > fresh[:-1].mean() + 0.2
    assert trained[-1] == fresh[-1]
    assert all(torch.equal(before[name], tensor) for name, tensor in supernet.state_dict().items())


def test_equal_seeds_give_equal_exits(supernet: Supernet, train: datasets.Split) -> None:
    """And other seeds others."""
    few = SharedRecipe(steps=3)
    one, same, other = (train_shared_exits(supernet, train, seed=s, recipe=few).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_a_file_of_them_belongs_to_one_supernet(supernet: Supernet, heads: torch.nn.ModuleDict, tmp_path: Path) -> None:
    """Read back whole; refused for other weights, or where there is no file."""
    save_shared(tmp_path / "exits.safetensors", heads, supernet)
    back = load_shared(tmp_path / "exits.safetensors", supernet).state_dict()
    assert all(torch.equal(back[name], tensor) for name, tensor in heads.state_dict().items())
    with pytest.raises(ConfigError, match="read other weights than this supernet's"):
        load_shared(tmp_path / "exits.safetensors", create(SPACE))
    with pytest.raises(ConfigError, match="search train --exits"):
        load_shared(tmp_path / "none.safetensors", supernet)
