"""CIFAR's own binary files: records of label bytes and 3×32×32 image bytes, nothing around them.

Source: the data sets' page (A. Krizhevsky), "Binary version": the first byte is the label (CIFAR-100: coarse, then
fine), the next 3072 are the pixels, red, green, blue, each row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hwbench.errors import ConfigError
from models.datasets import Split, fixed_size, hold_out, missing

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
_VAL_SHARE = 0.1
_HOME = "https://www.cs.toronto.edu/~kriz/cifar.html"


def parse(
    data: bytes, *, label_count: int, class_count: int, where: str
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images (N, 3, 32, 32) and labels (N,) of one file; of several labels the last (finest) one counts.

    Raises ConfigError naming `where` for a file cut short and for a label that does not exist.
    """
    size = label_count + _PIXELS
    if not data or len(data) % size:
        raise ConfigError(
            f"{where}: {len(data)} bytes are no whole number of records of {size}; the file is cut short or is not the "
            f"binary version, copy it again"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, size)
    labels = records[:, label_count - 1].astype(np.int64)
    wrong = np.flatnonzero(labels >= class_count)
    if len(wrong):
        raise ConfigError(
            f"{where}: record {wrong[0]} has label {labels[wrong[0]]}, allowed are 0 to {class_count - 1}; "
            f"is it the binary version of this data set?"
        )
    return records[:, label_count:].reshape(-1, 3, _SIDE, _SIDE).copy(), labels


def read(
    name: str,
    split: str,
    *,
    root: Path,
    side: int | None,
    train: Sequence[str],
    test: Sequence[str],
    label_count: int,
    classes: tuple[str, ...],
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Split:
    """One split; `val` is a tenth of each class of the training files. Raises ConfigError."""
    fixed_size(name, _SIDE, side)
    files = test if split == "test" else train
    if not all((root / file).is_file() for file in files):
        raise missing(name, root, files, f"{_HOME} (binary version)")
    parts = []
    for file in files:
        try:
            data = (root / file).read_bytes()
        except OSError as error:
            raise ConfigError(f"{root / file}: cannot be read ({error.strerror})") from error
        parts.append(parse(data, label_count=label_count, class_count=len(classes), where=str(root / file)))
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    found = Split(images=images, labels=labels, classes=classes, mean=mean, std=std)
    if split == "test":
        return found
    held = hold_out(labels, _VAL_SHARE)
    return found.take(np.flatnonzero(held if split == "val" else ~held))
