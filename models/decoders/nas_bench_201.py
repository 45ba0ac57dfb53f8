"""NAS-Bench-201: cells of four nodes and six edges with one of five operations each (Dong & Yang, ICLR 2020).

A network is a stem, three stages of five equal cells with a residual block between stages, and a classifier; its name
is the cell, `|nor_conv_3x3~0|+|none~0|skip_connect~1|+|…|`. Edges are (source, node). Runtimes differ in what of a cell
they execute, hence four readings: `as_written` all of it, the zeros of `none` too; `backward` what the output needs,
constants included; `both_ways` what the output needs and the input reaches; `with_ends` what published latencies of
TensorFlow Lite contain: a constant output costs nothing, but a convolution that only a `none` reads is executed, as if
its weights were multiplied by zero; a sum or a pool there is not. A node whose only input is a skip is its source.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise, product

import numpy as np

from hwbench.decoder import Decoded, Executed, Reading
from hwbench.errors import ConfigError
from hwbench.workload import Op
from models.operations import Shape, activation, add, conv, linear, pool

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
_NONE, _SKIP, _CONV_1, _CONV_3, _POOL = range(len(OPS))
_CONVOLUTIONS = (_CONV_1, _CONV_3)
_CLASSES = (0, 1, 2, 2, 3)  # none, skip, convolution, pool
_NAME = re.compile(r"\|(\w+)~0\|\+\|(\w+)~0\|(\w+)~1\|\+\|(\w+)~0\|(\w+)~1\|(\w+)~2\|")
# The four ways from input to output, as indices of edges, and what may stand on them.
_WAYS = ((3,), (0, 4), (1, 5), (0, 2, 5))
_PATHS = {p: i for i, p in enumerate(p for n in range(4) for p in product((_CONV_1, _CONV_3, _POOL), repeat=n))}
# Channels and side of each stage, cells in it, and classes: CIFAR-10.
_STAGES: tuple[Shape, ...] = ((16, 32, 32), (32, 16, 16), (64, 8, 8))
_IMAGE: Shape = (3, 32, 32)
_CELLS, _ANSWERS = 5, 10
Cell = tuple[int, ...]
_Edges = Mapping[tuple[int, int], int]


def size() -> int:
    """How many architectures there are."""
    return len(OPS) ** len(EDGES)


def parse(arch: str) -> Cell:
    """The operation of each edge, in the order of EDGES; ConfigError when it is no such name."""
    found = _NAME.fullmatch(arch.strip())
    if found is None or not set(found.groups()) <= set(OPS):
        raise ConfigError(
            f"nas-bench-201 architecture {arch[:80]!r}: expected |OP~0|+|OP~0|OP~1|+|OP~0|OP~1|OP~2| with OP one of "
            f"{', '.join(OPS)}"
        )
    return tuple(OPS.index(op) for op in found.groups())


def decode(archs: Sequence[str]) -> Decoded:
    """Four readings, the cells without a path from input to output, and chains that compilers may refuse."""
    cells = [parse(a) for a in archs]
    return Decoded(
        readings=tuple(_reading(name, cells) for name in ("backward", "both_ways", "with_ends", "as_written")),
        constant=np.array([3 not in _reached(c) for c in cells], dtype=bool),
        signs=np.array([_signs(c) for c in cells], dtype=np.float64).reshape(len(cells), -1),
        function=_function([executed(c, "both_ways") for c in cells]),
    )


def executed(cell: Cell, reading: str) -> Cell:
    """The cell with the operations that a reading leaves out replaced by none."""
    if reading == "as_written":
        return cell
    needed, reached = _needed(cell, ends=reading == "with_ends"), _reached(cell)
    return tuple(
        op if op and node in needed and (reading != "both_ways" or source in reached) else _NONE
        for op, (source, node) in zip(cell, EDGES, strict=True)
    )


def _reading(name: str, cells: Sequence[Cell]) -> Reading:
    left = [executed(c, name) for c in cells]
    additions = [_additions(c) for c in left]
    places = np.array(left, dtype=np.int64).reshape(len(cells), -1)
    # PyTorch multiplies by zero for each `none` that stands there; only of a cell as written are they not left out.
    ops = range(0 if name == "as_written" else 1, len(OPS))
    counts = [[*(c.count(op) for op in ops), add] for c, add in zip(left, additions, strict=True)]
    return Reading(
        name=name,
        ops=(*(OPS[op] for op in ops), "addition"),
        counts=np.array(counts, dtype=np.float64).reshape(len(cells), -1),
        places=places,
        kinds=np.array(_CLASSES)[places],
        traits=np.array([_traits(c) for c in left], dtype=np.float64).reshape(len(cells), -1),
        executed=_executed(left),
    )


def _needed(cell: Cell, *, ends: bool = False) -> set[int]:
    """Nodes that the output needs; with `ends` those that TensorFlow Lite executes."""
    ops = dict(zip(EDGES, cell, strict=True))
    found = _ends(cell) | ({3} if 3 in _reached(cell) else set()) if ends else {3}
    for node in (2, 1, 0):
        if any(ops[node, later] and later in found for later in range(node + 1, 4)):
            found.add(node)
    return found


def _ends(cell: Cell) -> set[int]:
    """Nodes that are the output of one convolution, and that nothing reads.

    Found in the latencies of a Raspberry Pi 4, and the same on a Pixel 3: these convolutions take their full time, all
    else that is thrown away takes none.
    """
    ops = dict(zip(EDGES, cell, strict=True))
    second = [(source, ops[source, 2]) for source in (0, 1) if ops[source, 2]]
    if not ops[0, 1] and (1, _SKIP) in second:
        second.remove((1, _SKIP))  # of zeros
    convolved = ops[0, 1] in _CONVOLUTIONS
    thrown = convolved and not ops[1, 2] and not ops[1, 3]
    if ops[2, 3] or not second:
        return {1} if thrown else set()
    # With two nodes that nothing reads, zeros of the first are added to the second, which is a sum then.
    if len(second) > 1 or thrown:
        return set()
    ((source, op),) = second
    return {2} if op in _CONVOLUTIONS or (source == 1 and op == _SKIP and convolved and not ops[1, 3]) else set()


def _reached(cell: Cell) -> set[int]:
    """Nodes that the input reaches; the others are constant."""
    ops, found = dict(zip(EDGES, cell, strict=True)), {0}
    for node in (1, 2, 3):
        if any(ops[source, node] and source in found for source in range(node)):
            found.add(node)
    return found


def _inputs(cell: Cell) -> dict[int, list[tuple[int, int]]]:
    """(source, operation) of each node that has any."""
    ops = dict(zip(EDGES, cell, strict=True))
    return {n: [(s, ops[s, n]) for s in range(n) if ops[s, n]] for n in (1, 2, 3)}


def _additions(cell: Cell) -> int:
    return sum(max(len(inputs) - 1, 0) for inputs in _inputs(cell).values())


def _function(cells: Sequence[Cell]) -> tuple[np.ndarray, np.ndarray]:
    """Cells in which all counts: how deep and wide they are, and how often each path leads from input to output.

    A path is the operations on it, without skips.
    """
    shapes = np.empty((len(cells), 10))
    counts = np.zeros((len(cells), len(_PATHS)))
    for row, cell in enumerate(cells):
        paths = [tuple(cell[e] for e in way if cell[e] != _SKIP) for way in _WAYS if all(cell[e] for e in way)]
        for path in paths:
            counts[row, _PATHS[path]] += 1
        depths = [sum(op in (_CONV_1, _CONV_3) for op in path) for path in paths] or [0]
        deepest = max((path.count(_CONV_3) for path in paths), default=0)
        pooled, plain = sum(_POOL in path for path in paths), sum(not path for path in paths)
        ops = [cell.count(op) for op in range(1, len(OPS))]
        shapes[row] = [*ops, max(depths), deepest, min(depths), pooled, plain, len(paths)]
    return shapes, counts


def _executed(cells: Sequence[Cell]) -> Executed:
    """Of the few hundred kinds of work that cells do, each worked out once."""
    works = [_work(cell) for cell in cells]
    place = {work: i for i, work in enumerate(dict.fromkeys(works))}
    return Executed.of([_network(work) for work in place]).part(np.array([place[w] for w in works], dtype=np.int64))


def _work(cell: Cell) -> tuple[int, int, int, int, int]:
    """How often a cell executes: 3×3 and 1×1 convolution, pool, addition, and the activation before a convolution.

    A skip is no work. Convolutions that read the same tensor share the activation before them.
    """
    read = {source for op, (source, _) in zip(cell, EDGES, strict=True) if op in (_CONV_1, _CONV_3)}
    return cell.count(_CONV_3), cell.count(_CONV_1), cell.count(_POOL), _additions(cell), len(read)


@lru_cache(maxsize=1 << 10)
def _network(work: tuple[int, int, int, int, int]) -> Mapping[Op, int]:
    """All that a network of such cells executes (Dong & Yang, figure 1): stem, cells, reductions, classifier."""
    found: Counter[Op] = Counter({conv(_IMAGE, _STAGES[0], 3): 1})
    for shape in _STAGES:
        kinds = conv(shape, shape, 3), conv(shape, shape, 1), pool(shape, shape), add(shape), activation(shape)
        found.update({op: _CELLS * count for op, count in zip(kinds, work, strict=True) if count})
    for wide, narrow in pairwise(_STAGES):
        short = (wide[0], *narrow[1:])
        found.update((activation(wide), conv(wide, narrow, 3), activation(narrow), conv(narrow, narrow, 3)))
        found.update((pool(wide, short), conv(short, narrow, 1), add(narrow)))
    last = _STAGES[-1]
    found.update((activation(last), pool(last, (last[0], 1, 1)), linear(last[0], _ANSWERS)))
    return found


@lru_cache(maxsize=1 << 16)
def _traits(cell: Cell) -> tuple[float, ...]:
    """What a runtime may fuse, share or order: counts over the cell that its single edges do not tell."""
    inputs, reached = _inputs(cell), _reached(cell)
    source_of: dict[int, int] = {0: 0}  # by node, the node whose tensor it is
    depth = {0: np.zeros(3), 1: np.zeros(3), 2: np.zeros(3), 3: np.zeros(3)}
    # Additions that a convolution can take in, and those that stay; what is added; nodes by number of inputs.
    fused = left = skips = pools = convolutions = 0
    degree, constant = np.zeros(4), np.zeros(len(OPS))
    reads: dict[int, list[int]] = {_CONV_1: [], _CONV_3: [], _POOL: []}
    for node, into in inputs.items():
        source_of[node] = node
        if not into:
            continue
        if len(into) == 1 and into[0][1] == _SKIP:
            source_of[node], depth[node] = source_of[into[0][0]], depth[into[0][0]]
            continue
        here = sum(op in (_CONV_1, _CONV_3) for _, op in into)
        fused, left = fused + min(len(into) - 1, here), left + max(len(into) - 1 - here, 0)
        degree[len(into)] += 1
        if len(into) > 1:
            skips += sum(op == _SKIP for _, op in into)
            pools += sum(op == _POOL for _, op in into)
            convolutions += here
        paths = []
        for source, op in into:
            path = depth[source].copy()
            if op in reads:
                reads[op].append(source_of[source])
                path[op - _CONV_1] += 1
            constant[op] += source not in reached
            paths.append(path)
        depth[node] = np.max(paths, axis=0)
    shared = set(reads[_CONV_1]) & set(reads[_CONV_3])
    apart = set(reads[_CONV_1]) | set(reads[_CONV_3])
    out = [op for _, op in inputs[3]]
    return (
        *(cell.count(op) for op in range(1, len(OPS))),
        _additions(cell), fused, left, skips, pools, convolutions,
        len(shared), len(apart), source_of[3] == 0,
        *degree,
        *(len(set(r)) for r in reads.values()),
        *(r.count(0) for r in reads.values()),
        *(out.count(op) for op in range(1, len(OPS))),
        *depth[3].tolist(),
        *constant.tolist(),
        3 in reached,
        *(len(inputs[n]) for n in (1, 2)),
        *(sum(s == node for into in inputs.values() for s, _ in into) for node in (0, 1, 2)),
    )  # fmt: skip


@lru_cache(maxsize=1 << 16)
def _signs(cell: Cell) -> tuple[float, ...]:
    """Nodes by what makes them and what reads them, in the cell as written and in what the output needs.

    What makes them: nothing, a skip, convolution or pool alone, a sum, or a constant with or without operations. What
    reads them: nothing, a skip, convolution or pool alone, or several; the output is read by the next, equal cell.
    """
    reached, needed = _reached(cell), _needed(cell)
    rows = []
    for ops in (cell, executed(cell, "backward")):
        table = np.zeros((7, 5))
        by_edge = dict(zip(EDGES, ops, strict=True))
        for node in (1, 2, 3) if ops is cell else sorted(needed - {0}):
            made = [by_edge[s, node] for s in range(node) if by_edge[s, node]]
            reader, later = (node, range(node + 1, 4)) if node < 3 else (0, range(1, 4))
            read = [by_edge[reader, n] for n in later if by_edge[reader, n]]
            maker = (4 if len(made) > 1 else _CLASSES[made[0]]) if made else 0
            if node not in reached:
                maker = 6 if made else 5
            table[maker, (4 if len(read) > 1 else _CLASSES[read[0]]) if read else 0] += 1
        rows.append(table.ravel())
    return tuple(np.concatenate(rows).tolist())
