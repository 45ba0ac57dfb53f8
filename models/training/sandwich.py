"""Trains shared weights: in each step the largest subnet, the smallest and some random ones (sandwich rule).

The largest learns from the labels and teaches the others with its probabilities (in-place distillation). Small subnets
suffer most from sharing, so the smallest weighs more, and all the others learn from the labels, too.
Source: J. Yu and T. Huang, "Universally Slimmable Networks", §3; the weights of the terms are ours, tried on `digits`.
"""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwbench.errors import ConfigError
from models.datasets import Split
from models.space import Space
from models.supernet import Supernet
from models.training.curriculum import Phase, check, phase_at, sample, smallest
from models.training.ranks import ALONE, Ranks

Source = Callable[[int], Split]
_SCHEMA = 1
_GRADIENT_NORM = 5.0
_FIRST_RATE = 0.04  # of the full learning rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How shared weights are trained.

    batch: samples a step. learning_rate: after `warmup_share` of all steps; a half cosine to 0 follows.
    smallest_weight: of the smallest subnet's loss where every other one counts 1. label_share: of the labels in the
    loss of all but the largest, the rest is its probabilities. random_count: random subnets a step.
    """

    epochs: int
    batch: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 1e-4
    warmup_share: float = 0.1
    smallest_weight: float = 2.0
    label_share: float = 0.5
    random_count: int = 2
    phases: tuple[Phase, ...] = (Phase(),)

    @property
    def digest(self) -> str:
        """Tells recipes apart."""
        return hashlib.blake2b(repr(self).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a training took, over all its starts: time on the clock, and of the processor (all threads)."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What a progress callback is told. loss: of the largest subnet, mean over the epoch. seconds: training so far."""

    epoch: int
    epochs: int
    loss: float
    seconds: float


def train(
    supernet: Supernet,
    source: Source,
    recipe: Recipe,
    *,
    seed: int,
    checkpoint: Path | None = None,
    progress: Callable[[Epoch], None] | None = None,
    ranks: Ranks = ALONE,
) -> Spent:
    """Train the supernet in place; returns the time it took.

    source: the training split of an epoch, counted from 0. Equal seeds and thread counts give equal weights.
    checkpoint: written after each epoch; a training that finds it goes on from there and ends with the same weights as
    one that was never stopped. Raises ConfigError for a checkpoint that is damaged or belongs to another training.
    ranks: processes that train together, all of which call this with the same arguments; the first writes and tells.
    Their number changes rounding alone, so a training may go on with another number.
    """
    space = supernet.space
    check(recipe.phases, space)
    cast(nn.Module, supernet).to(ranks.device)
    optimizer = _optimizer(supernet, recipe)
    key = f"{space.digest()} {recipe.digest} {seed}"
    start, spent = _resume(checkpoint, key, supernet, optimizer, ranks)
    supernet.train()
    for epoch in range(start, recipe.epochs):
        began, cpu_began = time.monotonic(), time.process_time()
        # Seeded by the epoch, so that a training resumed here draws what it would have drawn.
        rng = np.random.default_rng([seed, epoch])
        loss = _epoch(supernet, space, source(epoch), recipe, optimizer, epoch, rng, ranks)
        spent = Spent(
            seconds=spent.seconds + time.monotonic() - began,
            cpu_seconds=spent.cpu_seconds + time.process_time() - cpu_began,
        )
        if checkpoint is not None and ranks.first:
            _write(checkpoint, key, epoch + 1, spent, supernet, optimizer)
        if progress is not None and ranks.first:
            progress(Epoch(epoch=epoch + 1, epochs=recipe.epochs, loss=loss, seconds=spent.seconds))
    cast(nn.Module, supernet).cpu().eval()
    return spent


def rate(recipe: Recipe, done: float) -> float:
    """The learning rate when this share of all steps is done."""
    if done < recipe.warmup_share:
        share = _FIRST_RATE + (1 - _FIRST_RATE) * done / recipe.warmup_share
    else:
        share = 0.5 + 0.5 * math.cos(math.pi * (done - recipe.warmup_share) / (1 - recipe.warmup_share))
    return recipe.learning_rate * share


