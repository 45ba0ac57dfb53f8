"""models.training.job: from names to a weights file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hwbench.errors import ConfigError
from models import datasets, supernet
from models.space import load_space
from models.training.job import open_data, supernet_job
from models.training.sandwich import Epoch, Recipe

TINY = """
schema = 1
[space]
name = "tiny"
classes = 2
channels = 3
resolutions = [16]
stages = [{ widths = [8, 16], depths = [1, 2], kernels = [3], expands = [2], stride = 2 }]
[space.stem]
widths = [8]
"""
RECIPE = Recipe(epochs=2, batch=128)


@pytest.fixture
def space(tmp_path: Path) -> str:
    """A user's own space."""
    (tmp_path / "tiny.toml").write_text(TINY)
    return str(tmp_path / "tiny.toml")


@pytest.fixture
def images(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Dark and bright images, 16×16."""
    for part, count in (("train", 150), ("test", 4)):
        for label, name in enumerate(("dark", "bright")):
            folder = tmp_path / "images" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 100, (16, 16, 3)) + 120 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:03}.png")
    return tmp_path / "images"


def test_a_stopped_job_writes_the_weights_of_one_that_was_not(space: str, images: Path, tmp_path: Path) -> None:
    """The same bytes of weights, and the file to resume from is gone at the end."""

    def job(out: str, **more: object) -> dict[str, str]:
        return supernet_job(space, "folder", out=tmp_path / out, root=images, seed=3, recipe=RECIPE, **more)  # type: ignore[arg-type]

    def stop(told: Epoch) -> None:
        raise KeyboardInterrupt

    done = job("whole.st", command="search train")
    with pytest.raises(KeyboardInterrupt):
        job("stopped.st", progress=stop)
    assert not (tmp_path / "stopped.st").exists() and (tmp_path / "stopped.st.resume").exists()
    job("stopped.st")
    assert not (tmp_path / "stopped.st.resume").exists()

    (whole, metadata), (stopped, _) = (
        supernet.load(tmp_path / f"{name}.st", load_space(space)) for name in ("whole", "stopped")
    )
    expected = whole.state_dict()
    assert all(torch.equal(expected[name], tensor) for name, tensor in stopped.state_dict().items())
    assert done.items() <= metadata.items()
    assert ("folder", "3", "search train") == tuple(done[k] for k in ("dataset", "seed", "command"))
    assert 0 <= float(done["val_accuracy_smallest"]) <= 1


@pytest.mark.parametrize(("name", "words"), [("sdu", "3 channels in 10 classes"), ("attentivenas", "1000 classes")])
def test_images_that_do_not_fit_the_space_are_refused(name: str, words: str) -> None:
    """Before anything is trained."""
    with pytest.raises(ConfigError, match=f"{words}, data set 'digits32' has 1 channels and 10 classes"):
        open_data(load_space(name), "digits32")


def test_another_seed_trains_on_other_renderings() -> None:
    """And no epoch of one seed is an epoch of another; val is the same for all."""
    space = load_space("digits")
    (first, val), (second, other_val) = (open_data(space, "digits32", seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(first(0).images, datasets.load("digits32", "train", epoch=0).images)
    assert (first(0).images != second(0).images).any()
    np.testing.assert_array_equal(val.images, other_val.images)


def test_recorded_images_come_in_other_variants_each_epoch(space: str, images: Path) -> None:
    """Shifted and mirrored, and the same ones again for the same epoch."""
    source, _ = open_data(load_space(space), "folder", root=images)
    np.testing.assert_array_equal(source(1).images, source(1).images)
    assert (source(0).images != source(1).images).any()
