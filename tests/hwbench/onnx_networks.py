"""Small ONNX networks made by hand, for the tests of reading, counting and cutting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


class Net:
    """Writes a graph node by node; every method returns the name of the tensor it made."""

    def __init__(self, shape: Sequence[int | str], *, seed: int = 0, name: str = "image") -> None:
        self.rng = np.random.default_rng(seed)
        self.inputs = [helper.make_tensor_value_info(name, FLOAT, list(shape))]
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []

    def node(self, op_type: str, *inputs: str, **attributes: object) -> str:
        """Any operator with one output."""
        name = f"{op_type.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], **attributes))
        return name

    def constant(self, value: np.ndarray) -> str:
        """An initialiser."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def weight(self, *shape: int) -> str:
        """Random float weights."""
        return self.constant(self.rng.normal(0, 0.3, shape).astype(np.float32))

    def conv(self, source: str, channels: int, width: int, *, kernel: int = 3, groups: int = 1, stride: int = 1) -> str:
        """A convolution with bias and padding that keeps the side at stride 1."""
        weights = self.weight(width, channels // groups, kernel, kernel), self.weight(width)
        pads = [kernel // 2] * 4
        return self.node("Conv", source, *weights, group=groups, pads=pads, strides=[stride, stride])

    def model(self, *outputs: str, opset: int = 17) -> ModelProto:
        """The graph so far; the shapes of its outputs are left open."""
        declared = [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "net", self.inputs, declared, self.weights)
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9, producer_name="hand"
        )


def residual_network(batch: int | str = 1, *, seed: int = 0) -> ModelProto:
    """Stem, two equal residual blocks, a different one, pooling and classifier: five blocks, four different."""
    net = Net([batch, 3, 8, 8], seed=seed)
    x = net.node("Relu", net.conv("image", 3, 8))
    for groups in (1, 1, 8):
        inside = net.node("Relu", net.conv(x, 8, 8, groups=groups))
        x = net.node("Relu", net.node("Add", net.conv(inside, 8, 8, kernel=1), x))
    flat = net.node("Flatten", net.node("GlobalAveragePool", x))
    return net.model(net.node("Gemm", flat, net.weight(8, 10), net.weight(10)))
