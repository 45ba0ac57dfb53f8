"""HADAS' score: equal to the formula written out sample by sample, and without the traps of its print."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwbench.errors import ConfigError
from hwbench.evidence import MEASURED
from hwbench.setting import Setting
from search.cascade import Cascade, quantile_levels
from search.score import Score

COSTS = ("latency_ms", "energy_mj")


def cascade(rng: np.random.Generator, gamma: float, stages: int = 5, samples: int = 130) -> Cascade:
    """Two operating points; some exits cost more than the whole backbone at its default point."""
    label = rng.integers(0, 4, samples)
    right = rng.random((samples, stages)) < rng.random(stages)
    score = rng.random((samples, stages))
    return Cascade(
        label=label,
        answer=np.where(right, label[:, None], (label[:, None] + 1) % 4),
        score=score,
        levels=quantile_levels(score, 3),
        step={name: rng.random((2, stages)) for name in COSTS},
        ask={name: rng.random((2, stages)) / 5 for name in COSTS},
        settings=((Setting(unit="cpu", precision="fp32"),) * 2,) * stages,
        evidence=dict.fromkeys((*COSTS, "score"), MEASURED),
        rule=Score(baseline={"latency_ms": 1.7, "energy_mj": 2.1}, gamma=gamma),
    )


def written_out(one: Cascade, placed: np.ndarray, point: int) -> float:
    """Equations 5 to 7 as one reads them, one sample after the other."""
    assert one.rule is not None
    exits = [int(s) for s in np.flatnonzero(placed[:-1])]
    total = 0.0
    for n, i in enumerate(exits):
        first = sum(
            one.answer[k, i] == one.label[k] and all(one.answer[k, j] != one.label[k] for j in exits[:n])
            for k in range(one.samples)
        )
        value = first / one.samples
        for name, whole in one.rule.baseline.items():
            spent = sum(one.step[name][point, s] for s in range(i + 1))
            spent += sum(one.ask[name][point, j] for j in exits[: n + 1])
            value *= max(0.0, 1 - spent / whole)
        known = max([0.0, *(float((one.answer[:, j] == one.label).mean()) for j in exits[:n])])
        total += value * (1 - known) ** one.rule.gamma
    return total / max(len(exits), 1)


@given(seed=st.integers(0, 2**32 - 1), gamma=st.sampled_from([0.0, 0.5, 1.0, 3.0]))
def test_the_score_is_the_formula_sample_by_sample(seed: int, gamma: float) -> None:
    rng = np.random.default_rng(seed)
    one = cascade(rng, gamma)
    placed = rng.random((12, one.stages)) < 0.5
    point = rng.integers(0, 2, (12, 1))
    found = one.evaluate(placed, np.zeros(placed.shape, np.uint8), point).metrics["score"]
    expected = [written_out(one, p, int(at)) for p, at in zip(placed, point[:, 0], strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


def test_candidates_of_many_passes_score_as_each_alone(rng: np.random.Generator) -> None:
    """Tiles and passes are an affair of caches."""
    one = cascade(rng, 1.0, samples=5000)
    placed = rng.random((2500, one.stages)) < 0.5
    level, point = np.zeros(placed.shape, np.uint8), rng.integers(0, 2, (2500, 1))
    together = one.evaluate(placed, level, point).metrics["score"]
    for b in (0, 1023, 1024, 2499):
        alone = one.evaluate(placed[[b]], level[[b]], point[[b]]).metrics["score"]
        np.testing.assert_array_equal(together[[b]], alone)


def test_two_losses_are_no_reward() -> None:
    """An exit that costs more time and more energy than the whole backbone scores 0."""
    rule = Score(baseline=dict.fromkeys(COSTS, 1.0), gamma=1.0)
    spent = dict.fromkeys(COSTS, np.array([[3.0]]))
    assert rule.of(np.array([[True]]), np.array([[0.9]]), np.array([0.9]), spent).tolist() == [0.0]


def test_a_cheaper_exit_scores_higher() -> None:
    """The gain is rewarded, not the cost."""
    rule = Score(baseline={"energy_mj": 1.0}, gamma=1.0)
    placed, share = np.ones((2, 1), bool), np.full((2, 1), 0.5)
    cheap, dear = rule.of(placed, share, np.array([0.5]), {"energy_mj": np.array([[0.2], [0.7]])})
    assert cheap == pytest.approx(0.4)
    assert dear == pytest.approx(0.15)


def test_gamma_weighs_down_an_exit_behind_one_that_knows_as_much() -> None:
    """Without it the second exit counts in full; a first exit is never weighed down."""
    placed, right = np.array([[True, True], [False, True]]), np.array([0.8, 0.9])
    for gamma, expected in ((0.0, [1.0, 1.0]), (1.0, [0.2, 1.0]), (2.0, [0.04, 1.0])):
        np.testing.assert_allclose(Score.dissimilarity(placed, right)[:, 1] ** gamma, expected)


def test_a_network_without_exits_scores_nothing(rng: np.random.Generator) -> None:
    one = cascade(rng, 1.0)
    none = np.zeros((1, one.stages), bool)
    assert one.evaluate(none, none.astype(np.uint8), np.array([[0]])).metrics["score"].tolist() == [0.0]


def test_the_rule_travels_with_the_cascade(rng: np.random.Generator) -> None:
    one = cascade(rng, 0.5)
    assert Cascade.from_arrays(one.to_arrays()).rule == one.rule
    assert Cascade.from_arrays(replace(one, rule=None).to_arrays()).rule is None


def test_a_score_that_cannot_be_computed_is_refused(rng: np.random.Generator) -> None:
    one = cascade(rng, 1.0)
    with pytest.raises(ConfigError, match="needs the cost macs"):
        replace(one, rule=Score(baseline={"macs": 1.0}, gamma=1.0))
    with pytest.raises(ConfigError, match="above 0"):
        Score(baseline={"energy_mj": 0.0}, gamma=1.0)
    with pytest.raises(ConfigError, match="gamma must be 0 or more"):
        Score(baseline={"energy_mj": 1.0}, gamma=-1.0)
