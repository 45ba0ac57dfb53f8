"""Exits trained inside the supernet against exits that each backbone trains: accuracy on val, and time."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from hwbench.pytest_plugin import HwbenchSeconds
from models import datasets
from models.supernet import load
from models.training.exits import answer, train_exits
from models.training.shared_exits import load_shared, with_shared_exits

N, SEED = 12, 30
CHECKPOINTS = Path(__file__).parents[2] / "models" / "checkpoints"


def test_shared_exits_are_no_worse_and_take_less_time(hwbench_seconds: HwbenchSeconds) -> None:
    """On random backbones of `digits`, each exit against its twin."""
    supernet, _ = load(CHECKPOINTS / "digits.safetensors")
    heads = load_shared(CHECKPOINTS / "exits" / "digits.safetensors", supernet)
    train, val = (datasets.load("digits32", split) for split in ("train", "val"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        gains, took = [], []
        for genes in supernet.space.sample(N, np.random.default_rng(SEED)).tolist():
            began = time.process_time()
            shared = answer(with_shared_exits(supernet, heads, genes, train, seed=0), val)
            between = time.process_time()
            own = answer(train_exits(supernet, genes, train, seed=0), val)
            took.append((between - began, time.process_time() - between))
            right = [(a.answer[:, :-1] == val.labels[:, None]).mean(0) for a in (shared, own)]
            gains.append(100 * (right[0] - right[1]))
    finally:
        torch.set_num_threads(threads)
    every = np.concatenate(gains)
    shared_s, own_s = np.array(took).T
    # Backbones differ: their sum is what a search pays.
    hwbench_seconds(shared_s.sum(), "shared")
    hwbench_seconds(own_s.sum(), "own")
    ratio = np.median(own_s / shared_s)
    spread = f"mean {every.mean():+.2f}, {every.min():+.1f} to {every.max():+.1f}"
    print(f"\n{len(every)} exits of {N} backbones, seed {SEED}; shared − own in points on val: {spread}")
    print(f"time of own ÷ shared: median {ratio:.1f}")
    assert every.mean() > -1
    assert ratio > 1.5
