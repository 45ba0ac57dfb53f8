"""FBNet's networks: each layer holds every candidate with weights of its own, as its stochastic supernet does.

Stem, tail and heads of exits are those of `mobilenetv3`. Unlike there no candidate is part of another one: convolutions
in groups have other weights than those without.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hwbench.errors import ConfigError
from models.elastic import normalise
from models.families.mobilenetv3 import Head, Stem, Tail, convolution, initialise, part
from models.space import Block, Space
from models.supernet import Part, seed_of, seeded


def supernet(space: Space, seed: int = 0) -> FBNet:
    """A supernet with fresh weights; the same seed gives the same weights."""
    with seeded(seed):
        return FBNet(space)


def build(block: Block, salt: str = "") -> nn.Module:
    """The block alone in eval mode, weights seeded by its key and `salt`."""
    with seeded(seed_of(block.key + salt)):
        module = _module(block)
        initialise(module)
    return module.eval()


class Inverted(nn.Module):
    """1×1 in groups, shuffle of two groups, depthwise, 1×1 in groups; plus the input where shapes allow."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block
        channels, width, hidden, act = block.in_shape[0], block.out_shape[0], block.hidden, block.act
        self.groups = 2 if block.kind == "inverted_g2" else 1
        self.expand = convolution(channels, hidden, 1, groups=self.groups, act=act)
        self.depthwise = convolution(hidden, hidden, block.kernel, stride=block.stride, groups=hidden, act=act)
        self.project = convolution(hidden, width, 1, groups=self.groups)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, *in_shape)."""
        y = shuffled(_convolved(self.expand, x), self.groups)
        y = _convolved(self.project, _convolved(self.depthwise, y))
        return x + y if self.block.residual else y


class Reduce(nn.Module):
    """One 1×1 convolution with a stride."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.conv = convolution(block.in_shape[0], block.out_shape[0], 1, stride=block.stride, act=block.act)

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, *in_shape)."""
        return _convolved(self.conv, x)


def shuffled(x: Tensor, groups: int) -> Tensor:
    """Channels (N, C, H, W) interleaved, so that the next groups read from all of these. Source: ShuffleNet."""
    if groups == 1:
        return x
    _, channels, height, width = x.shape
    # -1 stands for the batch, so that an exported graph takes any.
    x = x.reshape(-1, groups, channels // groups, height, width).transpose(1, 2)
    return x.reshape(-1, channels, height, width)


_KINDS: dict[str, type[nn.Module]] = {
    "stem": Stem,
    "inverted": Inverted,
    "inverted_g2": Inverted,
    "reduce": Reduce,
    "tail": Tail,
    "head": Head,
}


class FBNet(nn.Module):
    """Weights of all candidates of a space (see `models.supernet.Supernet`); nothing is shared between candidates."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.space = space
        self.layers = nn.ModuleList(
            nn.ModuleDict({str(b): _module(space.blocks[b]) for b in np.unique(slot.block).tolist() if b >= 0})
            for slot in space.slots
        )
        initialise(self)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def running(self, genes: Sequence[int]) -> list[tuple[int, int]]:
        """(slot, index into Space.blocks) of everything that runs in this subnet, in order."""
        ids = self.space.block_ids(self.space.canonical(genes))[0]
        return [(slot, block) for slot, block in enumerate(ids.tolist()) if block >= 0]

    def forward(self, x: Tensor, genes: Sequence[int]) -> Tensor:
        """Logits (N, classes) of the subnet; x (N, C, H, W) is scaled where its side is not the space's."""
        x = x.contiguous(memory_format=torch.channels_last)
        for slot, block in self.running(genes):
            module: Any = self.layers[slot][str(block)]  # type: ignore[index]
            # Those that mobilenetv3 shares know how a batch is normalised that several processes share.
            x = module.elastic(x, self.space.blocks[block]) if hasattr(module, "elastic") else module(x)
        return x

    def extract(self, genes: Sequence[int]) -> list[Part]:
        """The subnet in memory of its own, in this supernet's mode (training or eval)."""
        parts = []
        for slot, index in self.running(genes):
            block, shared = self.space.blocks[index], self.layers[slot][str(index)]  # type: ignore[index]
            parts.append(part(slot, block, _module(block), shared))
        return parts

    def build(self, block: Block) -> nn.Module:
        """The block alone in eval mode, weights seeded by its key."""
        return build(block)


def _module(block: Block) -> nn.Module:
    if block.kind not in _KINDS:
        raise ConfigError(f"block {block.key!r}: kind {block.kind!r} is none of {', '.join(_KINDS)}")
    return _KINDS[block.kind](block)


def _convolved(layers: Any, x: Tensor) -> Tensor:
    """What `convolution` made; its batch normalisation also where several processes share a batch."""
    x = normalise(layers.bn, layers.conv(x))
    activated: Tensor = layers.act(x) if hasattr(layers, "act") else x
    return activated
