"""CIFAR-10 from its binary files: `data_batch_1.bin` … `data_batch_5.bin`, `test_batch.bin`."""

from __future__ import annotations

from pathlib import Path

from models.datasets import Split
from models.datasets._cifar import read

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def load(split: str, *, root: Path, epoch: int, side: int | None) -> Split:
    """45,000 / 5,000 / 10,000 images of 3×32×32. Mean and deviation are those of the 50,000 training images."""
    return read(
        "cifar10",
        split,
        root=root,
        side=side,
        train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        test=("test_batch.bin",),
        label_count=1,
        classes=CLASSES,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
    )
