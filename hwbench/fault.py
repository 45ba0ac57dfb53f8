"""The first fault of a file that people write, in one line: where it is, what is wrong, and the nearest known key."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from hwbench.errors import nearest


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first fault in one line: where it is, what is wrong, and for an unknown key the nearest known one."""
    faults = error.errors(include_url=False)
    # An unknown key often causes the missing one beside it, so it is the one to name.
    first = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    place = ".".join(str(p) for p in first["loc"])
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"unknown key {place!r}{nearest(str(first['loc'][-1]), _keys_at(model, first['loc'][:-1]))}{more}"
    if first["type"] == "missing":
        return f"{place!r} is missing{more}"
    return f"{place}: {first['msg']} (here: {first['input']!r}){more}"


def _keys_at(model: type[BaseModel], place: Sequence[str | int]) -> list[str]:
    """Keys that the model at this place inside `model` knows; [] where the place is no model."""
    here: Any = model
    for step in place:
        if isinstance(here, type) and issubclass(here, BaseModel):
            fields = here.model_fields
            field = next((f for n, f in fields.items() if step in (n, f.alias)), None)
            here = field.annotation if field else None
        else:  # an item of a list, or a value of a table
            here = next((a for a in reversed(typing.get_args(here)) if a is not Ellipsis), None)
        here = next((a for a in typing.get_args(here) if a is not type(None)), here) if _optional(here) else here
    if not (isinstance(here, type) and issubclass(here, BaseModel)):
        return []
    return [f.alias or n for n, f in here.model_fields.items()]


def _optional(annotation: Any) -> bool:
    return type(None) in typing.get_args(annotation)
