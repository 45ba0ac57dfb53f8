"""hwbench.judged: figures by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hwbench.judged import Judged, kendall


def test_kendall_is_the_share_of_pairs_in_order() -> None:
    """By hand: one of six pairs is out of order."""
    assert kendall(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 4, 3])) == pytest.approx(4 / 6)
    assert np.isnan(kendall(np.ones(3), np.arange(3.0)))
    assert 1.0 == Judged.of(np.array([1.0, 2.04]), np.array([1.0, 2.0])).within_5


def test_no_network_is_predicted_to_cost_less_than_the_cheapest() -> None:
    """A sum of costs may say so of a network left out; a user is never told it."""
    assert 0.0 == Judged.left_out(np.array([-1.0, 2.0]), np.array([1.0, 2.0])).mape
