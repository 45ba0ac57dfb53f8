"""Bundles say what they need: the oldest schema that holds their plans, and what does not fit is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hwbench.errors import ConfigError
from hwbench.workload import Bundle, Patience, Plan
from tests.hwbench.exit_graphs import chain_plan, onnx_bundle


def patient(agree: int) -> Plan:
    """Two exits left by patience, then the end."""
    plan = chain_plan(0.5, 0.5)
    return replace(plan, nodes=tuple(replace(n, leave=n.leave and Patience(agree=agree)) for n in plan.nodes))


def left_by(leave: dict[str, Any]) -> dict[str, Any]:
    """A plan as the file says it."""
    return {"name": "chain", "nodes": [{"node": "n", "block_key": "first", "leave": leave}]}


def written(folder: Path, plan: Plan) -> dict[str, Any]:
    """The file of a bundle with that plan."""
    bundle = replace(onnx_bundle(folder), plans=(plan,))
    bundle.write()
    assert Bundle.read(folder) == bundle
    raw: dict[str, Any] = json.loads((folder / "bundle.json").read_text())
    return raw


def test_only_a_plan_with_patience_needs_the_second_schema(tmp_path: Path) -> None:
    """What earlier versions can run they can read."""
    scored, patiently = written(tmp_path / "a", chain_plan(0.5)), written(tmp_path / "b", patient(2))
    assert (1, 2) == (scored["schema"], patiently["schema"])
    assert {"output": "score", "at": 0.5} == scored["plans"][0]["nodes"][0]["leave"]
    assert [{"agree": 2}, {"agree": 2}, None] == [n["leave"] for n in patiently["plans"][0]["nodes"]]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 1}, "plan 'chain' leaves by patience, unknown to schema 1"),
        ({"schema": 3}, "schema 3, this version reads 1 and 2"),
        ({"schema": None}, "schema None, this version reads 1 and 2"),
        ({"plans": [left_by({"agree": 0})]}, "patience of 0 nodes"),
        ({"plans": [left_by({"agree": "x"})]}, r"nodes\.0\.leave"),
    ],
)
def test_a_plan_that_the_schema_does_not_hold_is_refused(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    """In a line that says what is wrong with which file."""
    raw = {**written(tmp_path / "b", patient(2)), **change}
    (tmp_path / "b" / "bundle.json").write_text(json.dumps(raw))
    with pytest.raises(ConfigError, match=says):
        Bundle.read(tmp_path / "b")
