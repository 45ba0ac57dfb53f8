"""Limits that nothing can keep, told before anything is computed: alone, or two of them together.

Only what the table proves is refused. Whether an accuracy can be had at a cost is for the search to find.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hwbench.errors import ConfigError
from search.cost import Costs
from search.objective import Constraint

# Shares: no design has more.
_MOST = {"accuracy": 1.0, "score": 1.0}


def check(constraints: Sequence[Constraint], costs: Costs) -> None:
    """Raises ConfigError naming a limit, or a pair of limits, that no design of the space keeps at any clocks."""
    kept: dict[str, np.ndarray] = {}  # metric -> (P,) what it costs at least
    for constraint in constraints:
        name, limit = constraint.objective.name, constraint.limit
        if limit > _MOST.get(name, np.inf):
            raise ConfigError(f"{name} of at least {limit:g} cannot be: it is a share, from 0 to 1")
        if constraint.objective.sense == "min" and name in costs.addend:
            kept[name] = costs.least(name)
            if kept[name].min() > limit:
                raise ConfigError(
                    f"{name} of at most {limit:g} cannot be: every network of space {costs.space.name} costs more than "
                    f"{_below(kept[name].min())}, whatever its exits and clocks; raise the limit"
                )
    limits = {c.objective.name: c.limit for c in constraints}
    names = list(kept)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            here = kept[one] <= limits[one]
            if not (kept[other][here] <= limits[other]).any():
                raise ConfigError(
                    f"{one} {limits[one]:g} and {other} {limits[other]:g} exclude each other: at clocks that allow the "
                    f"first, {other} is more than {_below(kept[other][here].min())}; raise one of them"
                )


def _below(value: float) -> str:
    """Three digits, rounded down, so that what is said to be exceeded is exceeded."""
    step = 10.0 ** (np.floor(np.log10(value)) - 2) if value > 0 else 1.0
    return f"{np.floor(value / step) * step:.3g}"
