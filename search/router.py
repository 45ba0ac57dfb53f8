"""The controllers by which an input may leave early: their names, on the command line, in a run and in a design.

Imports nothing: the command line offers them before anything else is loaded.
"""

from __future__ import annotations

from typing import Literal, get_args

# Each compares one number of an exit with the exit's level. `max_softmax`, `entropy` and `margin` are functions of an
# exit's logits (`models.exits.SCORES`), `learned` is what each exit's own trained gate says of them (`models.gate`); of
# `patience` it is how many exits in a row agree (`search.patience`).
Router = Literal["max_softmax", "entropy", "margin", "patience", "learned"]
ROUTERS: tuple[str, ...] = get_args(Router)


def score_of(router: str) -> str:
    """The score that an exit's graph gives with this router; patience asks for none, so the default's answers serve."""
    return "max_softmax" if router == "patience" else router
