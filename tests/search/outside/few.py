"""A data set from outside the project: a few of the embedded digits, enough to train on and quick."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from models.datasets import Split, digits32

_COUNT = {"train": 320, "val": 160}


@lru_cache
def _few(split: str) -> Split:
    whole = digits32.load(split, root=Path(), epoch=0, side=None)
    # Renderings are in the order of their sources: a stride takes all digits.
    return whole.take(slice(None, None, len(whole) // _COUNT[split])).take(slice(_COUNT[split]))


def load(split: str, *, root: Path, epoch: int, side: int | None) -> Split:
    """320 to train on, 160 to answer; whoever opens `test` gets a KeyError."""
    return _few(split)
