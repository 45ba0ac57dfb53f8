"""Counts what an ONNX node does: multiply-accumulates, weights, elements read and written.

MACs are counted for convolutions, matrix products and recurrent layers; every other operator counts reads and writes
only, and so does what runs inside the branches of If, Loop and Scan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from onnx import NodeProto, helper

from hwbench.onnx_graph import TensorType, inputs_of
from hwbench.workload import Op

Types = Mapping[str, TensorType]

# Only the description of the tensor changes; no runtime moves data for these.
VIEWS = frozenset({"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout"})
_KINDS = {
    "linear": ("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul", "QGemm", "FusedGemm", "FusedMatMul", "Einsum"),
    "pool": (
        *("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"),
        *("ReduceMean", "ReduceMax", "ReduceSum", "QLinearAveragePool", "QLinearGlobalAveragePool"),
    ),
    "activation": (
        *("Relu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu", "Selu", "LeakyRelu", "PRelu", "Gelu"),
        *("Softplus", "Softsign", "Mish", "Erf", "Exp", "Celu", "ThresholdedRelu", "Softmax", "LogSoftmax", "Swish"),
        *("QuickGelu", "QLinearSigmoid", "QLinearLeakyRelu"),
    ),
    "add": ("Add", "Sub", "Sum", "QLinearAdd"),
    "multiply": ("Mul", "Div", "QLinearMul"),
    "norm": ("BatchNormalization", "LayerNormalization", "InstanceNormalization", "GroupNormalization", "LRN"),
    "quantize": ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
    "recurrent": ("LSTM", "GRU", "RNN"),
    "view": tuple(VIEWS),
}
_KIND = {op_type: kind for kind, op_types in _KINDS.items() for op_type in op_types}
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def count(node: NodeProto, types: Types, constants: frozenset[str]) -> Op:
    """What one node does; constants: names of tensors that are the same for every input (weights and their like)."""
    kind, macs = _work(node, types)
    read = [name for name in dict.fromkeys(inputs_of(node)) if name in types]
    return Op(
        kind=kind,
        macs=macs,
        weight_count=sum(types[n].count for n in read if n in constants and is_weight(types[n])),
        read_count=0 if kind == "view" else sum(types[n].count for n in read if n not in constants),
        write_count=0 if kind == "view" else sum(types[n].count for n in node.output if n in types),
    )


def is_weight(type: TensorType) -> bool:
    """Whether a constant holds weights: 64-bit integers are shapes, axes and indices, 32-bit scalars zero points."""
    return type.dtype not in ("int64", "bool") and not (type.dtype == "int32" and len(type.shape) == 0)


def _work(node: NodeProto, types: Types) -> tuple[str, int]:
    rule = _RULES.get(node.op_type)
    if rule is None:
        return _KIND.get(node.op_type, node.op_type.lower()), 0
    kind, macs = rule(node, types)
    return kind, macs


def _convolution(node: NodeProto, types: Types) -> tuple[str, int]:
    quantized = node.op_type == "QLinearConv"
    weight = types[node.input[3 if quantized else 1]].shape  # (out, in / groups, *kernel)
    source, out = types[node.input[0]], types[node.output[0]]
    groups = int(_attribute(node, "group", 1))
    kind = "dwconv" if groups > 1 and groups == source.shape[1] else "conv"
    return kind, out.count * math.prod(weight[1:])


def _transposed(node: NodeProto, types: Types) -> tuple[str, int]:
    weight = types[node.input[1]].shape  # (in, out / groups, *kernel)
    return "conv", types[node.input[0]].count * math.prod(weight[1:])


def _product(node: NodeProto, types: Types) -> tuple[str, int]:
    source = types[node.input[0]].shape
    return "linear", types[node.output[0]].count * (source[-1] if source else 1)


def _gemm(node: NodeProto, types: Types) -> tuple[str, int]:
    rows, columns = types[node.input[0]].shape
    inner = rows if _attribute(node, "transA", 0) else columns
    return "linear", types[node.output[0]].count * inner


def _einsum(node: NodeProto, types: Types) -> tuple[str, int]:
    equation = _attribute(node, "equation", b"")
    text = equation.decode() if isinstance(equation, bytes) else str(equation)
    if "." in text:
        return "linear", 0
    labels = text.replace(" ", "").partition("->")[0].split(",")
    size = {c: n for term, name in zip(labels, node.input, strict=True) for c, n in zip(term, types[name].shape)}  # noqa: B905
    return "linear", math.prod(size.values()) if len(labels) > 1 else 0


def _recurrent(node: NodeProto, types: Types) -> tuple[str, int]:
    length, batch, _ = types[node.input[0]].shape
    directions, rows, features = types[node.input[1]].shape  # (directions, gates × hidden, features)
    hidden = rows // _GATES[node.op_type]
    return "recurrent", length * batch * directions * rows * (features + hidden)


_RULES: dict[str, Callable[[NodeProto, Types], tuple[str, int]]] = {
    "Conv": _convolution,
    "ConvInteger": _convolution,
    "FusedConv": _convolution,
    "QLinearConv": _convolution,
    "ConvTranspose": _transposed,
    "MatMul": _product,
    "MatMulInteger": _product,
    "QLinearMatMul": _product,
    "FusedMatMul": _product,
    "Gemm": _gemm,
    "FusedGemm": _gemm,
    "QGemm": _gemm,
    "Einsum": _einsum,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
}


def _attribute(node: NodeProto, name: str, default: int | bytes) -> int | bytes:
    for attribute in node.attribute:
        if attribute.name == name:
            value: int | bytes = helper.get_attribute_value(attribute)
            return value
    return default


def summary(ops: Iterable[Op]) -> str:
    """A short name of what runs, like `2conv.dwconv.3activation.add`: no views, at most five kinds."""
    counts: dict[str, int] = {}
    for op in ops:
        if op.kind != "view":
            counts[op.kind] = counts.get(op.kind, 0) + 1
    words = [f"{n if n > 1 else ''}{kind}" for kind, n in counts.items()]
    return ".".join([*words[:5], *(["more"] if len(words) > 5 else [])]) or "view"
