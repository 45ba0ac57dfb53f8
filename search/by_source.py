"""Accuracies with their chance: samples rendered from one source image are right or wrong together, so those are drawn.

Shapes: N samples, G source images.
"""

from __future__ import annotations

import numpy as np

_RESAMPLES = 2000


def counts(right: np.ndarray, source: np.ndarray | None) -> np.ndarray:
    """(G, 2): right answers and samples of each source image; right (N,), source (N,), None = each is its own."""
    _, inverse = np.unique(np.arange(len(right)) if source is None else source, return_inverse=True)
    return np.stack([np.bincount(inverse, weights=right), np.bincount(inverse)], axis=1)


def accuracy(counted: np.ndarray) -> float:
    """Of (G, 2) counts."""
    right, samples = counted.sum(axis=0)
    return float(right / samples)


def resampled(counted: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Accuracies of 2,000 bootstrap samples of the source images, (2000,); equal generators draw the same images."""
    drawn = counted[rng.integers(len(counted), size=(_RESAMPLES, len(counted)))].sum(axis=1)
    return np.asarray(drawn[:, 0] / drawn[:, 1])
