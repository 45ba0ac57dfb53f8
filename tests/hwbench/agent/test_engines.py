"""Which engine is whose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hwbench.agent import engines
from hwbench.agent.protocol import AgentError

SETTING = {"unit": "gpu", "precision": "fp16", "batch": 1, "threads": 1}


def options(folder: Path, **changed: Any) -> dict[str, Any]:
    """As the backend sends them."""
    return {"folder": str(folder), "workspace_mb": 1024, "tf32": False, "graph": True, **changed}


@pytest.fixture
def onnx(tmp_path: Path) -> Path:
    """A graph's file; nobody reads it here."""
    file = tmp_path / "a.onnx"
    file.write_bytes(b"graph")
    return file


def built(onnx: Path, folder: Path, version: str = "8.2.1", setting: dict[str, Any] = SETTING, **changed: Any) -> str:
    """`built` or `kept`."""

    def build(plan: str, cache: str) -> None:
        Path(plan).write_bytes(b"engine")

    plan, notes = engines.kept(str(onnx), setting, options(folder, **changed), version, build)
    assert Path(plan).is_file() and 6 == notes["engine_bytes"]
    return str(notes["engine"])


def test_what_decides_a_build_makes_another_engine(onnx: Path, tmp_path: Path) -> None:
    """Content, setting, version and the builder's options do; threads and how it is run do not."""
    folder = tmp_path / "engines"
    assert "built" == built(onnx, folder)
    assert "kept" == built(onnx, folder)
    assert "kept" == built(onnx, folder, setting={**SETTING, "threads": 4}, graph=False)
    assert "built" == built(onnx, folder, version="10.3.0")
    assert "built" == built(onnx, folder, setting={**SETTING, "precision": "int8"})
    assert "built" == built(onnx, folder, tf32=True)
    onnx.write_bytes(b"another graph")
    assert "built" == built(onnx, folder)
    assert 5 == len(list(folder.glob("*.plan")))


def test_a_build_that_fails_leaves_nothing_behind(onnx: Path, tmp_path: Path) -> None:
    """Half an engine would be taken for one."""

    def build(plan: str, cache: str) -> None:
        Path(plan).write_bytes(b"eng")
        raise AgentError("runtime", "no")

    with pytest.raises(AgentError, match="no"):
        engines.kept(str(onnx), SETTING, options(tmp_path / "engines"), "8.2.1", build)
    assert [] == list((tmp_path / "engines").iterdir())
