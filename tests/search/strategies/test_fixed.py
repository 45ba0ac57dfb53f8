"""Given backbones get exits and an inner search each, and nothing else is asked."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from hwbench.errors import ConfigError
from search.strategies import fixed
from search.task import run
from tests.search.toy import BUDGET, Toy

pytestmark = pytest.mark.usefixtures("outside")


def test_each_backbone_is_asked_once_and_its_front_counts() -> None:
    """Answers, exits, inner searches: three batches of two; the front holds what both found."""
    problem = Toy()
    dialogue = fixed.open(fixed.Options(backbones=((0, 0, 0), (3, 2, 1)))).search(
        problem, BUDGET, np.random.default_rng(0)
    )
    batches = [next(dialogue)]
    with pytest.raises(StopIteration) as end:
        while True:
            batches.append(dialogue.send([run(task) for task in batches[-1]]))
    front = end.value.value
    assert [("double", 2), ("double", 2), ("inner", 2)] == [(b[0].kind, len(b)) for b in batches]
    assert [False, True] == [b[0].args["exits"] for b in batches[:2]]
    assert {(0, 0, 0), (3, 2, 1)} == {d.stages[0].genes for d in front.designs}


def test_backbones_are_needed_and_belong_to_the_space() -> None:
    """Said before anything is asked."""
    with pytest.raises(ValidationError):
        fixed.Options(backbones=())
    strategy = fixed.open(fixed.Options(backbones=((0, 0, 4),)))
    with pytest.raises(ConfigError, match="gene 'g2' is 4"):
        next(strategy.search(Toy(), BUDGET, np.random.default_rng(0)))
