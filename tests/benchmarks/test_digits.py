"""What the shipped supernet of `digits` reaches on images that nothing was chosen by, and what its networks cost.

Run by `pytest tests/benchmarks`; prints its table past the capture.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import models
from hwbench.pytest_plugin import HwbenchSeconds
from models import datasets, supernet
from models.export.onnx_format import to_onnx
from models.export.spaces import network_runnable
from models.training.inference import logits, shuffled
from models.training.recalibrate import recalibrate

CHECKPOINT = Path(models.__file__).parent / "checkpoints" / "digits.safetensors"


def test_accuracy_and_cost_of_the_largest_and_the_smallest(
    capsys: pytest.CaptureFixture[str], hwbench_seconds: HwbenchSeconds
) -> None:
    """At least 96 % and 84 % of the test split; easy digits hardly need the large one, hard ones do: routing pays."""
    net, metadata = supernet.load(CHECKPOINT)
    space = net.space
    train = shuffled(datasets.load("digits32", "train"), int(metadata["seed"]))
    test = datasets.load("digits32", "test")
    assert test.difficulty is not None
    accuracy, easy, hard, latency_ms = {}, {}, {}, {}
    for name, genes in (("largest", space.largest()), ("smallest", space.smallest())):
        parts = net.extract(genes.tolist())
        recalibrate(parts, train)
        right = logits(partial(supernet.run, parts), test).argmax(1).numpy() == test.labels
        accuracy[name] = right.mean()
        easy[name], hard[name] = (right[rows].mean() for rows in (test.difficulty < 0.25, test.difficulty >= 0.75))
        latency_ms[name] = _latency_ms(to_onnx(network_runnable(space, genes, parts), torch.zeros(1, 1, 32, 32)))
        hwbench_seconds(latency_ms[name] / 1e3, name)
    with capsys.disabled():
        print(f"\ndigits, seed {metadata['seed']}, trained in {metadata['cpu_seconds']} s of processor time")
        for name in accuracy:
            print(
                f"  {name:<9} test {accuracy[name]:.2%}  easy quarter {easy[name]:.1%}  hard quarter {hard[name]:.1%}  "
                f"{latency_ms[name]:.3f} ms on one thread"
            )
    assert accuracy["largest"] >= 0.96 and accuracy["smallest"] >= 0.84
    assert hard["largest"] - hard["smallest"] > 3 * (easy["largest"] - easy["smallest"])
    assert latency_ms["largest"] > 10 * latency_ms["smallest"]


def _latency_ms(model: bytes) -> float:
    """Median of 500 runs; only the ratio of two of them is held against anything."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: np.zeros((1, 1, 32, 32), np.float32)}
    took = []
    for _ in range(500):
        begin = time.perf_counter_ns()
        session.run(None, feed)
        took.append(time.perf_counter_ns() - begin)
    return float(np.median(took)) / 1e6
