"""MobileNetV3-like networks: single blocks, and a supernet elastic in width, depth, kernel, expansion and resolution.

Each block is a plain module for export. The supernet keeps, for each slot of its space, the largest module that the
slot can hold, and runs every block that the slot can hold with the leading part of those weights; depth leaves slots
out.
It realises any space whose blocks are of the kinds stem, mbconv, tail and head, however its slots were written.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwbench.errors import ConfigError
from models.elastic import connect, convolve, lend, normalise, pointwise
from models.space import Block, Space
from models.supernet import Part, seed_of, seeded

_ACTIVATIONS = {"relu": nn.ReLU, "relu6": nn.ReLU6, "hswish": nn.Hardswish, "swish": nn.SiLU}


def supernet(space: Space, seed: int = 0) -> MobileNetV3:
    """A supernet with fresh weights; the same seed gives the same weights."""
    with seeded(seed):
        return MobileNetV3(space)


def build(block: Block, salt: str = "") -> nn.Module:
    """The block alone in eval mode, weights seeded by its key and `salt`."""
    with seeded(seed_of(block.key + salt)):
        module = _module(block)
        initialise(module)
    return module.eval()


def convolution(
    channels: int, width: int, kernel: int, *, stride: int = 1, groups: int = 1, act: str = ""
) -> nn.Module:
    """Convolution, batch normalisation and, if named, an activation."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = nn.Conv2d(channels, width, kernel, stride, kernel // 2, groups=groups, bias=False)
    layers["bn"] = nn.BatchNorm2d(width)
    if act:
        layers["act"] = _ACTIVATIONS[act]()
    return nn.Sequential(layers)


class Stem(nn.Module):
    """Scales the image where the block says so, then one convolution."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block
        self.first = convolution(
            block.in_shape[0], block.out_shape[0], block.kernel, stride=block.stride, act=block.act
        )

    def forward(self, x: Tensor) -> Tensor:
        """x: images as they arrive."""
        if self.block.resize:
            x = scale(x, self.block.resize)
        return self.first(x)

    def elastic(self, x: Tensor, block: Block) -> Tensor:
        """Run `block` with the leading part of these weights; images of any side are scaled to its resolution."""
        side = block.resize or block.in_shape[1]
        x = scale(x, side) if x.shape[-1] != side else x
        return _elastic(self.first, x, block.out_shape[0], kernel=block.kernel, stride=block.stride)


class SqueezeExcite(nn.Module):
    """Weighs channels by a small network on their means. Source: MobileNetV3 §5.3 (hard sigmoid)."""

    def __init__(self, channels: int, bottleneck: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, bottleneck, 1)
        self.widen = nn.Conv2d(bottleneck, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The channels of x, weighed."""
        return x * F.hardsigmoid(self.widen(F.relu(self.reduce(x.mean((2, 3), keepdim=True)))))

    def elastic(self, x: Tensor, bottleneck: int) -> Tensor:
        """The same with the leading part of the weights."""
        z = F.relu(pointwise(self.reduce, x.mean((2, 3), keepdim=True), bottleneck))
        return x * F.hardsigmoid(pointwise(self.widen, z, x.shape[1]))


class MBConv(nn.Module):
    """Expand, filter each channel, optionally weigh channels, project; add the input where shapes allow."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block
        channels, width, hidden, act = block.in_shape[0], block.out_shape[0], block.hidden, block.act
        self.expand = convolution(channels, hidden, 1, act=act) if block.expand > 1 else None
        self.depthwise = convolution(hidden, hidden, block.kernel, stride=block.stride, groups=hidden, act=act)
        self.squeeze = SqueezeExcite(hidden, block.squeeze) if block.squeeze else None
        self.project = convolution(hidden, width, 1)
        self.shortcut = nn.Conv2d(channels, width, 1, bias=False) if block.shortcut else None

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, *in_shape)."""
        y = x if self.expand is None else self.expand(x)
        y = self.depthwise(y)
        if self.squeeze is not None:
            y = self.squeeze(y)
        y = self.project(y)
        if self.block.residual:
            return x + y
        return y if self.shortcut is None else y + self.shortcut(_smaller(x, self.block.stride))

    def elastic(self, x: Tensor, block: Block) -> Tensor:
        """Run `block` with the leading part of these weights."""
        y = x
        if block.expand > 1:
            assert self.expand is not None
            y = _elastic(self.expand, y, block.hidden)
        y = _elastic(self.depthwise, y, block.hidden, kernel=block.kernel, stride=block.stride, depthwise=True)
        if block.squeeze:
            assert self.squeeze is not None
            y = self.squeeze.elastic(y, block.squeeze)
        y = _elastic(self.project, y, block.out_shape[0])
        if block.residual:
            return x + y
        if block.shortcut:
            assert self.shortcut is not None
            return y + pointwise(self.shortcut, _smaller(x, block.stride), block.out_shape[0])
        return y


class Tail(nn.Module):
    """Optional convolution, pooling, optional layer, classifier."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block
        features = block.in_shape[0]
        self.conv = convolution(features, block.hidden, 1, act=block.act) if block.hidden else None
        features = block.hidden or features
        self.last = nn.Linear(features, block.last) if block.last else None
        self.act = _ACTIVATIONS[block.act]()
        self.classifier = nn.Linear(block.last or features, block.out_shape[0])

    def pooled(self, x: Tensor) -> Tensor:
        """(N, features): what the classifier reads."""
        x = (x if self.conv is None else self.conv(x)).mean((2, 3))
        return x if self.last is None else self.act(self.last(x))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes)."""
        return self.classifier(self.pooled(x))

    def elastic(self, x: Tensor, block: Block) -> Tensor:
        """Run `block` with the leading part of these weights."""
        if block.hidden:
            assert self.conv is not None
            x = _elastic(self.conv, x, block.hidden)
        x = x.mean((2, 3))
        if block.last:
            assert self.last is not None
            x = self.act(connect(self.last, x, block.last))
        return connect(self.classifier, x, block.out_shape[0])


