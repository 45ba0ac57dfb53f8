"""Two runs side by side: what is told, and which runs do not compare."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwbench.errors import ConfigError
from search.compare import compare
from search.compared import Side, Step
from search.objective import objectives

SAME = {"objectives": "accuracy, energy_mj", "target": "board", "evidence": "energy_mj measured", "data": "digits"}


def side(name: str, *points: tuple[float, ...], **other: str) -> Side:
    """A run with these designs: accuracy, energy."""
    wanted = objectives(["energy"])
    values = np.array(points).reshape(-1, len(wanted))
    return Side(folder=Path(name), said=name, objectives=wanted, values=values, same=SAME, other=other)


A = side("a", (0.9, 2.0), (0.8, 1.0), strategy="nested", seed="0")
B = side("b", (0.95, 6.0), (0.85, 3.0), (0.7, 0.5), strategy="random", seed="0")


def test_what_two_fronts_are_to_each_other() -> None:
    """By hand: the reference is stated, both ratios both ways, costs where both reach, empty where one does not."""
    found = compare(A, B, reference=1.1, at=[0.95, 0.9, 0.85])
    said = json.loads(found.to_json())
    assert {"accuracy": 0.95, "energy_mj": 0.5} == said["scale"]["ideal"]
    assert {"accuracy": 0.7, "energy_mj": 6.0} == said["scale"]["nadir"]
    assert {"a": 0.5, "b": 0.0} == said["dominating"]
    assert {"a": 0.0, "b": pytest.approx(1 / 3)} == said["dominated"]
    assert ["strategy: nested → random"] == said["differences"]
    assert [
        {"at": 0.95, "a": None, "b": 6.0, "saved": None},
        {"at": 0.9, "a": 2.0, "b": pytest.approx(4.5), "saved": pytest.approx(1 - 2 / 4.5)},
        {"at": 0.85, "a": pytest.approx(1.5), "b": 3.0, "saved": pytest.approx(0.5)},
    ] == said["gains"]["energy_mj"]
    text = found.to_text().splitlines()
    assert "differ    strategy: nested → random" in text
    (unreached,) = [line for line in text if line.startswith("0.95 ")]
    assert ["0.95", "6"] == unreached.split()


def test_both_ways_agree() -> None:
    """Swapping the runs swaps what is told."""
    one, other = (compare(*pair, reference=1.3) for pair in ((A, B), (B, A)))
    assert (one.hypervolume, one.dominating) == (other.hypervolume[::-1], other.dominating[::-1])
    assert [g.cost for g in one.gains["energy_mj"]] == [g.cost[::-1] for g in other.gains["energy_mj"]]


@pytest.mark.parametrize("what", SAME)
def test_runs_that_searched_something_else_are_refused_by_name(what: str) -> None:
    """Each of the four, and one that the other run does not know at all."""
    for same in (SAME | {what: "other"}, {k: v for k, v in SAME.items() if k != what}):
        with pytest.raises(ConfigError, match=rf"do not compare \({what}: "):
            compare(A, replace(B, same=same), reference=1.1)


def test_a_run_without_designs_is_refused() -> None:
    """Its limits were not kept."""
    with pytest.raises(ConfigError, match="c: its front has no design"):
        compare(A, side("c"), reference=1.1)


def test_steps_leave_empty_what_was_not_searched() -> None:
    """A board without clocks has no third column."""
    step = Step(
        design="d", static_accuracy=0.9, accuracy=0.89, oracle_accuracy=0.95,
        static={"energy_mj": 4.0}, exits={"energy_mj": 3.0}, clocks={},
    )  # fmt: skip
    found = compare(replace(A, steps=(step,)), B, reference=1.1)
    (told,) = json.loads(found.to_json())["steps"]
    assert {"static": 4.0, "exits": 3.0, "clocks": None} == told["energy_mj"]
    assert ["A", "d", "90.00", "89.00", "95.00", "4", "3"] == found.to_text().splitlines()[-1].split()
