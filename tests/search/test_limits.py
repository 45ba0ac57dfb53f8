"""Limits that the table proves impossible are refused, alone or two of them; others are left to the search."""

from __future__ import annotations

import pytest

from hwbench.errors import ConfigError
from models.space import load_space
from search.cost import Costs
from search.limits import check
from search.objective import Constraint, by_metric
from tests.search.priced import FAST, SLOW, table

DIGITS = load_space("digits")


@pytest.fixture(scope="module")
def costs() -> Costs:
    """Fast and hungry, or slow and frugal."""
    return Costs.of(DIGITS, table(DIGITS, (SLOW, FAST)), (SLOW, FAST), ["latency_ms", "energy_mj"])


def limited(**limits: float) -> list[Constraint]:
    return [Constraint(objective=by_metric(metric), limit=limit) for metric, limit in limits.items()]


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"accuracy": 1.5}, "accuracy of at least 1.5 cannot be: it is a share"),
        ({"accuracy": 0.9, "latency_ms": 0.02}, "latency_ms of at most 0.02 cannot be: every network of space digits"),
        ({"latency_ms": 0.04, "energy_mj": 0.1}, "latency_ms 0.04 and energy_mj 0.1 exclude each other"),
    ],
)
def test_what_no_design_keeps_is_named(costs: Costs, limits: dict[str, float], said: str) -> None:
    """A share above one; a cost below all; a latency that only fast clocks keep beside an energy of slow ones."""
    with pytest.raises(ConfigError, match=said) as caught:
        check(limited(**limits), costs)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "limits",
    [{}, {"latency_ms": 0.04}, {"energy_mj": 0.1}, {"latency_ms": 0.04, "energy_mj": 0.2}, {"accuracy": 1.0},
     {"exits": 0.0, "size_bytes": 1.0}],
)  # fmt: skip
def test_what_the_table_does_not_exclude_is_searched(costs: Costs, limits: dict[str, float]) -> None:
    """Each of the two limits above can be kept without the other, and bytes are no clocks' business."""
    check(limited(**limits), costs)
