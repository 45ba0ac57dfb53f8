"""The cascade decides, counts and pays as a board would, sample by sample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwbench.errors import ConfigError
from hwbench.evidence import DECLARED, MEASURED
from hwbench.setting import Setting
from search import cascade as module
from search.cascade import Cascade, Outcome, quantile_levels

SETTINGS = (Setting(unit="cpu", precision="fp32"), Setting(unit="cpu", precision="fp32", clocks=(("cpu", 600.0),)))


def make(rng: np.random.Generator, samples: int, stages: int, levels: int = 4, points: int = 2) -> Cascade:
    """A cascade with ties, abstentions and scores that are not numbers."""
    label = rng.integers(0, 3, samples)
    answer = rng.integers(-1, 3, (samples, stages))
    # Few distinct values, for thresholds too: many comparisons are ties.
    values = np.array([0.1, 0.2, 1 / 3, 0.7, np.nan, np.inf, -np.inf], dtype=np.float32)
    score = rng.choice(values, (samples, stages))
    return Cascade(
        label=label,
        answer=answer,
        score=score,
        levels=rng.choice(values, (levels, stages)),
        step={"latency_ms": rng.random((points, stages)), "energy_mj": rng.random((points, stages))},
        ask={"latency_ms": rng.random((points, stages)), "energy_mj": rng.random((points, stages))},
        settings=(SETTINGS[:points],) * stages,
        evidence={"latency_ms": MEASURED, "energy_mj": MEASURED, "size_bytes": DECLARED},
        resident={"size_bytes": rng.integers(1, 100, stages)},
    )


def candidates(
    rng: np.random.Generator, cascade: Cascade, batch: int, shared: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    placed = rng.random((batch, cascade.stages)) < rng.random((batch, 1))
    level = rng.integers(0, cascade.level_count, placed.shape).astype(np.uint8)
    return placed, level, rng.integers(0, cascade.points, (batch, 1 if shared else cascade.stages))


def patient(rng: np.random.Generator, samples: int, stages: int, points: int = 2) -> Cascade:
    """The same, left by exits in a row that agree; more patience than exits is among the levels."""
    levels = np.repeat(np.arange(1, stages + 2)[:, None], stages, axis=1)
    return replace(make(rng, samples, stages, points=points), patience=True, levels=levels)


def patiences(
    rng: np.random.Generator, cascade: Cascade, batch: int, shared: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Candidates with one level for all exits of each."""
    placed, level, point = candidates(rng, cascade, batch, shared)
    return placed, np.repeat(level[:, :1], cascade.stages, axis=1), point


