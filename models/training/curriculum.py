"""Which genes vary while shared weights are trained: phases, one after another (progressive shrinking has several).

Source: once-for-all §3.3 (kernel, then depth, then width); with a single phase it is the plain sandwich rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwbench.errors import ConfigError, nearest
from models.space import Space


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A stretch of the training. groups: of the genes that vary (see `Gene.group`), None = all; the others are largest.

    share: of all steps, relative to the other phases.
    """

    groups: tuple[str, ...] | None = None
    share: float = 1.0


def check(phases: Sequence[Phase], space: Space) -> None:
    """Raises ConfigError where a phase names a group that the space does not have, or takes no time."""
    known = {gene.group for gene in space.genes}
    if not phases:
        raise ConfigError(f"space {space.name!r}: a training needs at least one phase")
    for phase in phases:
        for group in phase.groups or ():
            if group not in known:
                raise ConfigError(f"space {space.name!r}: no genes of group {group!r}{nearest(group, known)}")
        if not phase.share > 0:
            raise ConfigError(f"space {space.name!r}: a phase has the share {phase.share}; it takes more than 0")


def phase_at(phases: Sequence[Phase], progress: float) -> Phase:
    """The phase that runs when this share of all steps is done (0 to 1)."""
    total = sum(phase.share for phase in phases)
    done = 0.0
    for phase in phases:
        done += phase.share / total
        if progress < done:
            return phase
    return phases[-1]


def smallest(space: Space, phase: Phase) -> npt.NDArray[np.int16]:
    """(G,) the smallest subnet that this phase trains."""
    points: npt.NDArray[np.int16] = space.canonical(_pinned(space, phase, space.smallest()[None]))
    return np.asarray(points[0])


def sample(space: Space, phase: Phase, n: int, rng: np.random.Generator) -> npt.NDArray[np.int16]:
    """(n, G) random subnets that this phase trains."""
    return space.canonical(_pinned(space, phase, space.sample(n, rng)))


def _pinned(space: Space, phase: Phase, genes: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    if phase.groups is None:
        return genes
    pinned = genes.copy()
    for i, gene in enumerate(space.genes):
        if gene.group not in phase.groups:
            pinned[:, i] = len(gene.values) - 1
    return pinned
