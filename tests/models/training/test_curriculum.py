"""models.training.curriculum: which genes vary, and when."""

from __future__ import annotations

import numpy as np
import pytest

from hwbench.errors import ConfigError
from models.space import load_space
from models.training.curriculum import Phase, check, phase_at, sample, smallest

SPACE = load_space("digits")


def test_phases_follow_each_other_by_their_shares() -> None:
    """Shares are relative; the last phase runs to the end, whatever rounding does."""
    phases = (Phase(share=1), Phase(groups=("depth",), share=3))
    assert [phases[0], phases[0], phases[1], phases[1]] == [phase_at(phases, p) for p in (0, 0.24, 0.26, 1.0)]


def test_only_the_named_groups_vary(rng: np.random.Generator) -> None:
    """All others are at their largest, in the smallest subnet of the phase as in random ones."""
    phase = Phase(groups=("kernel",))
    drawn = np.concatenate([sample(SPACE, phase, 50, rng), smallest(SPACE, phase)[None]])
    kernels = [i for i, gene in enumerate(SPACE.genes) if gene.group == "kernel"]
    others = [i for i in range(len(SPACE.genes)) if i not in kernels]
    assert (drawn[:, others] == SPACE.largest()[others]).all()
    assert all({0, 1} == set(drawn[:, i].tolist()) for i in kernels)


def test_without_groups_everything_varies(rng: np.random.Generator) -> None:
    """The plain sandwich rule."""
    assert SPACE.smallest().tolist() == smallest(SPACE, Phase()).tolist()
    drawn = sample(SPACE, Phase(), 200, rng)
    assert [len(gene.values) for gene in SPACE.genes] == [len(set(column)) for column in drawn.T.tolist()]


@pytest.mark.parametrize(
    ("phases", "words"),
    [
        ((), "at least one phase"),
        ((Phase(groups=("kernl",)),), "did you mean 'kernel'"),
        ((Phase(share=0),), "share 0"),
    ],
)
def test_phases_that_cannot_run_are_refused(phases: tuple[Phase, ...], words: str) -> None:
    """Before an hour of training, not after."""
    with pytest.raises(ConfigError, match=words):
        check(phases, SPACE)
