"""The contract of shared weights, and their file: one supernet realises every subnet of a space.

A family is a module of `models.families` with `supernet(space, seed)` and `build(block, salt)`. The module of a
network's last part splits into `pooled(x)`, the features, and `classifier`, which turns them into logits.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from hwbench import plugin
from models import weights
from models.space import Block, Shape, Space, load_space

_FAMILIES = "models.families"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One stretch of an extracted network: its module, the slots it realises, the block it is, (C, H, W) in and out."""

    module: nn.Module
    slots: tuple[int, ...]
    block: Block
    in_shape: Shape
    out_shape: Shape


@runtime_checkable
class Supernet(Protocol):
    """Shared weights of a space; an nn.Module, of which the lower half is what is used through this type."""

    space: Space
    training: bool

    def __call__(self, x: Tensor, genes: Sequence[int]) -> Tensor:
        """Logits (N, classes) of the subnet; x is scaled where its side is not the subnet's resolution."""

    def extract(self, genes: Sequence[int]) -> list[Part]:
        """The subnet in memory of its own, parts in the order in which they run; the last one is the classifier."""

    def build(self, block: Block) -> nn.Module:
        """The block alone, weights seeded by its key, for export and measuring."""

    def train(self, mode: bool = True) -> Supernet: ...

    def eval(self) -> Supernet: ...

    def modules(self) -> Iterator[nn.Module]: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> object: ...


def create(space: Space, seed: int = 0) -> Supernet:
    """A supernet of the space's family with fresh weights; the same seed gives the same weights."""
    made: Supernet = _family(space.family).supernet(space, seed)
    return made


def build(space: Space, block: Block, salt: str = "") -> nn.Module:
    """The block alone in eval mode, weights seeded by its key and `salt`, so that its bytes repeat."""
    module: nn.Module = _family(space.family).build(block, salt)
    return module


@functools.cache
def _family(name: str) -> ModuleType:
    """The module of a family; looking for plugins takes 10 ms, and an export builds hundreds of blocks."""
    return plugin.load(_FAMILIES, name)


def seed_of(text: str) -> int:
    """A seed that depends on nothing but the text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw torch's random numbers from `seed` inside; outside everything goes on as if nothing was drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def run(parts: Sequence[Part], x: Tensor) -> Tensor:
    """The logits of an extracted network."""
    for part in parts:
        x = part.module(x)
    return x


def save(path: Path, supernet: Supernet, metadata: Mapping[str, str] | None = None) -> None:
    """Write all weights as safetensors, replacing the file in one step.

    metadata: how they came to be (command, seed, commit, seconds, …); the space is added, and `load` checks it.
    """
    weights.write(path, supernet.state_dict(), supernet.space, metadata)


def load(path: Path, space: Space | None = None) -> tuple[Supernet, dict[str, str]]:
    """A supernet in eval mode and its metadata. space: default is the one that the file names.

    Raises ConfigError when the file is missing, cut short or changed, or was written for another space.
    """
    state, metadata = weights.read(path, hint="train the supernet first (search train)")
    space = space or load_space(metadata["space"])
    supernet = create(space)
    weights.fill(supernet, state, metadata, path, space)
    return supernet.eval(), metadata
