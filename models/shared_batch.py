"""Batch statistics over all processes of a group, for supernets trained by several (`models.training.ranks`)."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def shared() -> bool:
    """Whether other processes hold parts of the batch."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def statistics(x: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean and biased variance of each channel of x (N, C, H, W) over all processes, and the values behind each.

    Parts are equally large. Gradients flow through both, from every process to every process.
    """
    count = x.numel() // x.shape[1] * dist.get_world_size()
    mean = _sum(x.sum((0, 2, 3))) / count
    # Around the mean, not as a difference of squares: that would cancel.
    return mean, _sum((x - mean[:, None, None]).square().sum((0, 2, 3))) / count, count


def _sum(x: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(x)
    return total


class _Sum(torch.autograd.Function):
    """The sum over all processes; each one's loss depends on it, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient
