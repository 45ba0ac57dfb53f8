"""models.datasets.digits32: frozen bytes, known difficulty, splits that share no drawing."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from models import datasets
from models.datasets import Split, digits32

TEST_SHA256 = "1c9900c7251c1ab270f15d91678d7b36bda08218ddd5b1d3fbbaf16e1fac1695"


@pytest.fixture(scope="module")
def verified() -> Split:
    """The split that verify opens."""
    return datasets.load("digits32", "test")


@pytest.fixture(scope="module")
def neighbours_right(verified: Split) -> np.ndarray:
    """(N,) whether five nearest neighbours on raw pixels name the digit."""
    train = datasets.load("digits32", "train")
    classifier = KNeighborsClassifier(5).fit(_pixels(train), train.labels)
    return classifier.predict(_pixels(verified)) == verified.labels


def test_the_test_split_is_frozen_byte_for_byte(verified: Split) -> None:
    """Every figure that was ever reported on it was reported on these bytes: images, labels, difficulties."""
    content = verified.images.tobytes() + verified.labels.tobytes()
    assert verified.difficulty is not None
    assert TEST_SHA256 == hashlib.sha256(content + verified.difficulty.tobytes()).hexdigest()


def test_five_nearest_neighbours_are_right_for_74_to_81_percent(neighbours_right: np.ndarray) -> None:
    """Neither trivial nor hopeless without a network."""
    assert 0.74 <= neighbours_right.mean() <= 0.81


def test_harder_samples_are_recognised_less_often(verified: Split, neighbours_right: np.ndarray) -> None:
    """Quarter by quarter of the difficulty, by at least two points: it means what it says."""
    assert verified.difficulty is not None
    quarter = np.minimum((verified.difficulty * 4).astype(int), 3)
    shares = [neighbours_right[quarter == q].mean() for q in range(4)]
    assert all(harder < easier - 0.02 for easier, harder in itertools.pairwise(shares)), shares


def test_splits_share_no_source_image() -> None:
    """Every drawing is in exactly one split, each digit in the same proportion."""
    rows = {split: digits32.sources(split) for split in datasets.SPLITS}
    assert list(range(1797)) == sorted(np.concatenate(list(rows.values())).tolist())
    assert (355, 355) == (len(rows["val"]), len(rows["test"]))


def test_each_source_is_rendered_as_often_as_promised(verified: Split) -> None:
    """Labels follow the sources, copy by copy; no two renderings are alike."""
    assert digits32.COPIES["test"] * 355 == len(verified) == len(np.unique(verified.images, axis=0))
    copies = verified.labels.reshape(355, digits32.COPIES["test"])
    assert (copies == copies[:, :1]).all()


def test_an_epoch_is_rendered_anew_and_repeats() -> None:
    """Training sees fresh images of the same drawings, but another run sees the same ones."""
    first, again, other = (datasets.load("digits32", "train", epoch=e) for e in (3, 3, 4))
    np.testing.assert_array_equal(first.images, again.images)
    np.testing.assert_array_equal(first.labels, other.labels)
    assert (first.images != other.images).mean() > 0.1


def test_held_out_splits_are_the_same_in_every_epoch(verified: Split) -> None:
    """Only training is rendered anew."""
    np.testing.assert_array_equal(verified.images, datasets.load("digits32", "test", epoch=5).images)


def test_renderings_of_no_difficulty_are_the_drawing_itself() -> None:
    """Difficulty 0 scales everything to nothing: the picture is the source, three times as large, in the middle."""

    class Zeros:
        def random_raw(self, n: int) -> np.ndarray:
            return np.zeros(n, np.uint64)

    drawing = np.zeros((1, 8, 8), np.uint8)
    drawing[0, 2:6, 2:6] = 16
    picture, difficulty = digits32.render(drawing, Zeros())  # type: ignore[arg-type]
    assert 0 == difficulty[0]
    assert 255 == picture[0, 0, 15, 15] and 0 == picture[0, 0, 5, 5]
    assert 12 * 12 - 4 == (picture[0, 0] > 127).sum()  # bilinear: its four corners are rounded off


def test_the_stated_mean_and_deviation_are_those_of_the_training_split() -> None:
    """To the three digits that are stated."""
    pixels = datasets.load("digits32", "train").images / 255
    assert digits32.MEAN == (round(pixels.mean(), 3),)
    assert digits32.STD == (round(pixels.std(), 3),)


def _pixels(split: Split) -> np.ndarray:
    return split.images.reshape(len(split), -1).astype(np.float32)
