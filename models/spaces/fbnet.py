"""The space of FBNet: 22 layers, each one of nine candidates (Wu et al., CVPR 2019, tables 1 and 2; arXiv:1812.03443).

Widths, depths and strides are fixed; a candidate is a kernel, an expansion and a number of groups, or `skip`. So there
are exactly 9^22 ≈ 9.85×10^20 networks, and no gene is ever inert: a layer skipped is not its neighbour skipped, as each
has weights of its own. Where a layer changes the shape it cannot be left out, and `skip` is a 1×1 convolution with its
stride, as in FBNet's published code. The tail has the 1984 features of FBNet-C. Candidates stand here by their work,
`skip` first; `models.decoders.fbnet` reads the published indices.
"""

from __future__ import annotations

import numpy as np

from models.block import Block, Shape, head_block, inverted_block, reduce_block, stem_block, strided, tail_block
from models.space import Gene, Slot, Space

_SIDE, _CLASSES = 224, 1000
_STAGES = (
    (16, 1, 1),
    (24, 4, 2),
    (32, 4, 2),
    (64, 4, 2),
    (112, 4, 1),
    (184, 4, 2),
    (352, 1, 1),
)  # width, layers, stride
_CANDIDATES = {  # kernel, expansion, groups
    "skip": None,
    "k3_e1_g2": (3, 1, 2),
    "k5_e1_g2": (5, 1, 2),
    "k3_e1": (3, 1, 1),
    "k5_e1": (5, 1, 1),
    "k3_e3": (3, 3, 1),
    "k5_e3": (5, 3, 1),
    "k3_e6": (3, 6, 1),
    "k5_e6": (5, 6, 1),
}
_FIRST_EXIT = 5  # HADAS, table II


def space() -> Space:
    """ImageNet at 224 pixels, 1000 classes; exits from the fifth layer on, behind layers that run."""
    stem = stem_block((3, _SIDE, _SIDE), _SIDE, _STAGES[0][0], kernel=3, stride=2, act="relu")
    blocks: dict[str, int] = {}
    known: list[Block] = []

    def index(block: Block | None) -> int:
        if block is None:
            return -1
        if block.key not in blocks:
            blocks[block.key] = len(known)
            known.append(block)
        return blocks[block.key]

    slots = [Slot(genes=(), block=np.array(index(stem), np.int32))]
    genes, positions, heads = [], [], []
    shape = stem.out_shape
    layers = [(width, stride if i == 0 else 1) for width, depth, stride in _STAGES for i in range(depth)]
    for layer, (width, stride) in enumerate(layers):
        made = [_candidate(name, shape, width, stride) for name in _CANDIDATES]
        shape = (width, *strided(shape[1], stride))
        if _FIRST_EXIT <= layer + 1 < len(layers):
            head = head_block(shape, _CLASSES, width=256, kernel=1, act="relu")
            positions.append(len(slots))
            heads.append(Slot(genes=(layer,), block=np.array([-1 if b is None else index(head) for b in made])))
        genes.append(Gene(name=f"layer.{layer + 1}", values=tuple(_CANDIDATES), group="candidate"))
        slots.append(Slot(genes=(layer,), block=np.array([index(b) for b in made])))
    tail = tail_block(shape, _CLASSES, hidden=1984, last=0, act="relu")
    slots.append(Slot(genes=(), block=np.array(index(tail), np.int32)))
    return Space(
        name="fbnet",
        genes=tuple(genes),
        slots=tuple(slots),
        blocks=tuple(known),
        positions=tuple(positions),
        heads=tuple(heads),
        family="fbnet",
    )


def _candidate(name: str, shape: Shape, width: int, stride: int) -> Block | None:
    choice = _CANDIDATES[name]
    if choice is not None:
        kernel, expand, groups = choice
        return inverted_block(shape, width, kernel=kernel, expand=expand, stride=stride, groups=groups)
    changes = stride > 1 or shape[0] != width
    return reduce_block(shape, width, stride=stride) if changes else None
