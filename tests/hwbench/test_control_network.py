"""The network that a machine's noise is looked at with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from hwbench import control_network


def test_it_is_the_same_each_time_and_computes(tmp_path: Path) -> None:
    """Equal bytes; finite answers of ordinary size, so that no slow denormal numbers are measured."""
    file, again = (control_network.write(tmp_path / name) for name in ("a.onnx", "b.onnx"))
    assert file.read_bytes() == again.read_bytes()
    onnx.checker.check_model(str(file), full_check=True)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).normal(size=(1, 3, 96, 96)).astype(np.float32)
    (answer,) = session.run(None, {"image": image})
    assert (1, 10) == answer.shape
    assert 0.01 < np.abs(answer).max() < 100
