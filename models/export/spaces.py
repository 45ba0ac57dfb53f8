"""`space:NAME`: every block of a space alone, and random whole networks and chains of segments made of them.

Weights are random, seeded by block and place, so that bytes repeat: this is what is measured, not what is deployed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from hwbench.errors import ConfigError
from hwbench.workload import Bundle, Op, Workload
from models.block import Block, gate_ops
from models.exits import ExitNetwork, ExitSegment, FinalSegment, head_blocks
from models.export.graph import OUTPUTS, Runnable, segment_ops
from models.export.writing import check_formats, write
from models.gate import Gate
from models.space import Space, load_space
from models.supernet import Part, build

_CLASSIFYING = ("tail", "head")


def export_space(name: str, *, formats: Sequence[str], out: Path, networks: int, seed: int) -> Bundle:
    """All blocks of the space, `networks` random networks with the smallest and the largest among them, and for every
    second one a chain of two or three segments; raises ConfigError for an unknown space or format.
    """
    space = load_space(name)
    check_formats(formats)
    if networks < 0:
        raise ConfigError(f"networks must be 0 or more, not {networks}")
    workloads: dict[str, Workload] = {}
    for runnable in runnables(space, networks=networks, seed=seed, build_modules=bool(formats)):
        if runnable.key not in workloads:
            workloads[runnable.key] = write(runnable, formats, out)
    bundle = Bundle(root=out, space=space.name, workloads=tuple(workloads.values()))
    bundle.write()
    return bundle


def runnables(space: Space, *, networks: int, seed: int, build_modules: bool = True) -> Iterator[Runnable]:
    """What there is to export, one at a time; a segment's key may come twice.

    build_modules: False leaves the modules empty, which is enough to describe.
    """
    for block in space.blocks:
        yield block_runnable(block, build(space, block) if build_modules else nn.Identity())
    rng = np.random.default_rng(seed)
    for i, genes in enumerate(sampled(space, networks, rng)):
        parts = _parts(space, genes, build_modules)
        yield network_runnable(space, genes, parts)
        heads = head_blocks(space, genes.tolist())
        if i % 2 == 0 and heads:
            n = int(rng.integers(1, min(2, len(heads)) + 1))
            placed = sorted(int(s) for s in rng.choice(list(heads), n, replace=False))
            modules = {
                slot: build(space, heads[slot], salt=f"slot {slot}") if build_modules else nn.Identity()
                for slot in placed
            }
            yield from segment_runnables(space, parts, heads, modules, placed)


def sampled(space: Space, networks: int, rng: np.random.Generator) -> np.ndarray:
    """(networks, G) different canonical points: the largest, the smallest, then random ones; fewer in a tiny space."""
    genes = np.stack([space.largest(), space.smallest()]).astype(np.int16)
    wanted = min(networks, space.size())
    while len(genes) < wanted:
        found = np.concatenate([genes, space.sample(wanted, rng)])
        _, first = np.unique(found, axis=0, return_index=True)
        genes = found[np.sort(first)]
    return genes[:wanted]


def block_runnable(block: Block, module: nn.Module) -> Runnable:
    """A block alone."""
    return Runnable(
        key=block.key,
        kind="block",
        module=module,
        in_shape=block.in_shape,
        outputs=(_output(block),),
        ops=block.ops,
        params=block.params,
        takes_image=block.kind == "stem",
    )


def network_runnable(space: Space, genes: np.ndarray, parts: Sequence[Part]) -> Runnable:
    """A whole network, named by its genes."""
    return Runnable(
        key=f"network-{space.subnet(genes)}".replace(":", "-"),
        kind="network",
        module=nn.Sequential(*(part.module for part in parts)).eval(),
        in_shape=parts[0].in_shape,
        outputs=(_output(parts[-1].block),),
        ops=tuple(op for part in parts for op in part.block.ops),
        params=sum(part.block.params for part in parts),
        parts=tuple(part.block.key for part in parts),
        takes_image=True,
    )


def segment_runnables(
    space: Space,
    parts: Sequence[Part],
    heads: Mapping[int, Block],
    modules: Mapping[int, nn.Module],
    placed: Sequence[int],
    score: str = "max_softmax",
    gates: Mapping[int, nn.Module] | None = None,
) -> list[Runnable]:
    """The network cut behind the exits that are placed (slots), in order; the last segment holds its own classifier.

    gates: where the score is learned, the gate of each placed exit.
    """
    segments = ExitNetwork(parts, {slot: modules[slot] for slot in placed}, gates).segments(placed, score)
    ends = [*(i for i, part in enumerate(parts[:-1], 1) if part.slots[-1] in placed), len(parts)]
    found = []
    for start, end, segment in zip([0, *ends], ends, segments, strict=False):
        stretch = parts[start:end]
        head = heads[stretch[-1].slots[-1]] if isinstance(segment, ExitSegment) else None
        found.append(_segment(space, stretch, head, segment, score, first=start == 0))
    return found


def _segment(
    space: Space,
    parts: Sequence[Part],
    head: Block | None,
    module: ExitSegment | FinalSegment,
    score: str,
    *,
    first: bool,
) -> Runnable:
    blocks = [part.block for part in parts] + ([head] if head else [])
    classes = blocks[-1].out_shape[0]
    features = parts[-1].out_shape if head else (_pooled(blocks[-1]),)
    ops: list[Op] = [op for block in blocks for op in block.ops]
    gate = gate_ops(classes) if isinstance(module.score, Gate) else ()
    text = repr([[part.slots, part.block.key] for part in parts] + [head.key if head else "", score, first])
    digest = hashlib.blake2b(text.encode(), digest_size=5).hexdigest()
    return Runnable(
        key=f"segment-{space.name}-{parts[0].slots[0]}-{parts[-1].slots[-1]}-{digest}",
        kind="segment",
        module=module,
        in_shape=parts[0].in_shape,
        outputs=tuple(zip(OUTPUTS, ((1, *features), (1, classes), (1,)), strict=True)),
        ops=segment_ops((*ops, *gate), classes),
        params=sum(block.params for block in blocks) + sum(op.weight_count for op in gate),
        parts=tuple(block.key for block in blocks),
        takes_image=first,
    )


def _parts(space: Space, genes: np.ndarray, build_modules: bool) -> list[Part]:
    """Fresh blocks of a subnet; the same block at two places has different weights, as in a real network."""
    parts = []
    for slot, block_id in enumerate(space.block_ids(genes)[0].tolist()):
        if block_id < 0:
            continue
        block = space.blocks[block_id]
        for i in range(space.slots[slot].count):
            module = build(space, block, salt=f"slot {slot}.{i}") if build_modules else nn.Identity()
            shapes = {"in_shape": block.in_shape, "out_shape": block.out_shape}
            parts.append(Part(module=module, slots=(slot,), block=block, **shapes))
    return parts


def _output(block: Block) -> tuple[str, tuple[int, ...]]:
    if block.kind in _CLASSIFYING:
        return "logits", (1, block.out_shape[0])
    return "features", (1, *block.out_shape)


def _pooled(block: Block) -> int:
    """Features that a network's own classifier reads."""
    return block.last or block.hidden or block.in_shape[0]
