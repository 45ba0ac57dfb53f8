"""A composition at an operating point where no whole network was measured, from those where some were.

`scale` and the blocks' factors are ratios; `call`, `layout` and what standing alone costs are taken in units of what a
typical block costs at each point, which makes ratios of them too. Ratios change slowly with the clocks, so they are
averaged over the measured points, the nearer the more (Shepard: by the inverse square of the distance in logarithms of
the clocks). How far networks are from that is measured by leaving each point out: `fit.between`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from hwbench.composition import Composition, Error, Range
from hwbench.setting import Clocks, Setting


def nearby(compositions: Sequence[Composition], metric: str, setting: Setting) -> list[Composition]:
    """Those of the metric and setting whose clocks say something about its operating point.

    They name the same clocks with the same modes; without any of those, what was fitted at clocks as found.
    """
    plain = setting.without_clocks
    alike = [c for c in compositions if c.metric == metric and c.setting.without_clocks == plain]
    shape = _shape(setting.clocks)
    return [c for c in alike if _shape(c.setting.clocks) == shape] or [c for c in alike if not c.setting.clocks]


def carried(
    compositions: Sequence[Composition], setting: Setting, unit: Callable[[Setting], float], error: Error
) -> Composition:
    """The composition of `setting` that measured ones at other points tell.

    unit: what a typical block costs in a setting.  error: on networks at points left out.
    """
    weight = _weights([c.setting.clocks for c in compositions], setting.clocks)
    here = unit(setting)
    size = here / np.array([unit(c.setting) for c in compositions])

    def mean(values: Sequence[float]) -> float:
        return float(weight @ np.asarray(values))

    keys = sorted({key for c in compositions for key in c.factor})
    return Composition(
        metric=compositions[0].metric,
        setting=setting,
        call=mean([c.call for c in compositions] * size),
        scale=mean([c.scale for c in compositions]),
        layout=mean([c.layout for c in compositions] * size),
        alone=mean([c.paid_alone for c in compositions] * size),
        factor={key: mean([c.factor.get(key, 1.0) for c in compositions]) for key in keys},
        error=error,
        valid=Range(
            low=min(c.valid.low * s for c, s in zip(compositions, size.tolist(), strict=True)),
            high=max(c.valid.high * s for c, s in zip(compositions, size.tolist(), strict=True)),
        ),
        fitted_on=sum(c.fitted_on for c in compositions),
    )


def _shape(clocks: Clocks) -> tuple[tuple[str, str], ...]:
    """Names, and modes: what must be the same for a distance to mean anything."""
    return tuple((name, value if isinstance(value, str) else "") for name, value in clocks)


def _weights(points: Sequence[Clocks], at: Clocks) -> np.ndarray:
    """(P,) shares that add up to 1."""
    if not at or not points[0]:
        return np.full(len(points), 1 / len(points))
    square = np.array([sum(_apart(value, dict(at)[name]) ** 2 for name, value in point) for point in points])
    if not square.min():
        return np.asarray((square == 0) / (square == 0).sum())
    return np.asarray(1 / square / (1 / square).sum())


def _apart(one: float | str, other: float | str) -> float:
    return 0.0 if isinstance(one, str) or isinstance(other, str) else math.log(one / other)
