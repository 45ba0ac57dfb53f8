"""models.datasets._cifar, cifar10, cifar100: the data sets' own binary files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hwbench.errors import ConfigError
from models import datasets
from models.datasets._cifar import parse

IMAGES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(3), st.just(32), st.just(32)))


def _write(path: Path, labels: np.ndarray, images: np.ndarray) -> None:
    path.write_bytes(np.concatenate([labels, images.reshape(len(images), -1)], axis=1).astype(np.uint8).tobytes())


def _cifar10(root: Path, rng: np.random.Generator) -> None:
    """50 training images a file, every class five times."""
    for name in [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]:
        _write(root / name, np.arange(50)[:, None] % 10, rng.integers(0, 256, (50, 3, 32, 32)))


@settings(deadline=None, max_examples=25)
@given(images=IMAGES, labels=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 99)), min_size=4, max_size=4))
def test_what_is_written_in_the_files_layout_is_read_back(images: np.ndarray, labels: list[tuple[int, int]]) -> None:
    """Any images and labels; CIFAR-100's second label is the fine one."""
    given_labels = np.array(labels, np.uint8)[: len(images)]
    data = np.concatenate([given_labels, images.reshape(len(images), -1)], axis=1).tobytes()
    found, fine = parse(data, label_count=2, class_count=100, where="x.bin")
    np.testing.assert_array_equal(images, found)
    np.testing.assert_array_equal(given_labels[:, 1], fine)


@settings(deadline=None, max_examples=25)
@given(size=st.integers(0, 3 * 3073).filter(lambda n: n % 3073 or not n))
def test_a_file_of_any_other_length_is_refused(size: int) -> None:
    """A download that broke off is named, with its size; so is an empty file."""
    with pytest.raises(ConfigError, match=rf"x\.bin: {size} bytes .*cut short"):
        parse(bytes(size), label_count=1, class_count=10, where="x.bin")


def test_a_label_that_does_not_exist_is_refused() -> None:
    """CIFAR-100's file read as CIFAR-10, for instance."""
    with pytest.raises(ConfigError, match="record 0 has label 10, allowed are 0 to 9"):
        parse(b"\x0a" + bytes(3072), label_count=1, class_count=10, where="x.bin")


def test_train_and_val_share_the_training_files(tmp_path: Path, rng: np.random.Generator) -> None:
    """A tenth of each class is held out; nothing is lost and nothing is in both."""
    _cifar10(tmp_path, rng)
    train, val, test = (datasets.load("cifar10", split, root=tmp_path) for split in datasets.SPLITS)
    assert (230, 20, 50) == (len(train), len(val), len(test))
    both = np.concatenate([train.images, val.images])
    assert 250 == len(np.unique(both, axis=0))
    assert (3, 32, 32) == train.shape and "horse" == train.classes[7]


def test_missing_files_are_named_with_their_place_and_source(tmp_path: Path) -> None:
    """Which files, where they were looked for, where to get them."""
    with pytest.raises(ConfigError) as caught:
        datasets.load("cifar10", "train", root=tmp_path)
    message = str(caught.value)
    assert all(part in message for part in ("data_batch_5.bin", str(tmp_path), "kriz/cifar", "HWBENCH_DATA"))


def test_cifar100_takes_the_names_of_its_fine_labels(tmp_path: Path, rng: np.random.Generator) -> None:
    """From the file that comes with the data."""
    labels = np.stack([np.zeros(200), np.arange(200) % 100], 1)
    for name in ("train.bin", "test.bin"):
        _write(tmp_path / name, labels, rng.integers(0, 256, (200, 3, 32, 32)))
    (tmp_path / "fine_label_names.txt").write_text("\n".join(f"thing{i}" for i in range(100)))
    test = datasets.load("cifar100", "test", root=tmp_path)
    assert "thing99" == test.classes[int(test.labels[99])]


def test_a_broken_list_of_names_is_refused(tmp_path: Path) -> None:
    """99 names for 100 classes would shift every one behind the gap."""
    (tmp_path / "fine_label_names.txt").write_text("\n".join(f"thing{i}" for i in range(99)))
    with pytest.raises(ConfigError, match="99 names where 100 are expected"):
        datasets.load("cifar100", "test", root=tmp_path)
