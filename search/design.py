"""What a search returns: designs, each a chain of stages that can be exported, run and verified."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict, TypeAdapter

from hwbench.setting import Setting

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of a dynamic network.

    space, genes: the subnet this stage belongs to (canonical genes).
    position: index into the space's exit positions, or −1 for the network's final classifier.
    router: the score that decides (`max_softmax`), or `patience`; threshold: leave when the score, or the number of
    exits in a row that agree, is ≥ it; None on the last stage.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    space: str
    genes: tuple[int, ...]
    position: int
    target: str
    backend: str
    setting: Setting
    router: str
    threshold: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A dynamic network: stages in order.

    answers: key of the `answers` task whose result holds the recalibrated statistics and the trained heads.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    stages: tuple[Stage, ...]
    answers: str | None = None

    @property
    def key(self) -> str:
        """blake2b of all that the design says: short, stable, the `design` column of every file."""
        text = json.dumps(ADAPTER.dump_python(self, mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


ADAPTER: TypeAdapter[Design] = TypeAdapter(Design)
