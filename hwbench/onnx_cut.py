"""Cuts a plain ONNX graph at its single-tensor points into a chain of blocks, each an ONNX model of its own.

A single-tensor point is a place where exactly one tensor that depends on the input goes from what ran to what is still
to run: a residual or an attention stays whole, a chain falls apart into its layers. Blocks that would hold no work (no
convolution, matrix product or recurrent layer) stay with their neighbour, so that a layer keeps its activation and a
runtime can still fuse the two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from hwbench.onnx_graph import Graph, inputs_of, value_info
from hwbench.onnx_ops import count, is_weight, summary
from hwbench.workload import Op, Tensor

# A block without work that begins so belongs to what follows: int8 layers need their scales, classifiers their pooling.
_FORWARD = frozenset({"DequantizeLinear", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A runnable part of a graph. outputs: first the tensor that feeds the next piece, then outputs of the whole graph.

    params: elements of its constants, scales and normalisation statistics included; shapes and indices are none.
    """

    block_key: str
    model: ModelProto
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    params: int


def cut(graph: Graph) -> tuple[Piece, ...]:
    """The chain of blocks: each takes the first output of the one before it; the first takes the graph's inputs.

    Blocks of equal structure and shapes have equal keys, whatever their weights.
    """
    pieces: list[Piece] = []
    feeds: tuple[str, ...] = graph.inputs
    for nodes, trunk in _merged(graph, _segments(graph)):
        made = {name for node in nodes for name in node.output}
        extra = [name for name in graph.outputs if name in made and name != trunk]
        outputs = ([trunk] if trunk else []) + extra
        used = {name for node in nodes for name in inputs_of(node)}
        inputs = tuple(name for name in feeds if name in used or not pieces)
        pieces.append(_piece(graph, nodes, inputs, outputs))
        feeds = (trunk,)
    return tuple(pieces)


def whole(graph: Graph, name: str) -> Piece:
    """The whole graph with its own names of inputs and outputs; its key is `NAME-` and a digest of its structure."""
    ops, params = _counts(graph, graph.nodes)
    digest = _piece(graph, graph.nodes, graph.inputs, list(graph.outputs)).block_key.rpartition("-")[2]
    return Piece(
        block_key=f"{name}-{digest}",
        model=graph.model,
        inputs=tuple(_tensor(graph, n, n) for n in graph.inputs),
        outputs=tuple(_tensor(graph, n, n) for n in graph.outputs),
        ops=ops,
        params=params,
    )


def _segments(graph: Graph) -> Iterator[tuple[list[NodeProto], str]]:
    """Runs of nodes between single-tensor points, each with the tensor it hands on ("" for the last)."""
    last_use: dict[str, int] = {}
    for i, node in enumerate(graph.nodes):
        last_use.update(dict.fromkeys(inputs_of(node), i))
    alive = {name for name in graph.inputs if name in last_use}
    ends: dict[str, int] = {}
    for i, node in enumerate(graph.nodes):
        alive |= {name for name in node.output if name in last_use}
        alive -= {name for name in alive if last_use[name] <= i}
        if len(alive) == 1:
            (tensor,) = alive
            if tensor not in graph.inputs:
                ends[tensor] = i  # the last place wins: a branch that only ends in an output stays with its source
    start = 0
    for tensor, end in ends.items():
        yield list(graph.nodes[start : end + 1]), tensor
        start = end + 1
    yield list(graph.nodes[start:]), ""


def _merged(graph: Graph, segments: Iterator[tuple[list[NodeProto], str]]) -> list[tuple[list[NodeProto], str]]:
    constants = graph.constant_names
    merged: list[tuple[list[NodeProto], str]] = []
    waiting: list[NodeProto] = []
    for nodes, trunk in segments:
        works = any(count(node, graph.types, constants).macs for node in nodes)
        if works:
            merged.append((waiting + nodes, trunk))
            waiting = []
        elif waiting or not merged or (nodes[0].op_type in _FORWARD and trunk):
            waiting = waiting + nodes
        else:
            merged[-1] = (merged[-1][0] + nodes, trunk)
    if waiting:
        before = merged.pop()[0] if merged else []
        merged.append((before + waiting, ""))
    return merged


