"""Where a search begins from another one's front: its backbones, told by what their genes mean.

Only genes are taken over, never results: the other run may have searched for another target, table or objective, or in
another space that has the same choices under the same names. What to reuse of computed results says `search.reuse`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hwbench.errors import ConfigError
from models.space import Space, load_space
from search.run import read_config, read_designs


def first_backbones(folder: Path, space: Space) -> tuple[tuple[int, ...], ...]:
    """Canonical genes in `space` of the different backbones of a finished run's front, in the order of front.csv.

    Raises ConfigError where the run is not finished or found nothing, its space is gone or has changed, or a backbone
    does not fit `space`: which one, and what it chooses there.
    """
    config = read_config(folder)
    theirs = load_space(config.space)
    if theirs.digest() != config.space_sha256:
        raise ConfigError(
            f"{folder}: space {theirs.name!r} has changed since that search, so what its genes mean cannot be told"
        )
    found = dict.fromkeys(stage.genes for design in read_designs(folder) for stage in design.stages)
    if not found:
        raise ConfigError(f"{folder}: its front holds no design to begin from; name another run")
    return tuple(dict.fromkeys(_here(folder, theirs, genes, space) for genes in found))


def _here(folder: Path, theirs: Space, genes: tuple[int, ...], space: Space) -> tuple[int, ...]:
    """The genes by which `space` chooses what `genes` chose in `theirs`."""
    name = f"{folder}: backbone {theirs.name}:{'.'.join(map(str, genes))}"
    choice: Mapping[str, int | float | str] = theirs.choice(genes)
    if strange := [gene for gene in choice if gene not in {g.name for g in space.genes}]:
        raise ConfigError(f"{name} does not fit space {space.name!r}, which has no gene {strange[0]!r}")
    point = []
    for gene in space.genes:
        if gene.name in choice and _inert(theirs, genes, gene.name):
            point.append(0)
            continue
        if gene.name not in choice:
            raise ConfigError(f"{name} does not fit space {space.name!r}: it says nothing of gene {gene.name!r}")
        if choice[gene.name] not in gene.values:
            raise ConfigError(
                f"{name} does not fit space {space.name!r}: {gene.name} = {choice[gene.name]}, "
                f"there it is one of {', '.join(map(str, gene.values))}"
            )
        point.append(gene.values.index(choice[gene.name]))
    return space.subnet(point).genes


def _inert(space: Space, genes: tuple[int, ...], name: str) -> bool:
    """Whether nothing in the network depends on that gene, as on the kernel of a layer that is left out."""
    i = next(i for i, gene in enumerate(space.genes) if gene.name == name)
    others = [(*genes[:i], value, *genes[i + 1 :]) for value in range(len(space.genes[i].values)) if value != genes[i]]
    return bool(others) and all(space.subnet(other).genes == genes for other in others)
