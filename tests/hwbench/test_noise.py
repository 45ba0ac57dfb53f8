"""A session's grade is that of the worst that is known of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hwbench.noise import Noise, grade_of, middle, noise_of

_QUIET = Noise(control_percent=0.3, steal_percent=0.0, others_percent=1.0, switches_per_s=2.0, unsteady_percent=0.0)


def test_nothing_known_is_no_grade() -> None:
    """A vendor's tool tells nothing, and that is not quiet."""
    assert noise_of([], []) == Noise()
    assert Noise().grade is None
    assert Noise(steal_percent=0.0).grade == "A"


@pytest.mark.parametrize(
    ("told", "grade"),
    [
        ({}, "A"),
        ({"control_percent": 1.5}, "B"),
        ({"steal_percent": 0.5}, "B"),
        ({"others_percent": 30.0}, "C"),
        ({"switches_per_s": 201.0}, "D"),
        ({"unsteady_percent": 20.0}, "B"),
        ({"unsteady_percent": 90.0, "control_percent": None}, "D"),
    ],
)
def test_the_worst_decides(told: dict[str, float], grade: str) -> None:
    """One figure is enough; bounds belong to the better grade."""
    assert grade == replace(_QUIET, **told).grade


def test_figures_are_sums_over_the_windows() -> None:
    """A tick that one window has too much another has too little; only the sum is cut at 0."""
    windows = [
        ({"elapsed_ms": 50.0, "steal_ms": 0.0, "others_ms": 9.0, "involuntary_switches": 1.0}, True),
        ({"elapsed_ms": 150.0, "steal_ms": 10.0, "others_ms": -5.0, "involuntary_switches": 3.0}, False),
    ]
    told = noise_of(windows, [1.0, 1.1, 1.0])
    assert (told.steal_percent, told.others_percent) == (5.0, 2.0)
    assert (told.switches_per_s, told.unsteady_percent) == (20.0, 50.0)
    assert told.control_percent == 0.0


def test_what_one_window_does_not_tell_is_unknown() -> None:
    """A sum over some of them would be too small."""
    told = noise_of([({"elapsed_ms": 50.0, "steal_ms": 0.0}, True), ({"elapsed_ms": 50.0}, True)], [1.0])
    assert told == Noise(unsteady_percent=0.0)


def test_a_table_is_graded_by_its_middle_session() -> None:
    """Of two the worse."""
    assert grade_of([]) is None
    assert "B" == grade_of(["A", "B"])
    assert "B" == grade_of(["A", "D", "B"])
    assert Noise(steal_percent=2.0, switches_per_s=7.0) == middle(
        [Noise(steal_percent=1.0), Noise(steal_percent=3.0, switches_per_s=7.0)]
    )
    assert "steal 2.0 %, 7 switches/s" == Noise(steal_percent=2.0, switches_per_s=7.0).line
