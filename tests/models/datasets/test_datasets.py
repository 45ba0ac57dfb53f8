"""models.datasets: names, splits, what a network reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwbench.errors import ConfigError
from models import datasets


def test_the_four_data_sets_are_found_by_name() -> None:
    """The helper module that CIFAR's two share is not one of them."""
    assert ("cifar10", "cifar100", "digits32", "folder") == datasets.names()


@pytest.mark.parametrize(
    ("name", "split", "words"),
    [("cifer10", "train", "did you mean 'cifar10'"), ("digits32", "tset", "did you mean 'test'")],
)
def test_an_unknown_name_names_the_nearest_one(name: str, split: str, words: str) -> None:
    """A typo costs one look."""
    with pytest.raises(ConfigError, match=words):
        datasets.load(name, split)


def test_a_size_that_a_data_set_does_not_have_is_refused() -> None:
    """digits32 is 32×32; scaling it quietly would change what was measured."""
    with pytest.raises(ConfigError, match="32×32, 64 was asked"):
        datasets.load("digits32", "val", side=64)


def test_the_folder_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """HWBENCH_DATA names the folder that holds a folder for each data set."""
    monkeypatch.setenv("HWBENCH_DATA", str(tmp_path))
    with pytest.raises(ConfigError, match=str(tmp_path / "cifar10")):
        datasets.load("cifar10", "test")


def test_inputs_are_scaled_and_normalised_by_channel() -> None:
    """(x / 255 − mean) / std, float32, at the rows asked for."""
    split = datasets.Split(
        images=np.array([0, 51, 102, 255], np.uint8).reshape(2, 2, 1, 1),
        labels=np.array([0, 1]),
        classes=("a", "b"),
        mean=(0.2, 0.5),
        std=(0.4, 0.25),
    )
    inputs = split.inputs(np.array([1, 0]))
    assert np.float32 == inputs.dtype
    np.testing.assert_allclose(inputs.reshape(2, 2), [[0.5, 2.0], [-0.5, -1.2]], rtol=1e-6)


def test_what_is_held_out_is_a_share_of_every_class() -> None:
    """The same samples each time, so that val stays val."""
    labels = np.repeat(np.arange(5), 40)
    held = datasets.hold_out(labels, 0.1)
    assert [4] * 5 == np.bincount(labels[held]).tolist()
    np.testing.assert_array_equal(held, datasets.hold_out(labels, 0.1))
