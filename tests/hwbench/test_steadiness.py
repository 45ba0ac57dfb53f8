"""Steps and drifts are found, noise is not, and a window says what it could have shown."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from hwbench import steadiness as module
from hwbench.statistics import ranks
from hwbench.steadiness import LEAST_CHANGE, steadiness

_DURATIONS = st.lists(st.integers(1, 10**12), max_size=300)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def test_a_step_is_found_where_it_is(rng: np.random.Generator) -> None:
    """5 % slower from the 60th of 200 runs on, in noise of 2 %."""
    runs = rng.normal(1.0, 0.02, 200) * np.where(np.arange(200) < 60, 1.0, 1.05)
    told = steadiness(runs)
    assert ("step", False) == (told.found, told.steady)
    assert told.change == pytest.approx(0.05, abs=0.01)
    assert told.at == pytest.approx(0.3, abs=0.03)


def test_a_drift_is_found(rng: np.random.Generator) -> None:
    """Faster by 5 % at the end."""
    told = steadiness(rng.normal(1.0, 0.01, 300) * np.linspace(1.0, 0.95, 300))
    assert "drift" == told.found
    assert told.change == pytest.approx(-0.05, abs=0.015)
    assert math.isnan(told.at)


def test_a_change_too_small_to_matter_is_none(rng: np.random.Generator) -> None:
    """However clear it is."""
    runs = rng.normal(1.0, 0.0001, 400) * np.where(np.arange(400) < 200, 1.0, 1.02)
    assert steadiness(runs).steady
    assert steadiness(runs).resolves == pytest.approx(LEAST_CHANGE, rel=0.01)


@pytest.mark.parametrize("count", [20, 50, 139, 5000])
def test_false_alarms_are_rare(rng: np.random.Generator, count: int) -> None:
    """Of 500 windows with skewed noise of 30 %, 2 % alarm, give or take."""
    assert sum(not steadiness(1 + rng.exponential(0.3, count)).steady for _ in range(500)) <= 17


def test_neighbours_that_are_alike_raise_no_alarm(rng: np.random.Generator) -> None:
    """A clock that hops every few runs is noise: of 200 such windows at most 5 % alarm."""
    alarms = 0
    for _ in range(200):
        fast = np.cumsum(rng.random(100) < 0.5) % 2 == 0
        alarms += not steadiness(rng.normal(1.0, 0.005, 100) * np.where(fast, 1.0, 1.1)).steady
    assert alarms <= 10


def test_a_window_says_what_it_resolves(rng: np.random.Generator) -> None:
    """A drift as large as it says is found in 95 % of windows, give or take."""
    quiet = [steadiness(rng.normal(1.0, 0.06, 80)).resolves for _ in range(100)]
    size = float(np.median(quiet))
    assert 0.04 < size < 0.2
    drifting = np.exp(np.linspace(0, size, 80))
    assert sum(not steadiness(rng.normal(1.0, 0.06, 80) * drifting).steady for _ in range(300)) >= 270


@pytest.mark.parametrize("runs", [[], [5], [5] * 9, [1] * 9 + [9] * 10])
def test_few_runs_say_nothing(runs: list[int]) -> None:
    """Neither that it was steady nor what would have been seen."""
    told = steadiness(runs)
    assert told.steady
    assert math.isnan(told.resolves)


def test_what_chance_reaches_is_what_the_tables_say(rng: np.random.Generator) -> None:
    """The best split of random orders exceeds its bound in about 1 % of windows."""
    count = 50
    bound = dict(zip(module._PIECES, module._STEP, strict=True))[count]
    over = 0
    for _ in range(2000):
        rank = ranks(rng.random(count))
        rank -= rank.mean()
        over += module._best_split(rank, float(rank @ rank) / (count - 1))[1] > bound
    assert 6 <= over <= 38


@given(_DURATIONS, st.integers(2, 1000))
@settings(max_examples=100, deadline=None)
def test_any_durations_are_judged_alike_in_any_unit(runs: list[int], unit: int) -> None:
    """Equal runs and ties included; what is found does not depend on the unit, and a steady window has no change."""
    told, other = steadiness(runs), steadiness([run * unit for run in runs])
    assert told.found == other.found
    assert told.change == pytest.approx(other.change)
    assert told.steady == (told.change == 0.0)