def sample_by_sample(cascade: Cascade, placed: np.ndarray, level: np.ndarray, point: np.ndarray) -> Outcome:
    """What a board does with every sample: run, ask, compare two float32, go on or leave."""
    shape = (len(placed), cascade.stages)
    point = np.broadcast_to(point, shape)
    coverage, right, possible = np.zeros(shape), np.zeros(len(placed)), np.zeros(len(placed))
    paid = {name: np.zeros(len(placed)) for name in cascade.step}
    for b in range(len(placed)):
        for n, label in enumerate(cascade.label):
            left, could = False, False
            said: list[int] = []
            for s in range(cascade.stages):
                last = s == cascade.stages - 1
                asked = bool(placed[b, s]) or last
                answer = cascade.answer[n, s]
                could |= asked and answer == label
                if left:
                    continue
                for name in paid:
                    paid[name][b] += cascade.step[name][point[b, s], s]
                    paid[name][b] += cascade.ask[name][point[b, s], s] if asked else 0.0
                threshold = np.float32(np.nan if last or not asked else cascade.threshold(s, int(level[b, s])))
                said += [answer] if asked else []
                latest = said[-int(threshold) :] if cascade.patience and not np.isnan(threshold) else []
                sure = np.float32(cascade.score[n, s]) >= threshold
                if cascade.patience:
                    sure = len(latest) == threshold and set(latest) == {answer}
                if last or (asked and answer != -1 and sure):
                    coverage[b, s] += 1
                    right[b] += answer == label
                    left = True
            possible[b] += could
    n = cascade.samples
    held = {
        name: np.array([sum(v for v, p in zip(values[:-1], row[:-1], strict=True) if p) + values[-1] for row in placed])
        for name, values in cascade.resident.items()
    }
    return Outcome(
        accuracy=right / n,
        oracle_accuracy=possible / n,
        coverage=coverage / n,
        metrics={name: total / n for name, total in paid.items()} | held,
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    samples=st.sampled_from([1, 2, 63, 64, 65, 130]),
    stages=st.integers(1, 6),
    levels=st.integers(1, 9),
    shared=st.booleans(),
)
def test_evaluate_is_a_loop_over_samples_exit_for_exit(
    seed: int, samples: int, stages: int, levels: int, shared: bool
) -> None:
    """Packed bit sets change the speed and nothing else: ties, abstentions, NaN and infinite scores included."""
    rng = np.random.default_rng(seed)
    cascade = make(rng, samples, stages, levels)
    agrees_with_a_loop(cascade, *candidates(rng, cascade, 5, shared))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    samples=st.sampled_from([1, 2, 63, 64, 65, 130]),
    stages=st.integers(1, 8),
    abstain=st.booleans(),
    shared=st.booleans(),
)
def test_patience_is_a_loop_over_samples_exit_for_exit(
    seed: int, samples: int, stages: int, abstain: bool, shared: bool
) -> None:
    """The last exits in a row that are placed decide, whichever those are; who abstains agrees with nobody."""
    rng = np.random.default_rng(seed)
    cascade = patient(rng, samples, stages)
    # Two classes, so that long runs occur.
    answer = rng.integers(-1 if abstain else 0, 2, cascade.answer.shape)
    cascade = replace(cascade, answer=answer, label=rng.integers(0, 2, samples))
    agrees_with_a_loop(cascade, *patiences(rng, cascade, 5, shared))


def agrees_with_a_loop(cascade: Cascade, placed: np.ndarray, level: np.ndarray, point: np.ndarray) -> None:
    """Counts equal, costs up to a rounding."""
    samples, stages = cascade.samples, cascade.stages
    got, expected = cascade.evaluate(placed, level, point), sample_by_sample(cascade, placed, level, point)
    np.testing.assert_array_equal(expected.coverage, got.coverage)
    np.testing.assert_array_equal(expected.accuracy, got.accuracy)
    np.testing.assert_array_equal(expected.oracle_accuracy, got.oracle_accuracy)
    assert expected.metrics.keys() == got.metrics.keys()
    for name, values in expected.metrics.items():
        np.testing.assert_allclose(got.metrics[name], values, rtol=1e-12)
    for b in range(len(placed)):
        at = cascade.leaves_at(placed[b], level[b])
        np.testing.assert_array_equal(np.bincount(at, minlength=stages) / samples, got.coverage[b])


