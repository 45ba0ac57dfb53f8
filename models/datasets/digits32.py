"""`digits32`, the embedded default: real handwritten digits, rendered to 32×32 with a difficulty that is known.

The 1,797 8×8 digits that come with scikit-learn (E. Alpaydin, C. Kaynak, UCI 1998) are split by source image, so that
no drawing is in two splits. Each rendering draws a difficulty d in 0 to 1 that scales its rotation, shear, zoom, shift,
loss of contrast, noise and an occluding square: easy and hard inputs exist, and a report can tell them apart.

The same bytes come out everywhere: only PCG64's raw stream and SeedSequence (which numpy keeps stable) and operations
that IEEE 754 defines exactly are used, one at a time (no sine, no matrix product); the result is rounded to levels.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.datasets import SPLITS, Split, fixed_size

GENERATED = True
SIDE = 32
COPIES = {"train": 4, "val": 8, "test": 8}  # renderings of each source image
MEAN, STD = (0.188,), (0.259,)  # of the training split
_SPLIT_SEED = 1797
_HELD_OUT = 5  # a fifth of each class to val, one to test

# What difficulty 1 brings, the first five in either direction.
_ROTATION = np.float32(0.30)  # tangent of half the angle: ±33°
_ZOOM = np.float32(0.20)  # share
_SHIFT = np.float32(5.0)  # pixels of 32
_SHEAR = np.float32(0.20)  # share
_CONTRAST = np.float32(0.40)  # share that is lost
_NOISE = np.float32(0.45)  # share of the range
_OCCLUSION = np.float32(13.0)  # largest side of the square, pixels
_SCALE = np.float32(3.0)  # a source pixel is 3 pixels wide: a digit of 24 in 32
_ONE, _TWO, _HALF = np.float32(1), np.float32(2), np.float32(0.5)
_CHUNK = 512
_Floats = npt.NDArray[np.float32]


def load(split: str, *, root: Path, epoch: int, side: int | None) -> Split:
    """4,348 / 2,840 / 2,840 renderings of 1×32×32, difficulty known; `train` is another rendering for each epoch."""
    fixed_size("digits32", SIDE, side)
    images, labels = _sources()
    rows = np.repeat(sources(split), COPIES[split])
    stream = np.random.PCG64(
        np.random.SeedSequence([_SPLIT_SEED, SPLITS.index(split), epoch if split == "train" else 0])
    )
    rendered, difficulty = render(images[rows], stream)
    return Split(
        images=rendered,
        labels=labels[rows],
        classes=tuple(str(digit) for digit in range(10)),
        mean=MEAN,
        std=STD,
        difficulty=difficulty,
        source=rows.astype(np.int64),
    )


def sources(split: str) -> npt.NDArray[np.int64]:
    """Which of the 1,797 source images this split renders, ascending; `render` is called with each `COPIES` times."""
    _, labels = _sources()
    stream = np.random.PCG64(_SPLIT_SEED)
    chosen = []
    for digit in range(10):
        rows = np.flatnonzero(labels == digit)
        rows = rows[np.argsort(stream.random_raw(len(rows)), kind="stable")]
        n = len(rows) // _HELD_OUT
        chosen.append({"test": rows[:n], "val": rows[n : 2 * n], "train": rows[2 * n :]}[split])
    return np.sort(np.concatenate(chosen))


def render(images: npt.NDArray[np.uint8], stream: np.random.PCG64) -> tuple[npt.NDArray[np.uint8], _Floats]:
    """Draw each image once: (N, 1, 32, 32) and its difficulty (N,). images: (N, 8, 8), values 0 to 16."""
    draws = _uniform(stream, len(images) * 11).reshape(-1, 11)
    parts = [_render(images[i : i + _CHUNK], draws[i : i + _CHUNK], stream) for i in range(0, len(images), _CHUNK)]
    return np.concatenate(parts), draws[:, 0].copy()


@lru_cache(maxsize=1)
def _sources() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    from sklearn.datasets import load_digits  # only this data set needs it

    found = load_digits()
    return found.images.astype(np.uint8), found.target.astype(np.int64)


def _uniform(stream: np.random.PCG64, n: int) -> _Floats:
    """24 random bits each: multiples of 2^-24 in 0 to 1, exact in float32."""
    return (stream.random_raw(n) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def _render(images: npt.NDArray[np.uint8], draws: _Floats, stream: np.random.PCG64) -> npt.NDArray[np.uint8]:
    d = draws[:, 0]
    signed = (draws[:, 1:6] * _TWO - _ONE) * d[:, None]

    value = _sample(images, *_coordinates(signed))
    value = value * _wide(_ONE - draws[:, 6] * d * _CONTRAST)

    # The occluding square: side up to _OCCLUSION, centre anywhere, one level of grey.
    reach = (_HALF + _HALF * draws[:, 7]) * d * _OCCLUSION * _HALF
    pixels = np.arange(SIDE, dtype=np.float32)
    across, down = (np.abs(pixels[None, :] - draws[:, i, None] * np.float32(SIDE)) < reach[:, None] for i in (8, 9))
    value = np.where(down[:, :, None] & across[:, None, :], _wide(draws[:, 10]), value)

    # The sum of two uniform numbers: near enough to a bell, and exact. Little-endian: every host cuts it alike.
    raw = stream.random_raw(len(images) * SIDE * SIDE // 2).astype("<u8").view("<u2")
    bell = raw.reshape(len(images), SIDE, SIDE, 2).astype(np.float32) * np.float32(2.0**-16)
    value = value + (bell[..., 0] + bell[..., 1] - _ONE) * _wide(d * _NOISE)

    levels = np.floor(value * np.float32(255) + _HALF)
    levels = np.clip(levels, np.float32(0), np.float32(255))
    return np.expand_dims(levels.astype(np.uint8), 1)


def _coordinates(signed: _Floats) -> tuple[_Floats, _Floats]:
    """Where each pixel of the picture lies in the source, padded by one pixel: x and y, each (N, 32, 32).

    signed: (N, 5) rotation, zoom, shift across, shift down, shear, each −d to d.
    """
    # Half-angle form: a rotation with nothing but exact operations.
    tangent = signed[:, 0] * _ROTATION
    squared = tangent * tangent
    cosine, sine = (_ONE - squared) / (_ONE + squared), (tangent + tangent) / (_ONE + squared)
    size = _SCALE * (_ONE + signed[:, 1] * _ZOOM)
    grid = np.arange(SIDE, dtype=np.float32) - np.float32((SIDE - 1) / 2)
    across = grid[None, None, :] - _wide(signed[:, 2] * _SHIFT)
    down = grid[None, :, None] - _wide(signed[:, 3] * _SHIFT)
    x = (_wide(cosine) * across + _wide(sine) * down) / _wide(size)
    y = (_wide(cosine) * down - _wide(sine) * across) / _wide(size)
    x = x + _wide(signed[:, 4] * _SHEAR) * y
    # 8 pixels and a border of zeros on either side: 10, whose centre is 4.5; clipped so that both neighbours exist.
    low, high, centre = np.float32(0), np.float32(8.999), np.float32(4.5)
    return np.clip(x + centre, low, high), np.clip(y + centre, low, high)


def _sample(images: npt.NDArray[np.uint8], x: _Floats, y: _Floats) -> _Floats:
    """Bilinear: (N, 32, 32) in 0 to 1."""
    padded = np.zeros((len(images), 10, 10), np.float32)
    padded[:, 1:9, 1:9] = images.astype(np.float32) * np.float32(1 / 16)
    flat = padded.ravel()
    left, top = x.astype(np.int32), y.astype(np.int32)
    along, down = x - left.astype(np.float32), y - top.astype(np.float32)
    corner = np.arange(len(images), dtype=np.int32)[:, None, None] * 100 + top * 10 + left
    a, b, c, e = (np.take(flat, corner + offset) for offset in (0, 1, 10, 11))
    upper = a + (b - a) * along
    lower = c + (e - c) * along
    return np.asarray(upper + (lower - upper) * down)


def _wide(values: npt.NDArray[np.floating[Any]]) -> _Floats:
    """(N,) -> (N, 1, 1)"""
    return values.astype(np.float32, copy=False).reshape(-1, 1, 1)
