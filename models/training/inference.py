"""Answers of a network for many images, batch by batch, without gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from models.datasets import Split

BATCH = 64  # twice as fast on one core as 128 or 256: the activations of a larger batch leave the caches


@torch.no_grad()
def logits(network: Callable[[Tensor], Tensor], split: Split) -> Tensor:
    """(N, classes); the network is expected in eval mode."""
    return torch.cat([network(batch(split, i, i + BATCH)) for i in range(0, len(split), BATCH)])


def accuracy(found: Tensor, split: Split) -> float:
    """The share of samples whose largest logit is at their label."""
    return float(np.mean(found.argmax(1).numpy() == split.labels))


def shuffled(split: Split, seed: int) -> Split:
    """The same samples in a random order: splits may come sorted."""
    return split.take(np.random.default_rng(seed).permutation(len(split)))


def batch(split: Split, start: int, stop: int) -> Tensor:
    """Samples start to stop, as a network reads them."""
    return torch.from_numpy(split.inputs(slice(start, stop)))