@pytest.mark.parametrize("patience", [False, True])
def test_a_batch_larger_than_a_pass_gives_each_candidate_its_own_outcome(
    patience: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passes, tiles and the sorting inside a batch leave no trace in the results."""
    rng = np.random.default_rng(1)
    cascade = patient(rng, 200, 5) if patience else make(rng, 200, 5)
    placed, level, point = (patiences if patience else candidates)(rng, cascade, 100, shared=False)
    alone = [cascade.evaluate(placed[b : b + 1], level[b : b + 1], point[b : b + 1]) for b in range(100)]
    monkeypatch.setattr(module, "_TILE_BYTES", 7 * 8 * 4)
    monkeypatch.setattr(module, "_PASS", 30)
    together = cascade.evaluate(placed, level, point)
    np.testing.assert_array_equal(np.concatenate([o.coverage for o in alone]), together.coverage)
    np.testing.assert_array_equal(np.concatenate([o.accuracy for o in alone]), together.accuracy)
    np.testing.assert_array_equal(np.concatenate([o.oracle_accuracy for o in alone]), together.oracle_accuracy)
    for name, values in together.metrics.items():
        np.testing.assert_array_equal(np.concatenate([o.metrics[name] for o in alone]), values)


def test_no_candidates_have_no_outcomes() -> None:
    cascade = make(np.random.default_rng(2), 10, 3)
    outcome = cascade.evaluate(np.zeros((0, 3), bool), np.zeros((0, 3), np.uint8), np.zeros((0, 1), int))
    assert outcome.coverage.shape == (0, 3)
    assert outcome.metrics["latency_ms"].shape == (0,)


def test_a_score_equal_to_its_threshold_in_float32_leaves() -> None:
    """0.1 given as float64 is above the float32 threshold 0.1; the board compares float32 with float32."""
    cascade = replace(make(np.random.default_rng(3), 2, 2), score=np.full((2, 2), 0.1), levels=np.full((1, 2), 0.1))
    cascade = replace(cascade, answer=np.zeros((2, 2), int))
    assert np.float32(0.1) == cascade.threshold(0, 0)
    outcome = cascade.evaluate(np.array([[True, True]]), np.zeros((1, 2), np.uint8), np.zeros((1, 1), int))
    assert outcome.coverage[0].tolist() == [1.0, 0.0]


def test_level_l_of_count_lets_the_surest_part_leave() -> None:
    """Without ties level l of 4 lets exactly 1 − l/4 of the samples leave."""
    rng = np.random.default_rng(4)
    score = rng.permutation(np.arange(80)).astype(np.float32)[:, None]
    share = (score >= quantile_levels(score, 4)[:, 0]).mean(axis=0)
    assert share.tolist() == [1.0, 0.75, 0.5, 0.25]


def test_levels_are_quantiles_midway_between_the_scores_that_are_numbers() -> None:
    score = np.array([[np.nan], [1.0], [2.0], [np.nan], [3.0], [4.0], [np.nan]])
    assert quantile_levels(score, 2)[:, 0].tolist() == [pytest.approx(0.9995), 2.5]


@given(st.integers(0, 2**32 - 1), st.integers(1, 16))
def test_a_rounding_of_the_scores_moves_nobody_across_a_level(seed: int, count: int) -> None:
    """A board's arithmetic differs by a few ulps; those who left before leave then, too."""
    score = np.random.default_rng(seed).uniform(0.1, 1.0, size=(300, 1)).astype(np.float32)
    levels = quantile_levels(score, count)[:, 0]
    apart = np.abs(levels[:, None] - score[:, 0]).min(axis=1) > 1e-6
    for sign in (-1, 1):
        moved = score[:, 0] + np.float32(sign * 5e-7)
        assert ((moved >= levels[:, None]) == (score[:, 0] >= levels[:, None]))[apart].all()
    assert apart.mean() > 0.5


def test_a_stage_without_any_score_lets_nobody_leave() -> None:
    score = np.full((6, 2), np.nan)
    cascade = replace(make(np.random.default_rng(5), 6, 2), score=score, levels=quantile_levels(score, 3))
    outcome = cascade.evaluate(np.ones((1, 2), bool), np.zeros((1, 2), np.uint8), np.zeros((1, 1), int))
    assert outcome.coverage[0].tolist() == [0.0, 1.0]


def test_unknown_cost_stays_unknown_but_only_where_an_input_arrives() -> None:
    """NaN spreads from a stage that is reached; a stage behind an exit that everybody takes costs nothing."""
    rng = np.random.default_rng(6)
    score = np.ones((4, 2), np.float32)
    step = {"latency_ms": np.array([[1.0, np.nan]])}
    cascade = Cascade(
        label=rng.integers(0, 2, 4), answer=np.zeros((4, 2), int), score=score, levels=quantile_levels(score, 1),
        step=step, ask={"latency_ms": np.array([[0.5, 0.0]])}, settings=(SETTINGS[:1],) * 2,
        evidence={"latency_ms": MEASURED},
    )  # fmt: skip
    outcome = cascade.evaluate(np.array([[1, 1], [0, 1]]), np.zeros((2, 2), np.uint8), np.zeros((2, 1), int))
    np.testing.assert_array_equal([1.5, np.nan], outcome.metrics["latency_ms"])


def test_first_right_is_the_ideal_mapping_behind_the_oracle() -> None:
    """Samples whose first right stage is really right make up the oracle's accuracy."""
    rng = np.random.default_rng(7)
    cascade = make(rng, 300, 4)
    placed = np.array([True, False, True, True])
    at = cascade.first_right(placed)
    right = cascade.answer[np.arange(300), at] == cascade.label
    outcome = cascade.evaluate(placed[None], np.zeros((1, 4), np.uint8), np.zeros((1, 1), int))
    assert outcome.oracle_accuracy[0] == right.mean()
    assert {0, 2, 3} == set(at)


@pytest.mark.parametrize("patience", [False, True])
def test_a_cascade_travels_as_arrays(patience: bool) -> None:
    """to_arrays and from_arrays keep every decision, cost, setting and origin."""
    rng = np.random.default_rng(8)
    cascade = patient(rng, 50, 4) if patience else make(rng, 50, 4)
    again = Cascade.from_arrays(cascade.to_arrays())
    assert (cascade.settings, cascade.evidence, patience) == (again.settings, again.evidence, again.patience)
    for name, array in cascade.to_arrays().items():
        np.testing.assert_array_equal(array, again.to_arrays()[name])
    asked = (patiences if patience else candidates)(rng, cascade, 20, shared=True)
    np.testing.assert_array_equal(cascade.evaluate(*asked).accuracy, again.evaluate(*asked).accuracy)


def test_arrays_that_are_no_cascade_are_refused() -> None:
    arrays = make(np.random.default_rng(9), 5, 2).to_arrays()
    del arrays["levels"]
    with pytest.raises(ConfigError, match="'levels' is missing"):
        Cascade.from_arrays(arrays)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"label": np.zeros(0, int)}, "needs samples"),
        ({"label": np.full(10, -1)}, "label from 0 on"),
        ({"answer": np.zeros((10, 2), int)}, "are not"),
        ({"levels": np.zeros((256, 3), np.float32)}, "levels"),
        ({"settings": (SETTINGS, SETTINGS, SETTINGS[:1])}, "operating points"),
        ({"ask": {"latency_ms": np.zeros((2, 3))}}, "differ"),
        ({"resident": {"size_bytes": np.zeros(2)}}, "size_bytes has shape"),
        ({"evidence": {"latency_ms": MEASURED}}, "no evidence for energy_mj, size_bytes"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, object], says: str) -> None:
    cascade = make(np.random.default_rng(10), 10, 3)
    with pytest.raises(ConfigError, match=says):
        replace(cascade, **change)  # type: ignore[arg-type]


