"""The form of int8 that TensorRT reads."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from hwbench.onnx_graph import runtime_session
from models.export.graph import run
from models.export.onnx_format import to_onnx
from models.export.onnx_int8 import explicit_int8
from models.export.spaces import block_runnable
from models.export.writing import seeded_samples
from models.quantization import correlation
from models.space import load_space
from models.supernet import build


@pytest.fixture(scope="module")
def quantised() -> tuple[onnx.ModelProto, onnx.ModelProto, np.ndarray, np.ndarray]:
    """(float graph, int8 graph, an input it was not calibrated on, what torch makes of it): a block with squeeze."""
    space = load_space("digits")
    block = next(b for b in space.blocks if b.kind == "mbconv" and b.squeeze)
    runnable = block_runnable(block, build(space, block))
    samples = seeded_samples("calibration", block.in_shape)
    floats = to_onnx(runnable, samples[:1])
    rounded = explicit_int8(floats, [sample[None] for sample in samples.numpy()])
    x = seeded_samples("another", block.in_shape)[:1]
    return onnx.load_from_string(floats), onnx.load_from_string(rounded), x.numpy(), run(runnable.module, x)[0].numpy()


Quantised = tuple[onnx.ModelProto, onnx.ModelProto, np.ndarray, np.ndarray]


def test_it_computes_what_torch_does_but_for_rounding(quantised: Quantised) -> None:
    """On an input that its ranges do not come from."""
    _, model, x, expected = quantised
    (found,) = runtime_session(model).run(None, {model.graph.input[0].name: x})
    assert correlation(expected, found) > 0.99
    assert not np.array_equal(expected, found)


def test_every_zero_point_is_zero_and_every_number_signed(quantised: Quantised) -> None:
    """TensorRT knows no other int8."""
    _, model, _, _ = quantised
    weights = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    points = [weights[node.input[2]] for node in model.graph.node if node.op_type == "DequantizeLinear"]
    assert points
    assert {np.dtype(np.int8)} == {point.dtype for point in points}
    assert not any(point.any() for point in points)


def test_only_inputs_of_weighed_operators_are_rounded(quantised: Quantised) -> None:
    """What follows a convolution can be fused with it; biases and all other arithmetic stay real."""
    floats, model, _, _ = quantised
    takers: dict[str, list[tuple[str, int]]] = {}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            takers.setdefault(name, []).append((node.op_type, place))
    ends = [t for n in model.graph.node if n.op_type == "DequantizeLinear" for t in takers[n.output[0]]]
    assert {operator for operator, _ in ends} <= {"Conv", "Gemm", "MatMul", "Add"}
    assert ("Conv", 2) not in ends
    convolutions = sum(node.op_type == "Conv" for node in floats.graph.node)
    assert [convolutions, convolutions] == [ends.count(("Conv", 0)), ends.count(("Conv", 1))]
