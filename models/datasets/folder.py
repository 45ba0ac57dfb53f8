"""A folder of images: `train/CLASS/*.png`, optionally `val/…`, and `test/…`.

Without `val` a tenth of each class of `train` is held out. Classes are the folders of `train`, sorted by name.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from hwbench.errors import ConfigError
from models.datasets import Split, hold_out, missing

_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".webp"})
_VAL_SHARE = 0.1
# ImageNet's, which networks pretrained on photographs expect.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def load(split: str, *, root: Path, epoch: int, side: int | None) -> Split:
    """Images of 3×side×side: the shorter side scaled to `side`, the centre cut out; None keeps them as they are.

    Raises ConfigError for a missing folder, an unreadable image, and for images of several sizes when side is None.
    """
    own_val = (root / "val").is_dir()
    part = "train" if split == "val" and not own_val else split
    if not (root / "train").is_dir() or not (root / part).is_dir():
        raise missing("folder", root, sorted({"train/CLASS/*.png", f"{part}/CLASS/*.png"}), "your own images")
    classes = tuple(sorted(p.name for p in (root / "train").iterdir() if p.is_dir()))
    if not classes:
        raise ConfigError(
            f"data set 'folder': {root / 'train'} holds no folders; one folder of images a class is expected"
        )
    unknown = sorted({p.name for p in (root / part).iterdir() if p.is_dir()} - set(classes))
    if unknown:
        raise ConfigError(
            f"data set 'folder': {root / part / unknown[0]} is a class that {root / 'train'} does not have"
        )

    files = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((root / part / name).glob("*"))
        if path.suffix.lower() in _SUFFIXES
    ]
    if not files:
        raise ConfigError(f"data set 'folder': no images ({', '.join(sorted(_SUFFIXES))}) under {root / part}/CLASS/")
    labels = np.array([label for _, label in files], np.int64)
    if split in ("train", "val") and not own_val:
        held = hold_out(labels, _VAL_SHARE)
        rows = np.flatnonzero(held if split == "val" else ~held)
        files, labels = [files[row] for row in rows], labels[rows]
        if not files:
            raise ConfigError(
                f"data set 'folder': {root / 'train'} has too few images to hold a tenth out; add val/CLASS/"
            )
    images = [_read(path, side) for path, _ in files]
    for (path, _), image in zip(files, images, strict=True):
        if image.shape != images[0].shape:
            raise ConfigError(
                f"{path}: {image.shape[2]}×{image.shape[1]} pixels where {files[0][0].name} has "
                f"{images[0].shape[2]}×{images[0].shape[1]}; give a side to scale all images to"
            )
    return Split(images=np.stack(images), labels=labels, classes=classes, mean=_MEAN, std=_STD)


def _read(path: Path, side: int | None) -> npt.NDArray[np.uint8]:
    """(3, H, W)"""
    from PIL import Image, UnidentifiedImageError  # only this data set needs it

    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise ConfigError(f"{path}: not an image that can be read ({error}); remove or replace it") from error
    if side is not None:
        scale = side / min(image.size)
        width, height = (max(side, round(length * scale)) for length in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - side) // 2, (height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    return np.ascontiguousarray(np.asarray(image, np.uint8).transpose(2, 0, 1))
