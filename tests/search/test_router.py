"""What can be asked for can be computed."""

from __future__ import annotations

from models.exits import SCORES
from search.router import ROUTERS


def test_every_score_is_a_router() -> None:
    """Whatever function of logits the models know can decide in a search, and the first one is the default."""
    assert set(SCORES) <= set(ROUTERS)
    assert ROUTERS[0] == "max_softmax"