def _counts(graph: Graph, nodes: Sequence[NodeProto]) -> tuple[tuple[Op, ...], int]:
    constants = graph.constant_names
    needed = _constant_nodes(graph, nodes)
    stored = {n for node in (*nodes, *needed) for n in inputs_of(node) if n in graph.constants}
    stored |= set(graph.outputs) & set(graph.constants)
    params = sum(graph.types[n].count for n in stored if is_weight(graph.types[n]))
    return tuple(count(node, graph.types, constants) for node in nodes), params


def _constant_nodes(graph: Graph, nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """Constant nodes that these nodes need, in order."""
    wanted = {name for node in nodes for name in inputs_of(node)}
    found = []
    for node in reversed(graph.constant_nodes):
        if wanted & set(node.output):
            found.append(node)
            wanted |= set(inputs_of(node))
    return found[::-1]


def _piece(graph: Graph, nodes: Sequence[NodeProto], inputs: Sequence[str], outputs: Sequence[str]) -> Piece:
    body = [*_constant_nodes(graph, nodes), *nodes]
    names = {"": ""}
    names |= {n: "x" if len(inputs) == 1 else f"x{i}" for i, n in enumerate(inputs)}
    names |= {n: "y" if len(outputs) == 1 else f"y{i}" for i, n in enumerate(outputs) if n not in names}
    model = ModelProto(ir_version=graph.model.ir_version)
    domains = {node.domain for node in body}
    opsets = sorted((o for o in graph.model.opset_import if o.domain in domains | {""}), key=lambda o: o.domain)
    model.opset_import.extend(opsets)
    model.graph.name = "block"
    model.graph.node.extend(_renamed(node, names) for node in body)
    used = dict.fromkeys(n for node in body for n in inputs_of(node) if n in graph.constants)
    for name in used:
        tensor = model.graph.initializer.add()
        tensor.CopyFrom(graph.constants[name])
        tensor.name = names[name]
    model.graph.input.extend(value_info(names[n], graph.types[n]) for n in inputs)
    model.graph.output.extend(value_info(names[n], graph.types[n]) for n in outputs)
    ops, params = _counts(graph, nodes)
    shape = "x".join(str(d) for d in graph.types[inputs[0]].shape) if inputs else "none"
    return Piece(
        block_key=f"onnx-{summary(ops)}-{shape}-{_digest(model)}",
        model=model,
        inputs=tuple(_tensor(graph, n, names[n]) for n in inputs),
        outputs=tuple(_tensor(graph, n, names[n]) for n in outputs),
        ops=ops,
        params=params,
    )


def _tensor(graph: Graph, name: str, called: str) -> Tensor:
    return Tensor(name=called, dtype=graph.types[name].dtype, shape=graph.types[name].shape)


def _renamed(node: NodeProto, names: dict[str, str]) -> NodeProto:
    """A copy under canonical names, numbered by first appearance; bodies of control flow included."""
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.name = ""
    copy.ClearField("doc_string")
    for field in (copy.input, copy.output):
        renamed = [_name(n, names) for n in field]
        del field[:]
        field.extend(renamed)
    attributes = sorted(node.attribute, key=lambda a: a.name)
    del copy.attribute[:]
    copy.attribute.extend(attributes)
    for attribute in copy.attribute:
        for body in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            _rename_body(body, names)
    return copy


def _rename_body(body: GraphProto, names: dict[str, str]) -> None:
    body.name = "body"
    for value in (*body.input, *body.initializer):
        value.name = _name(value.name, names)
    nodes = [_renamed(node, names) for node in body.node]
    del body.node[:], body.value_info[:]
    body.node.extend(nodes)
    for output in body.output:
        output.name = _name(output.name, names)


def _name(name: str, names: dict[str, str]) -> str:
    return names.setdefault(name, f"t{len(names)}")


def _digest(model: ModelProto) -> str:
    """Eight hexadecimal digits over structure, shapes and small integers; weights and version numbers aside."""
    shadow = ModelProto()
    shadow.CopyFrom(model)
    shadow.ClearField("ir_version")
    for tensor in shadow.graph.initializer:
        if tensor.data_type not in (TensorProto.INT64, TensorProto.INT32):
            dims, data_type, name = list(tensor.dims), tensor.data_type, tensor.name
            tensor.Clear()
            tensor.dims.extend(dims)
            tensor.data_type, tensor.name = data_type, name
        else:  # one value has two encodings
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    return hashlib.blake2b(shadow.SerializeToString(deterministic=True), digest_size=4).hexdigest()
