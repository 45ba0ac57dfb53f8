"""Batch normalisation of one subnet: the shared running statistics fit none, so they are measured anew.

Source: once-for-all §3.3 and HADAS (statistics are recalibrated for each subnet on training data).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hwbench.errors import ConfigError
from models.datasets import Split
from models.exits import ExitNetwork
from models.supernet import Part, run
from models.training.inference import BATCH, batch

SAMPLES = 1024


def recalibrate(parts: Sequence[Part], data: Split, *, samples: int = SAMPLES) -> None:
    """Replace the running mean and variance of every normalisation by the average over training batches.

    data: of the training split, in random order; its first `samples` count, at least a whole batch. Only those
    statistics change: weights and modes stay as they are. Raises ConfigError where data has less than a batch.
    """
    _measure([part.module for part in parts], lambda x: run(parts, x), data, samples)


def recalibrate_heads(network: ExitNetwork, data: Split, *, samples: int = SAMPLES) -> None:
    """The same for the exits of a network, and for them only, behind its backbone as it is."""
    _measure(list(network.heads.values()), network, data, samples)


@torch.no_grad()
def _measure(modules: Sequence[nn.Module], forward: Callable[[Tensor], object], data: Split, samples: int) -> None:
    layers = [m for module in modules for m in module.modules() if isinstance(m, _BatchNorm)]
    count = min(samples, len(data)) // BATCH
    if count < 1:
        raise ConfigError(f"recalibrating normalisation needs {BATCH} training samples, there are {len(data)}")
    before = [(layer.training, layer.momentum) for layer in layers]
    modes = [(m, m.training) for module in modules for m in module.modules()]
    try:
        for module in modules:
            module.eval()
        for layer in layers:
            layer.train()
            layer.reset_running_stats()
            layer.momentum = None  # the plain mean of all batches
        for i in range(count):
            forward(batch(data, i * BATCH, (i + 1) * BATCH))
    finally:
        for m, training in modes:
            m.training = training
        for layer, (training, momentum) in zip(layers, before, strict=True):
            layer.training, layer.momentum = training, momentum


def statistics(module: nn.Module) -> dict[str, torch.Tensor]:
    """What `recalibrate` sets, by name: running means and variances."""
    return {
        name: tensor for name, tensor in module.state_dict().items() if name.endswith(("running_mean", "running_var"))
    }
