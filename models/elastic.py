"""Weights shared by many widths, kernels and expansions: a smaller layer is the leading part of the largest.

Channels are cut from the front and kernels from the centre, so the shape of a tensor says which part it is.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwbench.errors import ConfigError
from models import shared_batch


def cut(tensor: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """A view of `shape`: leading channels, and of a convolution's weight the centre of its kernel.

    Raises ConfigError where the tensor is too small for it.
    """
    if tensor.ndim != len(shape) or any(small > large for small, large in zip(shape, tensor.shape, strict=True)):
        raise ConfigError(f"a tensor of shape {tuple(tensor.shape)} cannot lend one of shape {tuple(shape)}")
    for axis, length in enumerate(shape):
        if tensor.shape[axis] != length:
            # Axes 2 and 3 of a weight are its kernel; both sides are odd, so the margins are equal.
            start = (tensor.shape[axis] - length) // 2 if axis >= 2 else 0
            tensor = tensor.narrow(axis, start, length)
    return tensor


@torch.no_grad()
def lend(source: nn.Module, target: nn.Module) -> None:
    """Copy into each parameter and buffer of `target` the part of the same name in `source`; nothing is shared."""
    lent: Mapping[str, Tensor] = source.state_dict()
    for name, own in target.state_dict().items():
        if name not in lent:
            raise ConfigError(f"the shared weights hold no {name!r}")
        own.copy_(cut(lent[name], own.shape))


def convolve(
    layer: nn.Conv2d, x: Tensor, channels: int, *, kernel: int = 1, stride: int = 1, depthwise: bool = False
) -> Tensor:
    """Apply the part of a convolution without bias that maps x's channels to `channels`, padded to keep the size."""
    entering = 1 if depthwise else x.shape[1]
    weight = cut(layer.weight, (channels, entering, kernel, kernel))
    return F.conv2d(x, weight, stride=stride, padding=kernel // 2, groups=channels if depthwise else 1)


def normalise(layer: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Apply the leading part of a batch normalisation; in training its running statistics follow in that part only.

    With momentum None they are the plain mean of all batches since `reset_running_stats`, as torch has it.
    Where several processes share a batch, its statistics are those of the whole.
    """
    n = x.shape[1]
    mean, var = layer.running_mean, layer.running_var
    assert mean is not None and var is not None
    share = 0.0 if layer.momentum is None else layer.momentum
    if layer.training and layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
        if layer.momentum is None:
            share = 1.0 / float(layer.num_batches_tracked)
    if layer.training and shared_batch.shared():
        now, spread, count = shared_batch.statistics(x)
        with torch.no_grad():
            mean[:n].lerp_(now, share)
            var[:n].lerp_(spread * (count / (count - 1)), share)
        factor = layer.weight[:n] * torch.rsqrt(spread + layer.eps)
        return (x - now[:, None, None]) * factor[:, None, None] + layer.bias[:n, None, None]
    return F.batch_norm(x, mean[:n], var[:n], layer.weight[:n], layer.bias[:n], layer.training, share, layer.eps)


def connect(layer: nn.Linear, x: Tensor, features: int) -> Tensor:
    """Apply the part of a linear layer that maps x's features to `features`."""
    return F.linear(x, layer.weight[:features, : x.shape[1]], layer.bias[:features])


def pointwise(layer: nn.Conv2d, x: Tensor, channels: int) -> Tensor:
    """Apply the part of a 1×1 convolution with bias that maps x's channels to `channels`."""
    bias = None if layer.bias is None else layer.bias[:channels]
    return F.conv2d(x, layer.weight[:channels, : x.shape[1]], bias)
