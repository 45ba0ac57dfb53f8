"""A few points of a grid that stand for all of it: its corners, and then always the one farthest from those chosen.

No numpy and nothing random: the same points every time, so that a sweep can be resumed and compared.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

Value = float | str
_Place = tuple[float, ...]


def spread(axes: Mapping[str, Sequence[Value]], count: int) -> list[dict[str, Value]]:
    """At most `count` points of the product of the axes, the highest corner first.

    axes: values by name, ascending; distances are those of logarithms, each axis as long as any other, since what takes
    time goes with 1 / value. Names (of modes) are as far apart as their places in the list.
    """
    places = [_scaled(values) for values in axes.values()]
    points = dict(zip(itertools.product(*places), itertools.product(*axes.values()), strict=True))
    corners = list(itertools.product(*({scaled[0], scaled[-1]} for scaled in places)))
    top = tuple(scaled[-1] for scaled in places)
    chosen = _farthest([top], [c for c in sorted(corners) if c != top], count)
    rest = set(chosen)
    chosen = _farthest(chosen, [p for p in points if p not in rest], count)
    return [dict(zip(axes, points[place], strict=True)) for place in chosen[:count]]


def _farthest(chosen: list[_Place], others: Iterable[_Place], count: int) -> list[_Place]:
    """Add others until there are so many, each the one farthest from all chosen; the first of equals."""
    chosen = list(chosen)
    left = {place: min(math.dist(place, one) for one in chosen) for place in others}
    while left and len(chosen) < count:
        # Rounded, so that no last digit decides between equals.
        best = max(left, key=lambda place: round(left[place], 9))
        chosen.append(best)
        del left[best]
        left = {place: min(apart, math.dist(place, best)) for place, apart in left.items()}
    return chosen


def _scaled(values: Sequence[Value]) -> list[float]:
    """Each value's place from 0 to 1, ascending."""
    numbers = [value for value in values if not isinstance(value, str)]
    if len(numbers) < len(values) or min(numbers) <= 0:
        raw = [float(place) for place in range(len(values))]
    else:
        raw = [math.log(value) for value in numbers]
    length = raw[-1] - raw[0]
    return [(value - raw[0]) / length if length else 0.0 for value in raw]
