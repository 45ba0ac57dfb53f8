"""Images with labels, in three splits.

`train` is for weights and exits, `val` for thresholds and fitness, `test` is opened by nothing but verify. Each
module is a plugin, named as on the command line, with `load(split, *, root, epoch, side)` returning a `Split`.
Recorded data sets are read from `root`, by default a folder of the data set's name in `home()`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs

from hwbench import plugin
from hwbench.errors import ConfigError, nearest

SPLITS = ("train", "val", "test")
_VAL_SEED = 7


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """One split, as it is stored.

    images: (N, C, H, W) uint8. labels: (N,) int64, indices into `classes`. difficulty: (N,) float32 in 0 to 1, None
    where the data set does not know it. source: (N,) int64, what an image was rendered from; None = each is its own.
    A network reads (x / 255 − mean) / std, each (C,).
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    difficulty: npt.NDArray[np.float32] | None = None
    source: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def take(self, rows: npt.NDArray[np.integer[Any]] | slice) -> Split:
        """The samples at these rows, in that order."""
        difficulty = None if self.difficulty is None else self.difficulty[rows]
        source = None if self.source is None else self.source[rows]
        return replace(self, images=self.images[rows], labels=self.labels[rows], difficulty=difficulty, source=source)

    def inputs(self, rows: npt.NDArray[np.integer[Any]] | slice = slice(None)) -> npt.NDArray[np.float32]:
        """(n, C, H, W) float32: what a network reads, normalised."""
        mean = np.asarray(self.mean, np.float32).reshape(1, -1, 1, 1)
        std = np.asarray(self.std, np.float32).reshape(1, -1, 1, 1)
        scaled = self.images[rows].astype(np.float32)
        scaled /= np.float32(255)
        scaled -= mean
        scaled /= std
        return scaled


def names() -> tuple[str, ...]:
    """Every data set that can be asked for."""
    return plugin.names(__name__)


def load(name: str, split: str, *, root: Path | None = None, epoch: int = 0, side: int | None = None) -> Split:
    """One split of a data set.

    root: where its files lie, default `home() / name`. epoch: a generated data set renders its training split anew
    for every number; recorded ones ignore it. side: an image folder is scaled to it; others have a size of their own.
    Raises ConfigError for an unknown name or split, and for missing or broken files, naming what it looked for.
    """
    if split not in SPLITS:
        raise ConfigError(f"unknown split {split!r}{nearest(split, SPLITS)}")
    if epoch < 0:
        raise ConfigError(f"data set {name!r}: epoch {epoch} where 0 or more is expected")
    module = plugin.load(__name__, name)
    found: Split = module.load(split, root=home() / name if root is None else Path(root), epoch=epoch, side=side)
    return found


def generated(name: str) -> bool:
    """Whether the training split is rendered anew for every epoch; a recorded one is for the trainer to augment."""
    return bool(getattr(plugin.load(__name__, name), "GENERATED", False))


def home() -> Path:
    """Where recorded data sets are looked for: `HWBENCH_DATA` if set, else `datasets` in the user's data folder."""
    chosen = os.environ.get("HWBENCH_DATA")
    return Path(chosen) if chosen else platformdirs.user_data_path("hwbench") / "datasets"


def missing(name: str, root: Path, files: Sequence[str], source: str) -> ConfigError:
    """The error for files that are not there. source: where a user gets them."""
    return ConfigError(
        f"data set {name!r}: looked for {', '.join(files)} in {root}; get it from {source} and put the files there, "
        f"or set HWBENCH_DATA to the folder that holds {root.name}/"
    )


def fixed_size(name: str, own: int, side: int | None) -> None:
    """Raise ConfigError where another size is asked of a data set whose images have one."""
    if side not in (None, own):
        raise ConfigError(f"data set {name!r}: its images are {own}×{own}, {side} was asked; leave the side out")


def hold_out(labels: npt.NDArray[np.int64], share: float) -> npt.NDArray[np.bool_]:
    """(N,) true for the samples of `val`: that share of each class, the same ones every time."""
    order = np.random.PCG64(_VAL_SEED).random_raw(len(labels))
    held = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(order[rows], kind="stable")]
        held[rows[: round(len(rows) * share)]] = True
    return held
