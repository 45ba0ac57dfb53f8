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
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from hwbench import plugin
from hwbench.errors import ConfigError
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

    metadata: how they came to be (command, seed, commit, seconds, …). The space's name and digest and a digest of the
    weights are added; `load` checks them.
    """
    space = supernet.space
    state = {name: tensor.detach().contiguous() for name, tensor in supernet.state_dict().items()}
    known = {"space": space.name, "space_sha256": space.digest(), "weights_sha256": _digest(state)}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(to_bytes(state, {**(metadata or {}), **known}))
    temporary.replace(path)


def load(path: Path, space: Space | None = None) -> tuple[Supernet, dict[str, str]]:
    """A supernet in eval mode and its metadata. space: default is the one that the file names.

    Raises ConfigError when the file is missing, cut short or changed, or was written for another space.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such weights file; train the supernet first (search train)")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = dict(file.metadata() or {})
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise ConfigError(f"{path}: not a whole safetensors file ({error}); copy or train it again") from error
    if "space" not in metadata:
        raise ConfigError(f"{path}: it does not say which space it is for; write it with models.supernet.save")
    if metadata.get("weights_sha256") != _digest(state):
        raise ConfigError(f"{path}: the weights differ from their digest; the file was damaged, copy or train it again")
    space = space or load_space(metadata["space"])
    if metadata.get("space_sha256") != space.digest():
        raise ConfigError(
            f"{path}: written for another space {metadata['space']!r} than {space.name!r} as it is now; train it again"
        )
    supernet = create(space)
    try:
        supernet.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise ConfigError(f"{path}: the weights do not fit the supernet of {space.name!r} ({first})") from error
    return supernet.eval(), metadata


def _digest(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
