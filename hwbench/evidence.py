"""Where a number comes from; no number in this project travels without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from hwbench.errors import EvidenceError, nearest

Source = Literal["measured", "published", "simulated", "declared"]
# From the strongest claim to the weakest; `join(mixed=True)` keeps the weakest.
_STRENGTH: tuple[Source, ...] = ("measured", "published", "simulated", "declared")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Origin of a metric's values.

    source: `declared` is a data sheet's or a [power] model's word and always prints as predicted.
    derived: the value was computed from values of that source (composed rows, a fitted model).
    """

    source: Source
    derived: bool = False

    def __str__(self) -> str:
        return f"predicted:{self.source}" if self.derived or self.source == "declared" else self.source

    @classmethod
    def parse(cls, text: str) -> Evidence:
        """Read what `str()` wrote; raises EvidenceError for anything else."""
        derived, _, source = text.rpartition(":")
        if source not in get_args(Source) or derived not in ("", "predicted"):
            raise EvidenceError(f"unknown evidence {text!r}{nearest(source, get_args(Source))}")
        # A declared number is predicted by nature, so its prefix says nothing more.
        return cls(source=source, derived=derived == "predicted" and source != "declared")  # type: ignore[arg-type]


MEASURED = Evidence(source="measured")
DECLARED = Evidence(source="declared")


def join(*evidence: Evidence, mixed: bool = False) -> Evidence:
    """The evidence of a number made from several rows: one common source, derived.

    Raises EvidenceError when sources differ, unless `mixed`, which keeps the weakest of them.
    """
    if not evidence:
        raise EvidenceError("no evidence to join: a number without origin is not a number")
    sources = {e.source for e in evidence}
    if len(sources) > 1 and not mixed:
        raise EvidenceError(
            f"numbers of different origin ({', '.join(sorted(sources))}) do not add up; "
            "use tables of one kind, or ask for mixed evidence explicitly"
        )
    return Evidence(source=max(sources, key=_STRENGTH.index), derived=True)
