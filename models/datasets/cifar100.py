"""CIFAR-100 from its binary files: `train.bin`, `test.bin`, `fine_label_names.txt`; the fine labels count."""

from __future__ import annotations

from pathlib import Path

from hwbench.errors import ConfigError
from models.datasets import Split
from models.datasets._cifar import read

_CLASS_COUNT = 100
_NAMES = "fine_label_names.txt"


def load(split: str, *, root: Path, epoch: int, side: int | None) -> Split:
    """45,000 / 5,000 / 10,000 images of 3×32×32. Mean and deviation are those of the 50,000 training images."""
    return read(
        "cifar100",
        split,
        root=root,
        side=side,
        train=("train.bin",),
        test=("test.bin",),
        label_count=2,
        classes=_classes(root / _NAMES),
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
    )


def _classes(path: Path) -> tuple[str, ...]:
    """The names that come with the data; numbers where that file was left behind."""
    if not path.is_file():
        return tuple(str(i) for i in range(_CLASS_COUNT))
    try:
        found = tuple(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); copy it again or remove it") from error
    if len(found) != _CLASS_COUNT:
        raise ConfigError(f"{path}: {len(found)} names where {_CLASS_COUNT} are expected; copy it again or remove it")
    return found