class Head(nn.Module):
    """The head of an exit: one convolution with batch normalisation and activation, pooling, classifier."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.conv = convolution(block.in_shape[0], block.hidden, block.kernel, act=block.act)
        self.classifier = nn.Linear(block.hidden, block.out_shape[0])

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes)."""
        return self.classifier(self.conv(x).mean((2, 3)))


_KINDS: dict[str, type[nn.Module]] = {"stem": Stem, "mbconv": MBConv, "tail": Tail, "head": Head}


class MobileNetV3(nn.Module):
    """Shared weights of a space of stems, MBConv layers and tails (see `models.supernet.Supernet`)."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space
        layers = []
        for slot in space.slots:
            if slot.count != 1:
                raise ConfigError(
                    f"space {space.name!r}: a slot repeats its block; this family gives each layer a slot"
                )
            layers.append(_module(_largest([space.blocks[b] for b in np.unique(slot.block) if b >= 0])))
        self.layers = nn.ModuleList(layers)
        initialise(self)
        # Channels last in memory: a training step on a CPU takes half the time.
        _channels_last(self)

    def running(self, genes: Sequence[int]) -> list[tuple[int, Block]]:
        """(slot, block) of everything that runs in this subnet, in order."""
        ids = self.space.block_ids(self.space.canonical(genes))[0]
        return [(slot, self.space.blocks[block]) for slot, block in enumerate(ids.tolist()) if block >= 0]

    def forward(self, x: Tensor, genes: Sequence[int]) -> Tensor:
        """Logits (N, classes) of the subnet; x (N, C, H, W) is scaled where its side is not the subnet's resolution."""
        x = x.contiguous(memory_format=torch.channels_last)
        for slot, block in self.running(genes):
            layer: Any = self.layers[slot]
            x = layer.elastic(x, block)
        return x

    def extract(self, genes: Sequence[int]) -> list[Part]:
        """The subnet in memory of its own, in this supernet's mode (training or eval)."""
        parts = []
        for slot, block in self.running(genes):
            parts.append(part(slot, block, _module(block), self.layers[slot]))
        return parts

    def build(self, block: Block) -> nn.Module:
        """The block alone in eval mode, weights seeded by its key."""
        return build(block)


def part(slot: int, block: Block, module: nn.Module, shared: nn.Module) -> Part:
    """A stretch with weights of its own, copied from those that subnets share, and in their mode (training or eval)."""
    lend(shared, _channels_last(module))
    return Part(
        module=module.train(shared.training),
        slots=(slot,),
        block=block,
        in_shape=block.in_shape,
        out_shape=block.out_shape,
    )


def initialise(module: nn.Module) -> None:
    """Kaiming weights (a depthwise filter sees one channel), as in MobileNetV3's own training code."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            fan = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, 0.0, math.sqrt(2.0 / fan))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.01 if layer.out_features > 100 else layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)


def scale(x: Tensor, side: int) -> Tensor:
    """Bilinear, corners not aligned, no antialiasing: what every runtime's resize operator does."""
    return F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)


def _module(block: Block) -> nn.Module:
    if block.kind not in _KINDS:
        raise ConfigError(f"block {block.key!r}: kind {block.kind!r} is none of {', '.join(_KINDS)}")
    return _KINDS[block.kind](block)


def _largest(blocks: Sequence[Block]) -> Block:
    """One block that is as large as any of these in every direction; raises ConfigError where they do not fit."""
    first = blocks[0]
    for block in blocks:
        if (block.kind, block.stride, block.act) != (first.kind, first.stride, first.act):
            raise ConfigError(
                f"blocks {first.key!r} and {block.key!r} cannot share weights: kind, stride or activation differ"
            )

    def most(name: str) -> int:
        return max(int(getattr(block, name)) for block in blocks)

    return Block(
        key="-".join(("largest", first.kind)),
        kind=first.kind,
        in_shape=(max(b.in_shape[0] for b in blocks), *first.in_shape[1:]),
        out_shape=(max(b.out_shape[0] for b in blocks), *first.out_shape[1:]),
        ops=(),
        params=0,
        kernel=most("kernel"),
        stride=first.stride,
        expand=most("expand"),
        hidden=most("hidden"),
        squeeze=most("squeeze"),
        last=most("last"),
        resize=most("resize"),
        shortcut=any(b.shortcut for b in blocks),
        act=first.act,
    )


def _channels_last(module: nn.Module) -> nn.Module:
    changed: nn.Module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return changed


def _elastic(
    layers: Any, x: Tensor, width: int, *, kernel: int = 1, stride: int = 1, depthwise: bool = False
) -> Tensor:
    """The leading part of what `convolution` made."""
    x = normalise(layers.bn, convolve(layers.conv, x, width, kernel=kernel, stride=stride, depthwise=depthwise))
    activated: Tensor = layers.act(x) if hasattr(layers, "act") else x
    return activated


def _smaller(x: Tensor, stride: int) -> Tensor:
    if stride == 1:
        return x
    odd = bool(x.shape[-1] % stride)
    return F.avg_pool2d(x, stride, stride, ceil_mode=odd, count_include_pad=False)
