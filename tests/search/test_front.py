"""A front keeps what none beats, measures it against a stated reference, and leaves unknown cells empty."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from hwbench.errors import ConfigError
from hwbench.evidence import DECLARED, Evidence
from hwbench.setting import Setting
from search.cascade import Cascade, quantile_levels
from search.design import Design, Stage
from search.front import COLUMNS, Front, Promise, nondominated
from search.objective import objectives

WANTED = objectives(["latency"])
REFERENCE = (0.0, 10.0)


def design(name: int, exits: int = 0, setting: Setting | None = None) -> Design:
    return Design(
        stages=tuple(
            Stage(
                space="digits", genes=(name,), position=i if i < exits else -1, target="host", backend="onnxruntime",
                setting=setting or Setting(unit="cpu", precision="fp32"), router="max_softmax",
                threshold=0.5 if i < exits else None,
            )
            for i in range(exits + 1)
        )
    )  # fmt: skip


def promise(name: int, accuracy: float, latency_ms: float, **more: float) -> Promise:
    return Promise(
        design=design(name),
        metrics={"accuracy": accuracy, "latency_ms": latency_ms, **more},
        evidence={"latency_ms": Evidence(source="measured", derived=True)},
        exit_rates=(1.0,),
    )


def front(*points: tuple[float, float]) -> Front:
    return Front.of(WANTED, REFERENCE, [promise(i, *point) for i, point in enumerate(points)])


def names(front: Front) -> list[int]:
    return [d.stages[0].genes[0] for d in front.designs]


def test_a_front_keeps_what_none_beats_from_cheap_to_costly() -> None:
    assert names(front((0.9, 4.0), (0.8, 1.0), (0.8, 2.0), (0.7, 1.0), (0.95, 9.0))) == [1, 0, 4]


def test_of_equal_designs_the_first_stays() -> None:
    assert names(front((0.9, 4.0), (0.9, 4.0), (0.5, 5.0))) == [0]


def test_nondominated_agrees_with_the_definition(rng: np.random.Generator) -> None:
    """Against all pairs, with ties, for two and three objectives."""
    for objectives_count in (2, 3):
        costs = rng.integers(0, 6, (80, objectives_count)).astype(float)
        expected = [
            i
            for i, row in enumerate(costs)
            if not any((other <= row).all() and (other < row).any() for other in costs)
            and not any((other == row).all() for other in costs[:i])
        ]
        assert nondominated(costs).tolist() == expected


def test_hypervolume_is_the_area_up_to_the_reference() -> None:
    """Two rectangles: 0.8 × (10 − 1) and 0.1 × (10 − 4); a design beyond the reference adds nothing."""
    assert front((0.8, 1.0), (0.9, 4.0)).hypervolume() == pytest.approx(0.8 * 9 + 0.1 * 6)
    assert front((0.8, 1.0), (0.9, 4.0), (1.0, 11.0)).hypervolume() == pytest.approx(0.8 * 9 + 0.1 * 6)
    assert front((1.0, 11.0)).hypervolume() == 0.0
    assert front().hypervolume() == 0.0


def test_merging_never_shrinks_the_hypervolume(rng: np.random.Generator) -> None:
    """The merged front is the front of all designs, whatever the order."""
    points = [(float(a), float(c)) for a, c in rng.random((60, 2)) * (1.0, 12.0)]
    whole = front(*points)
    promises = [promise(i, *point) for i, point in enumerate(points)]
    thirds = [Front.of(WANTED, REFERENCE, promises[i::3]) for i in range(3)]
    merged = thirds[0].merge(*thirds[1:])
    assert merged == whole
    assert merged.hypervolume() >= max(third.hypervolume() for third in thirds)


def test_fronts_of_another_question_do_not_merge() -> None:
    with pytest.raises(ConfigError, match="do not merge"):
        front((0.9, 1.0)).merge(Front.of(WANTED, (0.0, 20.0)))


def test_an_unknown_objective_is_an_error_that_names_the_design() -> None:
    with pytest.raises(ConfigError, match=f"{design(0).key}: energy_mj"):
        Front.of(objectives(["energy"]), REFERENCE, [promise(0, 0.9, 1.0)])


def test_the_reference_has_a_value_for_each_objective() -> None:
    with pytest.raises(ConfigError, match="1 reference values for 2 objectives"):
        Front.of(WANTED, (0.0,))


def test_front_csv_leaves_unknown_cells_empty() -> None:
    """Energy without evidence is no 0, and neither is an accuracy that nobody computed."""
    found = front((0.9, 1.25))
    (row,) = csv.DictReader(io.StringIO(found.to_csv()))
    assert tuple(row) == COLUMNS
    assert row["design"] == found.designs[0].key
    assert (row["accuracy"], row["latency_ms"], row["latency_evidence"]) == ("0.9", "1.25", "predicted:measured")
    empty = [name for name, cell in row.items() if cell == ""]
    assert empty == [
        *(
            "oracle_accuracy",
            "energy_mj",
            "energy_evidence",
            "macs",
            "size_bytes",
            "memory_bytes",
            "score",
            "clocks",
            "router",
        ),
    ]


def test_front_csv_tells_rates_and_clocks_of_all_stages() -> None:
    clocked = Setting(unit="gpu", precision="fp16", clocks=(("gpu", 727.0), ("emc", 1331.2)))
    told = Promise(
        design=design(0, exits=2, setting=clocked),
        metrics={"accuracy": 0.9, "latency_ms": 1.0, "macs": 1234.6, "size_bytes": 4096.0, "memory_bytes": 8192.0},
        evidence={},
        exit_rates=(0.5, 0.25, 0.25),
    )
    (row,) = csv.DictReader(io.StringIO(Front.of(WANTED, REFERENCE, [told]).to_csv()))
    assert (row["exit_rates"], row["clocks"], row["router"], row["target"]) == (
        *("0.5;0.25;0.25", "emc=1331.2 gpu=727", "max_softmax", "host"),
    )
    assert (row["macs"], row["size_bytes"], row["memory_bytes"]) == ("1235", "4096", "8192")


def test_a_promise_says_what_the_cascade_expects(rng: np.random.Generator) -> None:
    """Metrics, evidence and the rates of the stages that stand; a metric that is NaN is left out with its evidence."""
    label = rng.integers(0, 3, 100)
    score = rng.random((100, 3))
    nothing = np.full((1, 3), np.nan)
    cascade = Cascade(
        label=label, answer=rng.integers(0, 3, (100, 3)), score=score, levels=quantile_levels(score, 4),
        step={"latency_ms": np.ones((1, 3)), "energy_mj": nothing},
        ask={"latency_ms": np.full((1, 3), 0.1), "energy_mj": nothing},
        settings=((Setting(unit="cpu", precision="fp32"),),) * 3,
        evidence={"latency_ms": DECLARED, "energy_mj": DECLARED},
    )  # fmt: skip
    placed, level, point = np.array([[False, True, False]]), np.full((1, 3), 2, np.uint8), np.zeros((1, 1), int)
    (told,) = Promise.of(cascade, placed, level, point, [design(0, exits=1)])
    outcome = cascade.evaluate(placed, level, point)
    assert told.exit_rates == (0.5, 0.5)
    assert told.metrics == {
        "accuracy": outcome.accuracy[0],
        "oracle_accuracy": outcome.oracle_accuracy[0],
        "latency_ms": outcome.metrics["latency_ms"][0],
    }
    assert told.evidence == {"latency_ms": DECLARED}
