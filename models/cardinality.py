"""Counts and draws the canonical points of a search space exactly, without walking over them.

A gene is *inert* at a point where no slot changes with it (the kernel of a layer that the depth leaves out); a point is
canonical when each of its inert genes is 0. Each gene that can be inert gives one factor over the few genes that decide
about it, and summing genes out one by one (variable elimination) counts 10^19 points in milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hwbench.errors import ConfigError

Table = tuple[tuple[int, ...], npt.NDArray[Any]]
"""Genes and an array with one axis for each of them."""

_LIMIT = 10_000_000  # entries of one table: beyond, the genes of a space hang together too closely to be counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One gene summed out: weight[values of `given`, value of gene] is the number of canonical points below it."""

    gene: int
    given: tuple[int, ...]
    weight: npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Elimination:
    """count: exact number of canonical points; steps: in the order in which the genes were summed out."""

    count: int
    steps: tuple[Step, ...]


def activity(gene: int, size: int, tables: Sequence[Table]) -> Table | None:
    """Where a gene matters: a bool array over the genes that decide about it; None when it matters everywhere.

    tables: what runs in each slot for the joint values of its genes.
    """
    found: list[Table] = []
    for genes, table in tables:
        if gene not in genes:
            continue
        axis = genes.index(gene)
        varies = (table != table.take([0], axis)).any(axis)
        if varies.all():
            return None
        others = tuple(g for g in genes if g != gene)
        for i in range(len(others) - 1, -1, -1):
            if (varies == varies.take([0], i)).all():
                varies, others = varies.take(0, i), others[:i] + others[i + 1 :]
        if others or varies:
            found.append((others, varies))
    scope, active = _combine(found, np.logical_or, np.False_)
    return None if active.all() else (scope, active)


def eliminate(sizes: Sequence[int], inert: dict[int, Table]) -> Elimination:
    """Sum out every gene. inert: gene -> where it matters, as `activity` gives it."""
    factors: list[Table] = []
    for gene, (scope, active) in inert.items():
        at_zero = np.zeros(sizes[gene], bool)
        at_zero[0] = True
        factors.append(((*scope, gene), (active[..., None] | at_zero).astype(object)))
    steps = []
    left = set(range(len(sizes)))
    while left:
        gene = min(left, key=lambda g: (_cost(g, sizes, factors), g))
        left.remove(gene)
        touching = [f for f in factors if gene in f[0]]
        factors = [f for f in factors if gene not in f[0]]
        scope, product = _combine([*touching, ((gene,), np.full(sizes[gene], 1, object))], np.multiply, 1)
        axis = scope.index(gene)
        given = scope[:axis] + scope[axis + 1 :]
        weight = np.moveaxis(product, axis, -1)
        steps.append(Step(gene=gene, given=given, weight=weight))
        factors.append((given, np.asarray(weight.sum(-1), object)))
    return Elimination(count=int(_combine(factors, np.multiply, 1)[1].item()), steps=tuple(steps))


def draw(n: int, elimination: Elimination, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """Points (n, G), each canonical point equally likely: genes are drawn in the reverse order of their elimination."""
    points = np.zeros((n, len(elimination.steps)), np.int16)
    for step in reversed(elimination.steps):
        total = step.weight.sum(-1, keepdims=True)
        share = (step.weight / np.where(total == 0, 1, total)).astype(np.float64).cumsum(-1)
        upto = share[tuple(points[:, g] for g in step.given)]
        # The last bound is left out, so rounding can never push a value past the end.
        points[:, step.gene] = (rng.random(n)[:, None] >= upto[..., :-1]).sum(-1)
    return points


def _cost(gene: int, sizes: Sequence[int], factors: Sequence[Table]) -> int:
    scope = {gene}.union(*(f[0] for f in factors if gene in f[0]))
    cost = 1
    for g in scope:
        cost *= sizes[g]
    return cost


def _combine(tables: Sequence[Table], op: np.ufunc, start: Any) -> Table:
    scope = tuple(sorted({g for genes, _ in tables for g in genes}))
    width: dict[int, int] = {g: n for genes, table in tables for g, n in zip(genes, table.shape, strict=True)}
    entries = 1
    for g in scope:
        entries *= width[g]
    if entries > _LIMIT:
        raise ConfigError(
            f"the space cannot be counted: {len(scope)} genes decide together about one inert gene ({entries} cases); "
            f"let fewer genes share a slot"
        )
    result: npt.NDArray[Any] = np.full([width[g] for g in scope], start, dtype=tables[0][1].dtype if tables else None)
    for genes, table in tables:
        ordered = np.transpose(table, np.argsort(genes)) if genes else table
        shape = [width[g] if g in genes else 1 for g in scope]
        result = np.asarray(op(result, ordered.reshape(shape)), dtype=result.dtype)
    return scope, result
