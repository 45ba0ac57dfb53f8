"""A small network of everyday operators, written without torch: what `hwbench doctor --noise` measures by default.

A stem, three inverted bottlenecks and a classifier on an image of 96 × 96: a millisecond or so, as rows of a table are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_SIDE, _STEM, _CLASSES = 96, 16, 10
# Expanded channels and channels out of each bottleneck, each of stride 2.
_BOTTLENECKS = ((64, 24), (96, 32), (128, 48))


def write(file: Path) -> Path:
    """Write the network as ONNX, fp32, batch 1; equal bytes each time."""
    network = _Network()
    x = network.conv("image", 3, _STEM, kernel=3, stride=2, relu=True)
    channels = _STEM
    for expanded, out in _BOTTLENECKS:
        x = network.conv(x, channels, expanded, relu=True)
        x = network.conv(x, expanded, expanded, kernel=3, stride=2, groups=expanded, relu=True)
        x = network.conv(x, expanded, out)
        channels = out
    x = network.node("Flatten", network.node("GlobalAveragePool", x))
    x = network.node("Gemm", x, network.weight(_CLASSES, channels), network.weight(_CLASSES), transB=1)
    graph = helper.make_graph(
        network.nodes,
        "control",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, _SIDE, _SIDE])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, _CLASSES])],
        network.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9, producer_name="hwbench")
    onnx.save(model, str(file))
    return file


class _Network:
    """Nodes and weights so far; each method returns the name of the tensor it made."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._rng = np.random.default_rng(0)

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def weight(self, *shape: int) -> str:
        # Values keep their size from layer to layer, so that no arithmetic on denormal numbers slows the network down.
        spread = (2 / max(1, int(np.prod(shape[1:])))) ** 0.5
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(self._rng.normal(0, spread, shape).astype(np.float32), name))
        return name

    def conv(
        self, x: str, before: int, after: int, *, kernel: int = 1, stride: int = 1, groups: int = 1, relu: bool = False
    ) -> str:
        kernels, bias = self.weight(after, before // groups, kernel, kernel), self.weight(after)
        pads = [kernel // 2] * 4
        made = self.node(
            "Conv", x, kernels, bias, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads, group=groups
        )
        return self.node("Relu", made) if relu else made
