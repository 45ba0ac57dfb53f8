"""Random variants of recorded training images: shifted by up to an eighth of their side, half of them mirrored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.datasets import Split

_SHIFT_SHARE = 8  # 4 of 32 pixels, the usual augmentation of CIFAR


def augmented(split: Split, rng: np.random.Generator) -> Split:
    """Another variant of every image, in the same order; what moves in from outside is 0."""
    count, _, height, width = split.images.shape
    down, across = height // _SHIFT_SHARE, width // _SHIFT_SHARE
    padded = np.pad(split.images, ((0, 0), (0, 0), (down, down), (across, across)))
    # Windows are views; only the chosen one of each image is copied.
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
    images = windows[np.arange(count), :, rng.integers(0, 2 * down + 1, count), rng.integers(0, 2 * across + 1, count)]
    mirrored = rng.random(count) < 0.5
    images[mirrored] = images[mirrored][..., ::-1]
    return replace(split, images=images)
