"""Objectives keep their order and sense; a constraint is an objective with a limit."""

from __future__ import annotations

import numpy as np
import pytest

from hwbench.errors import ConfigError
from search.objective import ACCURACY, KNOWN, Constraint, by_metric, objectives


def test_accuracy_comes_first_and_the_order_asked_is_kept() -> None:
    names = [o.name for o in objectives(["size", "latency", "accuracy", "energy", "latency"])]
    assert names == ["accuracy", "size_bytes", "latency_ms", "energy_mj"]


def test_an_unknown_objective_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'latency'"):
        objectives(["latancy"])
    with pytest.raises(ConfigError, match="did you mean 'latency_ms'"):
        by_metric("latency_m")


def test_accuracy_alone_is_no_trade_off() -> None:
    with pytest.raises(ConfigError, match="one more objective"):
        objectives(["accuracy"])


def test_every_objective_is_found_by_its_metric() -> None:
    assert [by_metric(o.name) for o in KNOWN.values()] == list(KNOWN.values())


def test_violation_grows_beyond_the_limit_in_the_metrics_own_sense() -> None:
    """At most for costs, at least for accuracy, relative to the limit; a value nobody knows keeps no limit."""
    latency = Constraint(objective=KNOWN["latency"], limit=2.0)
    assert latency.violation(np.array([1.0, 2.0, 3.0, np.nan])).tolist() == [0.0, 0.0, 0.5, np.inf]
    accuracy = Constraint(objective=ACCURACY, limit=0.8)
    np.testing.assert_allclose(accuracy.violation(np.array([0.9, 0.8, 0.6, np.nan])), [0.0, 0.0, 0.25, np.inf])
