"""Boards that run NAS-Bench-201 cells, of which the truth is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hwbench.networks_file import Networks
from models.decoders.nas_bench_201 import EDGES, OPS, decode

Board = Callable[[list[str], np.random.Generator], np.ndarray]


def names(count: int, rng: np.random.Generator) -> list[str]:
    """Different cells by name."""
    found: dict[str, None] = {}
    while len(found) < count:
        w = [f"{OPS[op]}~{source}" for op, (source, _) in zip(rng.integers(0, 5, 6), EDGES, strict=True)]
        found[f"|{w[0]}|+|{w[1]}|{w[2]}|+|{w[3]}|{w[4]}|{w[5]}|"] = None
    return list(found)


def additive(archs: list[str], rng: np.random.Generator) -> np.ndarray:
    """Costs of executed operations, with 1 % of noise."""
    (backward, *_) = decode(archs).readings
    return (2 + backward.counts @ np.array([0.1, 1.0, 3.0, 0.5, 0.2])) * rng.normal(1, 0.01, len(archs))


def fusing(archs: list[str], rng: np.random.Generator) -> np.ndarray:
    """Convolutions cost more side by side than counts can tell."""
    (backward, *_) = decode(archs).readings
    convolutions = (backward.places == 3).sum(axis=1)
    together = (backward.places[:, 3] == 3) & (backward.places[:, 5] == 3)
    return (2 + 0.5 * convolutions**2 + 4 * together) * rng.normal(1, 0.01, len(archs))


def eager(archs: list[str], rng: np.random.Generator) -> np.ndarray:
    """All that is written is executed, the zeros of `none` too."""
    written = decode(archs).readings[-1]
    return (2 + written.counts @ np.array([0.4, 0.1, 1.0, 3.0, 0.5, 0.2])) * rng.normal(1, 0.01, len(archs))


def rough(archs: list[str], rng: np.random.Generator) -> np.ndarray:
    """Sums with 8 % of noise."""
    return additive(archs, rng) * rng.normal(1, 0.08, len(archs))


def unlike(archs: list[str], rng: np.random.Generator) -> np.ndarray:
    """Whatever runs, it takes something between 1 and 2."""
    return np.asarray(rng.uniform(1, 2, len(archs)))


def measured(board: Board, count: int, rng: np.random.Generator) -> Networks:
    """Different cells on a board."""
    archs = names(count, rng)
    return Networks(family="nas-bench-201", archs=tuple(archs), values={"latency_ms": board(archs, rng)})
