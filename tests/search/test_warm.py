"""A search that begins from another one's front."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hwbench.errors import ConfigError
from hwbench.setting import Setting
from models.space import Space, load_space
from search import design
from search.front import Front, Promise
from search.run import Config, Run
from search.strategies import evolution, nested
from search.warm import first_backbones
from tests.search.toy import BUDGET, Toy
from tests.search.toy_run import CONFIG

DIGITS = load_space("digits")


def finished(folder: Path, space: Space, *backbones: np.ndarray, config: Config = CONFIG) -> Path:
    """A run folder of that space with a design of each backbone on its front."""
    known = config.model_copy(update={"space": space.name, "space_sha256": space.digest()})
    stages = [
        design.Stage(
            space=space.name, genes=space.subnet(b).genes, position=-1, target="host", backend="onnxruntime",
            setting=Setting(unit="cpu", precision="fp32"), router="max_softmax", threshold=None,
        )
        for b in backbones
    ]  # fmt: skip
    problem = Toy()
    promises = [
        Promise(
            design=design.Design(stages=(stage,)),
            metrics={"accuracy": 0.5 + i / 10, "latency_ms": 0.5 + i},
            exit_rates=(1.0,),
            evidence={},
        )
        for i, stage in enumerate(stages)
    ]
    with Run.start(folder, known) as run:
        run.finish(Front.of(problem.objectives, problem.reference, promises))
    return folder


def test_backbones_of_the_front_come_over_in_its_order(tmp_path: Path) -> None:
    """Each once."""
    run = finished(tmp_path / "run", DIGITS, DIGITS.smallest(), DIGITS.largest())
    assert {DIGITS.subnet(DIGITS.smallest()).genes, DIGITS.subnet(DIGITS.largest()).genes} == set(
        first_backbones(run, DIGITS)
    )


def test_genes_are_told_by_what_they_mean(tmp_path: Path) -> None:
    """In a space with one value more before the others the same choice has another index."""
    gene = DIGITS.genes[0]
    run = finished(tmp_path / "run", DIGITS, DIGITS.largest())
    (there,) = first_backbones(run, DIGITS)
    fewer = replace(DIGITS, genes=(replace(gene, values=gene.values[::-1]), *DIGITS.genes[1:]))
    (here,) = first_backbones(run, fewer)
    assert DIGITS.choice(there)[gene.name] == fewer.choice(here)[gene.name]


def test_a_backbone_that_does_not_fit_is_named(tmp_path: Path) -> None:
    """With the gene, its value and what the space has instead."""
    gene = DIGITS.genes[0]
    run = finished(tmp_path / "run", DIGITS, DIGITS.largest())
    other = replace(DIGITS, name="mine", genes=(replace(gene, values=tuple(-1 - i for i in range(len(gene.values)))),
                                                *DIGITS.genes[1:]))  # fmt: skip
    with pytest.raises(ConfigError, match=rf"run: backbone digits:\S+ does not fit space 'mine': {gene.name} = "):
        first_backbones(run, other)
    renamed = replace(DIGITS, name="mine", genes=(replace(gene, name="odd"), *DIGITS.genes[1:]))
    with pytest.raises(ConfigError, match=rf"does not fit space 'mine', which has no gene '{gene.name}'"):
        first_backbones(run, renamed)


def test_a_run_that_is_not_through_or_whose_space_changed_is_refused(tmp_path: Path) -> None:
    """Before anything is computed."""
    config = CONFIG.model_copy(update={"space": "digits", "space_sha256": DIGITS.digest()})
    with Run.start(tmp_path / "open", config):
        pass
    with pytest.raises(ConfigError, match="its search is not through"):
        first_backbones(tmp_path / "open", DIGITS)
    with Run.start(tmp_path / "changed", config.model_copy(update={"space_sha256": "0"})):
        pass
    with pytest.raises(ConfigError, match="has changed since that search"):
        first_backbones(tmp_path / "changed", DIGITS)
    with pytest.raises(ConfigError, match="no run folder"):
        first_backbones(tmp_path / "nothing", DIGITS)


def asked_first(strategy: ModuleType, first: tuple[tuple[int, ...], ...]) -> list[tuple[int, ...]]:
    """The genes of the first batch that a strategy asks."""
    searching = strategy.open(strategy.Options(first=first)).search(Toy(), BUDGET, np.random.default_rng(1))
    return [tuple(task.args["genes"]) for task in next(searching)]


@pytest.mark.parametrize("strategy", [nested, evolution])
def test_they_are_the_first_population(strategy: ModuleType) -> None:
    """Before the smallest, the largest and random ones; of too many some over the whole front."""
    space = Toy().space
    drawn = [tuple(map(int, row)) for row in space.sample(200, np.random.default_rng(0))]
    given = tuple(dict.fromkeys(drawn))[: 2 * BUDGET.outer_population]
    few = asked_first(strategy, given[:2])
    assert [*given[:2]] == few[:2]
    assert BUDGET.outer_population == len(few) == len(set(few))
    assert space.subnet(space.smallest()).genes in few
    many = asked_first(strategy, given)
    assert BUDGET.outer_population == len(many)
    assert set(many) <= set(given) and (given[0], given[-1]) == (many[0], many[-1])
