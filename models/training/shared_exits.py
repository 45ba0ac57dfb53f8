"""Exits trained once inside the supernet: every subnet cuts its heads out of the same weights and trains none itself.

In each step one subnet of the frozen supernet reads a batch, in turn the largest, the smallest and random ones, and all
its heads learn from the labels and from its own classifier (HADAS eq. 4, as in `models.training.exits`). A smaller head
is the leading part of the largest at that position, as everywhere in the supernet; what its normalisation expects is
measured again for each subnet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwbench.errors import ConfigError
from models import weights
from models.datasets import Split
from models.elastic import cut, lend
from models.exits import ExitNetwork, head_blocks
from models.space import Block, Space
from models.supernet import Supernet, build
from models.training.exits import exit_loss
from models.training.inference import shuffled
from models.training.recalibrate import recalibrate, recalibrate_heads


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedRecipe:
    """How shared heads are trained. learning_rate: of Adam, falls to 0 in a half cosine over all steps."""

    steps: int = 3000
    batch: int = 64
    learning_rate: float = 0.02
    temperature: float = 2.0


def shared_heads(space: Space, seed: int = 0) -> nn.ModuleDict:
    """The largest head of each exit position, by the slot that it stands behind; fresh weights.

    Raises ConfigError where no head of a position is as large as all the others.
    """
    found = {}
    for slot, position in zip(space.positions, space.heads, strict=True):
        blocks = [space.blocks[b] for b in np.unique(position.block) if b >= 0]
        if blocks:
            found[str(slot)] = build(space, _largest(space, slot, blocks), salt=f"shared slot {slot} seed {seed}")
    return nn.ModuleDict(found)


def _largest(space: Space, slot: int, blocks: Sequence[Block]) -> Block:
    def size(block: Block) -> tuple[int, int, int]:
        return block.in_shape[0], block.hidden, block.kernel

    largest = max(blocks, key=size)
    if any(a > b for block in blocks for a, b in zip(size(block), size(largest), strict=True)):
        raise ConfigError(
            f"space {space.name!r}: the heads behind slot {slot} cannot share weights; none is the largest"
        )
    return largest


def train_shared_exits(
    supernet: Supernet,
    data: Split,
    *,
    seed: int,
    recipe: SharedRecipe | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> nn.ModuleDict:
    """Shared heads for every subnet, in eval mode. The supernet's weights stay as they are.

    data: the training split.  progress: told the steps done and the steps there are.
    Equal seeds and thread counts give equal weights. Raises ConfigError where data has less than a batch.
    """
    recipe = recipe or SharedRecipe()
    if len(data) < recipe.batch:
        raise ConfigError(f"training exits takes a batch of {recipe.batch} samples, the training split has {len(data)}")
    space, rng = supernet.space, np.random.default_rng(seed)
    heads = shared_heads(space, seed)
    optimizer = torch.optim.Adam(heads.parameters(), lr=recipe.learning_rate)
    modules: dict[str, nn.Module] = {}
    mode = supernet.training
    # Extracted in training mode, so that normalisation follows the batch: shared statistics fit no subnet.
    supernet.train()
    try:
        for step, rows in zip(range(recipe.steps), _batches(len(data), recipe.batch, rng), strict=False):
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * (0.5 + 0.5 * math.cos(math.pi * step / recipe.steps))
            genes = (space.largest(), space.smallest(), *space.sample(2, rng))[step % 4].tolist()
            optimizer.zero_grad()
            images, labels = torch.from_numpy(data.inputs(rows)), torch.from_numpy(data.labels[rows])
            torch.autograd.backward(_loss(supernet, genes, heads, modules, images, labels, recipe.temperature))
            optimizer.step()
            if progress is not None:
                progress(step + 1, recipe.steps)
    finally:
        supernet.train(mode)
    return heads.eval()


def _batches(count: int, batch: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    while True:
        order = rng.permutation(count)
        for start in range(0, count - batch + 1, batch):
            yield order[start : start + batch]


def _loss(
    supernet: Supernet,
    genes: Sequence[int],
    heads: nn.ModuleDict,
    modules: dict[str, nn.Module],
    images: Tensor,
    labels: Tensor,
    temperature: float,
) -> Tensor:
    """The mean loss of this subnet's exits. modules: heads by their block's key, made when first met."""
    parts = supernet.extract(genes)
    blocks = head_blocks(supernet.space, genes)
    features: dict[int, Tensor] = {}
    x = images.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        for part in parts:
            x = part.module(x)
            features[part.slots[-1]] = x
        taught = F.softmax(x / temperature, 1)
    losses = []
    for slot, block in blocks.items():
        if block.key not in modules:
            modules[block.key] = build(supernet.space, block).train()
        head = modules[block.key]
        weights = dict(heads[str(slot)].named_parameters())
        lent = {name: cut(weights[name], own.shape) for name, own in head.named_parameters()}
        logits = torch.func.functional_call(head, lent, (features[slot],))
        losses.append(exit_loss(logits, labels, taught, temperature))
    return torch.stack(losses).mean()


def with_shared_exits(
    supernet: Supernet, heads: nn.ModuleDict, genes: Sequence[int], data: Split, *, seed: int
) -> ExitNetwork:
    """The subnet with the heads that it cuts out of `heads`, in eval mode; all normalisation is measured again.

    data: the training split.
    """
    data = shuffled(data, seed)
    parts = supernet.extract(genes)
    recalibrate(parts, data)
    own = {}
    for slot, block in head_blocks(supernet.space, genes).items():
        own[slot] = build(supernet.space, block)
        lend(heads[str(slot)], own[slot])
    network = ExitNetwork(parts, own).eval()
    recalibrate_heads(network, data)
    return network.eval()


def save_shared(
    path: Path, heads: nn.ModuleDict, supernet: Supernet, metadata: Mapping[str, str] | None = None
) -> None:
    """Write shared heads as safetensors; the file says which supernet they read."""
    known = {"supernet_sha256": weights.digest(supernet.state_dict())}
    weights.write(path, heads.state_dict(), supernet.space, {**(metadata or {}), **known})


def load_shared(path: Path, supernet: Supernet) -> nn.ModuleDict:
    """The shared heads of a weights file, in eval mode; ConfigError where they read another supernet than this one."""
    state, metadata = weights.read(path, hint="train shared exits first (search train --exits)")
    if metadata.get("supernet_sha256") != weights.digest(supernet.state_dict()):
        raise ConfigError(f"{path}: these exits read other weights than this supernet's; train them on it again")
    heads = shared_heads(supernet.space)
    weights.fill(heads, state, metadata, path, supernet.space)
    return heads.eval()
