"""models/checkpoints: the trained supernet that ships."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

import models
from models import datasets, supernet
from models.supernet import Supernet
from models.training.inference import accuracy, logits, shuffled
from models.training.recalibrate import recalibrate

DIGITS = Path(models.__file__).parent / "checkpoints" / "digits.safetensors"


@pytest.fixture(scope="module")
def shipped() -> tuple[Supernet, dict[str, str]]:
    """`load` checks the digest of the weights, and that the space is still the one they were trained for."""
    return supernet.load(DIGITS)


def test_it_is_at_most_3_megabytes() -> None:
    """It travels inside the package."""
    assert DIGITS.stat().st_size <= 3_000_000


def test_it_says_how_it_was_made(shipped: tuple[Supernet, dict[str, str]]) -> None:
    """The command that makes it again, with its seed and the time it took: less than 20 minutes of two cores."""
    _, metadata = shipped
    assert "search train --space digits --seed 0" == metadata["command"]
    assert ("digits", "digits32", "0") == tuple(metadata[k] for k in ("space", "dataset", "seed"))
    assert 0 < float(metadata["cpu_seconds"]) < 2 * 20 * 60
    assert {"seconds", "threads", "torch", "recipe"} <= set(metadata)


def test_the_smallest_network_is_as_accurate_as_it_says(shipped: tuple[Supernet, dict[str, str]]) -> None:
    """On val, within a point: another machine rounds otherwise."""
    net, metadata = shipped
    parts = net.extract(net.space.smallest().tolist())
    recalibrate(parts, shuffled(datasets.load("digits32", "train"), 0))
    val = datasets.load("digits32", "val")
    found = accuracy(logits(partial(supernet.run, parts), val), val)
    assert float(metadata["val_accuracy_smallest"]) == pytest.approx(found, abs=0.01)
