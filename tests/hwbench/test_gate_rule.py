"""hwbench.gate_rule: effects, what rows lend each other, verdicts, and what is decided while sessions are added."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwbench.gate_rule import Docket, Effect, Rule, between, discoveries, exact, judge, looks, moderated, paired


def effect(log: float, error: float = 0.002, sessions: int = 8) -> Effect:
    return Effect(log=log, error=error, freedom=sessions - 1, sessions=sessions)


class TestPaired:
    """Effects from sessions that both arms share."""

    def test_what_a_session_does_to_both_arms_falls_out(self, rng: np.random.Generator) -> None:
        """Sessions that differ threefold, a slowdown of exactly 2 %: no error is left."""
        base = rng.uniform(1, 3, 8)
        found = paired(base, 1.02 * base)
        assert found is not None
        assert math.log(1.02) == pytest.approx(found.log)
        assert 0 == pytest.approx(found.error)

    def test_one_spoilt_session_moves_nothing(self, rng: np.random.Generator) -> None:
        """A neighbour that makes one of eight sessions ten times slower is cut off."""
        base = rng.normal(1, 0.01, 8)
        new = rng.normal(1, 0.01, 8)
        new[3] *= 10
        found = paired(base, new)
        assert found is not None and abs(found.log) < 0.02

    def test_two_sessions_say_nothing(self) -> None:
        """Fewer than three leave no idea of the noise."""
        assert paired([1.0, 2.0], [1.0, 2.0]) is None

    def test_its_intervals_cover_as_they_promise(self, rng: np.random.Generator) -> None:
        """92 to 98 % of 95 % intervals hold the truth, with half of the sessions cut off (2000 trials)."""
        trials = [paired(rng.lognormal(0, 0.02, 8), 1.03 * rng.lognormal(0, 0.02, 8)) for _ in range(2000)]
        inside = np.mean([t is not None and t.interval()[0] <= 1.03 <= t.interval()[1] for t in trials])
        assert 0.92 <= inside <= 0.98

    @given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)), min_size=3, max_size=20))
    def test_swapping_the_arms_turns_the_effect_round(self, pairs: list[tuple[float, float]]) -> None:
        """A slowdown one way is the same speed-up the other way."""
        base, new = zip(*pairs, strict=True)
        there, back = paired(base, new), paired(new, base)
        assert there is not None and back is not None
        assert there.log == pytest.approx(-back.log, abs=1e-9)
        assert there.error == pytest.approx(back.error, abs=1e-9)


class TestBetween:
    """Effects from the intervals of two tables."""

    def test_equal_rows_have_no_effect(self) -> None:
        """And the error of both together."""
        found = between((1.0, 0.99, 1.01), (1.0, 0.99, 1.01), 8, 8)
        assert found is not None
        assert 0 == found.log
        assert 14 == found.freedom
        assert math.sqrt(2) * 0.01 / 2.365 == pytest.approx(found.error, rel=1e-3)

    def test_a_single_session_has_none(self) -> None:
        """Unknown noise is not 0."""
        assert between((1.0, 0.99, 1.01), (1.0, 1.0, 1.0), 8, 1) is None


def test_rows_lend_each_other_what_they_know(rng: np.random.Generator) -> None:
    """Of equally noisy rows the luckiest loses its small error and the unluckiest its large one."""
    effects = [e for _ in range(40) if (e := paired(rng.lognormal(0, 0.01, 8), rng.lognormal(0, 0.01, 8)))]
    drawn = moderated(effects)
    alone, together = (np.array([e.error for e in es]) for es in (effects, drawn))
    assert together.std() < 0.6 * alone.std()
    assert min(e.freedom for e in drawn) > effects[0].freedom


def test_rows_that_disagree_lend_little() -> None:
    """A noisy row among quiet ones keeps its noise."""
    effects = [effect(0.0, 10.0 ** -(1 + i % 4)) for i in range(40)]
    drawn = moderated(effects)
    assert all(0.5 < d.error / e.error < 2 for d, e in zip(drawn, effects, strict=True))


def test_few_rows_stand_alone() -> None:
    """Two rows do not tell how rows differ."""
    effects = [effect(0.0, 0.001), effect(0.0, 0.1)]
    assert effects == moderated(effects)


class TestJudge:
    """Verdicts."""

    @pytest.mark.parametrize(
        ("log", "error", "verdict"),
        [
            (0.0, 0.002, "ok"),
            (0.05, 0.002, "regression"),
            (-0.05, 0.002, "improvement"),
            (0.05, 0.02, "inconclusive"),
            (0.0, 0.03, "inconclusive"),
            # Shown to be slower, yet by less than is worth a verdict.
            (0.009, 0.0001, "ok"),
        ],
    )
    def test_a_verdict_is_shown_or_withheld(self, log: float, error: float, verdict: str) -> None:
        """Neither a regression nor ok is claimed where the interval allows both."""
        assert [verdict] == judge([effect(log, error)], Rule())

    def test_among_many_rows_more_is_asked_of_each(self) -> None:
        """What convinces alone does not among a hundred, where one such row is expected by chance."""
        lone, rule = effect(0.023, 0.003), Rule()
        assert ["regression"] == judge([lone], rule)
        assert "regression" not in judge([lone] + [effect(0.0, 0.003)] * 99, rule)

    def test_exact_values_need_no_sessions(self) -> None:
        """Simulations without noise differ or do not."""
        assert ["ok", "regression", "ok"] == judge([exact(1, 1), exact(1, 1.02), exact(1, 1.005)], Rule())


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0.001, 0.2))
def test_discoveries_are_the_smallest_chances(chances: list[float], rate: float) -> None:
    """Whoever is found is no likelier chance than one who is not; all below Bonferroni's line are found."""
    found = discoveries(chances, rate)
    assert all(f for f, p in zip(found, chances, strict=True) if p <= rate / len(chances))
    kept, left = ([p for f, p in zip(found, chances, strict=True) if f is which] for which in (True, False))
    assert not kept or not left or max(kept) <= min(left)


def test_what_is_decided_stays_decided() -> None:
    """Later sessions of other rows do not reopen a verdict."""
    docket = Docket(rule=Rule())
    docket.hear({0: effect(0.05), 1: effect(0.02, 0.01)})
    assert [1] == docket.undecided
    docket.hear({1: effect(0.0, 0.001, 16)})
    assert {0: "regression", 1: "ok"} == docket.verdicts
    assert [] == docket.undecided


def test_sessions_double_up_to_the_most() -> None:
    """Eight, sixteen, thirty-two: few questions, each of which costs some certainty."""
    assert [8, 16, 32, 63] == looks(8, 63)
    assert [8] == looks(8, 8)
