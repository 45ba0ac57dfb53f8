"""Graphs made for one input, run on several at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from hwbench.errors import ConfigError
from hwbench.onnx_batch import with_open_batch
from tests.hwbench.onnx_networks import residual_network


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A residual network for one input, and a cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    onnx.save(residual_network(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def _run(file: Path, x: np.ndarray) -> np.ndarray:
    return np.asarray(onnxruntime.InferenceSession(file).run(None, {"image": x})[0])


def test_several_inputs_at_once_give_what_each_gives_alone(file: Path, rng: np.random.Generator) -> None:
    """Any number of them, from one copy."""
    x = rng.standard_normal((5, 3, 8, 8)).astype(np.float32)
    alone = np.concatenate([_run(file, x[i : i + 1]) for i in range(5)])
    opened = with_open_batch(file)
    np.testing.assert_allclose(alone, _run(opened, x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(alone[:2], _run(opened, x[:2]), rtol=1e-4, atol=1e-5)


def test_the_copy_is_kept_by_content_and_mended(file: Path) -> None:
    """The file itself stays as it is."""
    before = file.read_bytes()
    opened = with_open_batch(file)
    whole = opened.read_bytes()
    opened.write_bytes(b"")
    assert opened == with_open_batch(file)
    assert whole == opened.read_bytes()
    assert before == file.read_bytes()


def test_a_broken_file_is_named(file: Path) -> None:
    """As everywhere."""
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ConfigError, match=r"net\.onnx"):
        with_open_batch(file)
