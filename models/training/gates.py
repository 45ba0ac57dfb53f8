"""Trains the gates of one network, all exits at once, on what its frozen exits answer.

What a gate learns is the routing oracle of "Hybrid Cloud-Edge Networks for Efficient Inference" (paper 004), eq. 6: to
go on is worth it only where this exit is wrong and the network's own classifier is right; where both are wrong, leaving
early costs nothing. The loss is cross-entropy with that, without the paper's coverage penalty: how many shall leave is
what the levels say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hwbench.errors import ConfigError
from models.block import GATE_HIDDEN
from models.datasets import Split
from models.exits import ExitNetwork
from models.gate import Gate, seen
from models.supernet import seed_of
from models.training.inference import BATCH, batch, shuffled

# A class that none of these samples was taken for has a probability that hardly moves; elsewhere it may.
_LEAST_SPREAD = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRecipe:
    """How gates are trained. samples: of the training split; learning_rate: of Adam, falls to 0 in a half cosine."""

    samples: int = 2048
    epochs: int = 40
    batch: int = 256
    learning_rate: float = 0.02
    decay: float = 0.01


def train_gates(network: ExitNetwork, data: Split, *, seed: int, recipe: GateRecipe | None = None) -> None:
    """Give a network with trained exits a trained gate at each of them; backbone and heads stay as they are.

    data: the training split, of which the last samples count in the order in which `train_exits` with this seed takes
    the first: on samples that a head learned from it is surer than elsewhere. Where there are fewer than both take,
    they overlap. Equal seeds and thread counts give equal gates. Raises ConfigError where data is empty.
    """
    recipe = recipe or GateRecipe()
    if not len(network.slots):
        return
    if not len(data):
        raise ConfigError("training gates takes samples, the training split has none")
    data = shuffled(data, seed).take(slice(-recipe.samples, None))
    with torch.no_grad():
        starts = range(0, len(data), BATCH)
        logits = torch.cat([torch.stack(network.eval()(batch(data, i, i + BATCH))) for i in starts], 1)
    right = logits.argmax(2) == torch.from_numpy(data.labels)
    harmless = (right[:-1] | ~right[-1]).float()
    seeds = [seed_of(f"gate slot {slot} seed {seed}") for slot in network.slots]
    trained = _fit(logits[:-1], harmless, recipe, np.random.default_rng(seed), seeds)
    for slot, gate in zip(network.slots, trained, strict=True):
        network.gates[str(slot)] = gate.requires_grad_(False).eval()


def _fit(
    logits: Tensor, harmless: Tensor, recipe: GateRecipe, rng: np.random.Generator, seeds: Sequence[int]
) -> list[Gate]:
    """One gate an exit. logits: (S, N, classes); harmless: (S, N), 1 where leaving is.  seeds: of their first weights.

    Inputs are standardised while training; the first layer then takes that over, so that a gate reads logits as is.
    """
    x = seen(logits)
    mean, spread = x.mean(1, keepdim=True), x.std(1, correction=0, keepdim=True).clamp_min(_LEAST_SPREAD)
    x = (x - mean) / spread
    exits, count, width = x.shape
    fresh = [_fresh(width, seed) for seed in seeds]
    inner, outer = (torch.stack(tensors) for tensors in zip(*fresh, strict=True))
    weights = [inner, torch.zeros(exits, 1, GATE_HIDDEN), outer, torch.zeros(exits, 1, 1)]
    for tensor in weights:
        tensor.requires_grad_(True)
    optimizer = torch.optim.AdamW(weights, lr=recipe.learning_rate, weight_decay=recipe.decay)
    size = min(recipe.batch, count)
    steps = count // size
    for step in range(steps * recipe.epochs):
        if step % steps == 0:
            order = torch.from_numpy(rng.permutation(count))
        rows = order[step % steps * size : (step % steps + 1) * size]
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * (0.5 + 0.5 * math.cos(math.pi * step / (steps * recipe.epochs)))
        optimizer.zero_grad()
        hidden = torch.relu(torch.baddbmm(weights[1], x[:, rows], weights[0]))
        said = torch.baddbmm(weights[3], hidden, weights[2])[..., 0]
        # Summed over exits: each gate's gradient is that of its own mean loss, as if it were trained alone.
        loss = F.binary_cross_entropy_with_logits(said, harmless[:, rows], reduction="none").mean(1).sum()
        torch.autograd.backward(loss)
        optimizer.step()
    return [_gate(mean[s, 0], spread[s, 0], *(tensor.detach()[s] for tensor in weights)) for s in range(exits)]


def _fresh(width: int, seed: int) -> tuple[Tensor, Tensor]:
    """First weights of both layers, which keep the scale of what they read."""
    drawn = torch.Generator().manual_seed(seed)
    inner = torch.randn(width, GATE_HIDDEN, generator=drawn) / math.sqrt(width)
    return inner, torch.randn(GATE_HIDDEN, 1, generator=drawn) / math.sqrt(GATE_HIDDEN)


@torch.no_grad()
def _gate(mean: Tensor, spread: Tensor, inner: Tensor, first: Tensor, outer: Tensor, last: Tensor) -> Gate:
    gate = Gate((len(mean) - 1) // 2)
    gate.hidden.weight.copy_((inner / spread[:, None]).T)
    gate.hidden.bias.copy_(first[0] - (mean / spread) @ inner)
    gate.out.weight.copy_(outer.T)
    gate.out.bias.copy_(last[0])
    return gate
