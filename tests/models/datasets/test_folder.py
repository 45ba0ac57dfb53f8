"""models.datasets.folder: images of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwbench.errors import ConfigError
from models import datasets


@pytest.fixture
def images(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Two classes, twenty 6×4 images each (width × height), red like their number; half as many to test."""
    for part, count in (("train", 20), ("test", 10)):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (4, 6, 3), np.uint8)
                pixels[..., 0] = 100 * label + i
                Image.fromarray(pixels).save(tmp_path / part / name / f"{i:02}.png")
    (tmp_path / "train" / "cat" / "notes.txt").write_text("not an image")
    return tmp_path


def test_classes_are_folders_and_a_tenth_is_held_out(images: Path) -> None:
    """Every image is read once, with its class."""
    train, val, test = (datasets.load("folder", split, root=images) for split in datasets.SPLITS)
    assert (36, 4, 20) == (len(train), len(val), len(test))
    assert (("cat", "dog"), (3, 4, 6)) == (train.classes, train.shape)
    red = np.concatenate([train.images[:, 0, 0, 0], val.images[:, 0, 0, 0]])
    assert sorted([*range(20), *range(100, 120)]) == sorted(red.tolist())
    np.testing.assert_array_equal(train.images[:, 0, 0, 0] >= 100, train.labels == 1)


def test_a_folder_of_its_own_is_val(images: Path) -> None:
    """Then nothing is held out of train."""
    (images / "test").rename(images / "val")
    assert (40, 20) == tuple(len(datasets.load("folder", split, root=images)) for split in ("train", "val"))


def test_a_side_scales_the_shorter_side_and_cuts_the_centre(tmp_path: Path) -> None:
    """A picture that is red on the left, green in the middle, blue on the right, keeps its middle."""
    picture = np.zeros((8, 24, 3), np.uint8)
    for i in range(3):
        picture[:, 8 * i : 8 * (i + 1), i] = 255
    for part in ("train", "test"):
        (tmp_path / part / "flag").mkdir(parents=True)
        Image.fromarray(picture).save(tmp_path / part / "flag" / "a.png")
    test = datasets.load("folder", "test", root=tmp_path, side=8)
    assert (3, 8, 8) == test.shape
    assert (test.images[0, 1] == 255).all() and (test.images[0, [0, 2]] == 0).all()


def test_images_of_several_sizes_need_a_side(images: Path) -> None:
    """The first that differs is named."""
    Image.new("RGB", (5, 5)).save(images / "test" / "dog" / "05.png")
    with pytest.raises(ConfigError, match=r"05\.png: 5×5 pixels where 00\.png has 6×4; give a side"):
        datasets.load("folder", "test", root=images)


def test_a_damaged_image_is_named(images: Path) -> None:
    """One line with the file, no stack of PIL."""
    (images / "test" / "cat" / "03.png").write_bytes(b"not a picture")
    with pytest.raises(ConfigError, match=r"03\.png: not an image"):
        datasets.load("folder", "test", root=images)


def test_a_missing_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    """And where."""
    with pytest.raises(ConfigError, match=r"train/CLASS/\*\.png in"):
        datasets.load("folder", "train", root=tmp_path / "nothing")


def test_a_class_that_train_lacks_is_refused(images: Path) -> None:
    """Its label would have no meaning."""
    (images / "test" / "bird").mkdir()
    with pytest.raises(ConfigError, match="bird is a class that"):
        datasets.load("folder", "test", root=images)
