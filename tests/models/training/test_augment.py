"""models.training.augment: variants of recorded images."""

from __future__ import annotations

import numpy as np

from models.datasets import Split
from models.training.augment import augmented


def test_every_variant_is_a_shifted_or_mirrored_original(rng: np.random.Generator) -> None:
    """Each by itself, by at most an eighth; labels and order stay, and the originals are not touched."""
    images = rng.integers(1, 256, (64, 3, 16, 16), np.uint8)
    split = Split(images=images.copy(), labels=np.arange(64), classes=("a",), mean=(0.0,) * 3, std=(1.0,) * 3)
    found = augmented(split, rng)
    np.testing.assert_array_equal(images, split.images)
    np.testing.assert_array_equal(split.labels, found.labels)

    kinds = set()
    for before, after in zip(images, found.images, strict=True):
        padded = np.pad(before, ((0, 0), (2, 2), (2, 2)))
        variants = {
            padded[:, dy : dy + 16, dx : dx + 16][..., ::step].tobytes(): (dy, dx, step)
            for dy in range(5)
            for dx in range(5)
            for step in (1, -1)
        }
        kinds.add(variants[after.tobytes()])
    assert len({dy for dy, _, _ in kinds}) == len({dx for _, dx, _ in kinds}) == 5
    assert {1, -1} == {step for _, _, step in kinds}