def test_levels_and_points_that_do_not_exist_are_refused() -> None:
    """A clipped index would be a wrong answer that looks right."""
    cascade = make(np.random.default_rng(11), 10, 3, levels=4)
    placed, level, point = np.ones((1, 3), bool), np.full((1, 3), 4, np.uint8), np.zeros((1, 1), int)
    with pytest.raises(IndexError, match="level"):
        cascade.evaluate(placed, level, point)
    with pytest.raises(IndexError, match="operating point"):
        cascade.evaluate(placed, level * 0, point + 2)


@pytest.mark.parametrize("levels", [[[0.0] * 3], [[1.5] * 3], [[1.0, 1.0, 2.0]], [[np.nan] * 3]])
def test_a_patience_that_is_no_number_of_exits_is_refused(levels: list[list[float]]) -> None:
    with pytest.raises(ConfigError, match="whole numbers from 1 on"):
        replace(patient(np.random.default_rng(11), 10, 3), levels=np.array(levels, np.float32))


def test_several_patiences_in_a_candidate_are_refused() -> None:
    """Only exits that are placed are asked, so only theirs must agree."""
    cascade = patient(np.random.default_rng(11), 10, 3)
    level, point = np.array([[0, 1, 0]], np.uint8), np.zeros((1, 1), int)
    cascade.evaluate(np.array([[False, True, True]]), level, point)
    with pytest.raises(ConfigError, match="one patience"):
        cascade.evaluate(np.array([[True, True, True]]), level, point)