def _optimizer(supernet: Supernet, recipe: Recipe) -> torch.optim.Optimizer:
    # Normalisations and biases do not decay.
    weights = [p for p in supernet.parameters() if p.ndim > 1]
    others = [p for p in supernet.parameters() if p.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=recipe.learning_rate,
    )


def _epoch(
    supernet: Supernet,
    space: Space,
    data: Split,
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    rng: np.random.Generator,
    ranks: Ranks,
) -> float:
    mine = ranks.part(recipe.batch)
    order = rng.permutation(len(data))
    steps = len(data) // recipe.batch
    if not steps:
        raise ConfigError(f"a batch of {recipe.batch} samples asked, the training split has {len(data)}")
    total = 0.0
    for step in range(steps):
        done = (epoch + step / steps) / recipe.epochs
        for group in optimizer.param_groups:
            group["lr"] = rate(recipe, done)
        rows = order[step * recipe.batch : (step + 1) * recipe.batch][mine]
        phase = phase_at(recipe.phases, done)
        subnets = [smallest(space, phase), *sample(space, phase, recipe.random_count, rng)]
        total += _step(
            supernet,
            torch.from_numpy(data.inputs(rows)).to(ranks.device),
            torch.from_numpy(data.labels[rows]).to(ranks.device),
            [space.largest(), *subnets],
            recipe,
            optimizer,
            ranks,
        )
    return ranks.mean(total / steps)


def _step(
    supernet: Supernet,
    x: Tensor,
    labels: Tensor,
    subnets: list[Any],
    recipe: Recipe,
    optimizer: torch.optim.Optimizer,
    ranks: Ranks,
) -> float:
    """One sandwich; subnets: the largest, the smallest, random ones. Returns the largest one's loss on x."""
    optimizer.zero_grad()
    logits = supernet(x, subnets[0])
    loss = F.cross_entropy(logits, labels)
    torch.autograd.backward(loss)
    taught = F.softmax(logits.detach(), 1)
    for i, genes in enumerate(subnets[1:]):
        logits = supernet(x, genes)
        small = recipe.label_share * F.cross_entropy(logits, labels)
        small = small + (1 - recipe.label_share) * F.cross_entropy(logits, taught)
        # Gradients add up subnet by subnet, so only one graph is in memory at a time.
        torch.autograd.backward((recipe.smallest_weight if i == 0 else 1.0) * small)
    ranks.average(list(supernet.parameters()))
    nn.utils.clip_grad_norm_(supernet.parameters(), _GRADIENT_NORM)
    optimizer.step()
    return float(loss.detach())


def _write(
    path: Path, key: str, epoch: int, spent: Spent, supernet: Supernet, optimizer: torch.optim.Optimizer
) -> None:
    temporary = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"schema": _SCHEMA, "key": key, "epoch": epoch, "spent": [spent.seconds, spent.cpu_seconds]}
    # Through memory: torch reports a full disk as a RuntimeError, Python as what it is.
    buffer = io.BytesIO()
    torch.save({**state, "supernet": supernet.state_dict(), "optimizer": optimizer.state_dict()}, buffer)
    temporary.write_bytes(buffer.getvalue())
    temporary.replace(path)


def _resume(
    path: Path | None, key: str, supernet: Supernet, optimizer: torch.optim.Optimizer, ranks: Ranks
) -> tuple[int, Spent]:
    """Epochs done and time spent; none without a checkpoint. The first rank reads it, for all."""
    state = ranks.told(_read(path, key) if ranks.first else None)
    if state is None:
        return 0, Spent()
    supernet.load_state_dict(state["supernet"])
    optimizer.load_state_dict(state["optimizer"])
    seconds, cpu_seconds = state["spent"]
    return int(state["epoch"]), Spent(seconds=seconds, cpu_seconds=cpu_seconds)


def _read(path: Path | None, key: str) -> dict[str, Any] | None:
    if path is None or not path.exists():
        return None
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise ConfigError(
            f"{path}: not a whole checkpoint ({type(error).__name__}); remove it to start anew"
        ) from error
    if not isinstance(state, dict) or state.get("schema") != _SCHEMA or state.get("key") != key:
        raise ConfigError(
            f"{path}: the checkpoint of another training (space, recipe or seed differ); finish that one, remove "
            f"the file or choose another output"
        )
    return state
