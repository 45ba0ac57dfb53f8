"""A few points that stand for a grid."""

from __future__ import annotations

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from hwbench.spread import spread

GPU = (114.75, 216.75, 318.75, 420.75, 522.75, 624.75, 726.75, 854.25, 930.75, 1032.75, 1122.0, 1236.75, 1300.5)
EMC = (1062.4, 1331.2, 1600.0, 1866.0)
axes_of = st.dictionaries(
    st.sampled_from(["cpu", "gpu", "emc", "mode"]),
    st.lists(st.floats(1, 3000), min_size=1, max_size=6, unique=True).map(sorted) | st.just(["15W", "30W", "MAXN"]),
    min_size=1,
    max_size=3,
)


@given(axes_of, st.integers(1, 40))
def test_points_are_of_the_grid_and_none_comes_twice(axes: dict[str, list[float | str]], count: int) -> None:
    """As many as were asked for, or all there are; a longer list begins with the shorter one."""
    found = spread(axes, count)
    grid = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    assert len(found) == min(count, len(grid))
    assert all(point in grid for point in found)
    assert len({tuple(point.items()) for point in found}) == len(found)
    assert spread(axes, count + 3)[: len(found)] == found


def test_corners_come_first_and_the_highest_of_all() -> None:
    """Nothing is predicted beyond them."""
    found = spread({"gpu": GPU, "emc": EMC}, 4)
    assert found[0] == {"gpu": 1300.5, "emc": 1866.0}
    assert {(p["gpu"], p["emc"]) for p in found} == set(itertools.product((GPU[0], GPU[-1]), (EMC[0], EMC[-1])))


def test_the_rest_fills_the_grid() -> None:
    """Each value of the smaller axis is met, and no two of twelve points are nearer than a sixth of an axis."""
    found = spread({"gpu": GPU, "emc": EMC}, 12)
    assert {p["emc"] for p in found} == set(EMC)

    def place(point: dict[str, float | str]) -> tuple[float, ...]:
        ends = {"gpu": (GPU[0], GPU[-1]), "emc": (EMC[0], EMC[-1])}
        return tuple(math.log(float(point[n]) / low) / math.log(high / low) for n, (low, high) in ends.items())

    assert min(math.dist(place(a), place(b)) for a, b in itertools.combinations(found, 2)) > 1 / 6
