"""Makes an ONNX graph plain: one static shape per tensor, constants folded, dead nodes gone.

What cuts, counts and measures works on this form, so that exporters' habits (identities around weights, shape
arithmetic, a symbolic batch) do not show up as blocks of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.inliner
import onnxruntime
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper, shape_inference

from hwbench.errors import ConfigError

# Folding these would turn quantised weights into floats or freeze a draw; they are carried along instead.
_NEVER_FOLDED = frozenset(
    {
        "QuantizeLinear",
        "DequantizeLinear",
        "RandomNormal",
        "RandomUniform",
        "RandomNormalLike",
        "RandomUniformLike",
        "Bernoulli",
        "Multinomial",
    }
)
_MAX_FOLDED_ELEMENTS = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorType:
    """numpy dtype name and static shape of one tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of elements; 1 for a scalar."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A plain ONNX graph.

    nodes: the live nodes that depend on an input (or draw at random), in topological order.
    constant_nodes: what must be computed from constants at run time (dequantised weights), in topological order.
    constants: initialisers by name.  types: of every tensor, constants included.
    """

    origin: str
    model: ModelProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[NodeProto, ...]
    constant_nodes: tuple[NodeProto, ...]
    constants: Mapping[str, TensorProto]
    types: Mapping[str, TensorType]

    @property
    def constant_names(self) -> frozenset[str]:
        """Tensors that are the same for every input."""
        return frozenset(self.constants) | {name for node in self.constant_nodes for name in node.output}


def plain(model: ModelProto, origin: str) -> Graph:
    """Make a model plain: inline functions, fix a symbolic batch to 1, fold constants, drop dead nodes, infer shapes.

    origin: what to call it in messages.  Raises ConfigError for an invalid graph, for inputs that are no tensors, and
    for a dynamic dimension other than the first.
    """
    model = _copy(model)
    for output in model.graph.output:
        # The checker wants a shape, whatever it says; runtimes do not, and all are inferred anew below.
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
        model = onnx.inliner.inline_local_functions(model) if model.functions else model
    except onnx.checker.ValidationError as error:
        raise ConfigError(f"{origin}: not a valid ONNX graph: {first_line(error)}") from error
    _drop_prose(model)
    model.ir_version = max(model.ir_version, 4)  # before, initialisers had to be inputs as well
    _fix_inputs(model, origin)
    _constants_to_initializers(model)
    while True:
        types = _infer(model, origin)
        if not _fold(model, types, origin):
            break
    live, fixed = _split(model)
    if not live:
        raise ConfigError(f"{origin}: no output depends on an input; there is nothing to measure")
    missing = [o for node in live for o in node.output if o and o not in types]
    if missing:
        types = types | _observe(model, missing, origin)
    used = {name for node in (*live, *fixed) for name in inputs_of(node)} | {o.name for o in model.graph.output}
    kept = [t for t in model.graph.initializer if t.name in used]
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend([*fixed, *live])  # constants first: they need nothing of the rest
    model.graph.initializer.extend(kept)
    for output in model.graph.output:
        output.CopyFrom(value_info(output.name, types[output.name]))
    return Graph(
        origin=origin,
        model=model,
        inputs=tuple(i.name for i in model.graph.input),
        outputs=tuple(o.name for o in model.graph.output),
        nodes=tuple(live),
        constant_nodes=tuple(fixed),
        constants={t.name: t for t in kept},
        types=types,
    )


def inputs_of(node: NodeProto) -> Iterator[str]:
    """Names a node reads, with those that its branches and bodies take from outside."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for body in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            inside = {i.name for i in body.input} | {t.name for t in body.initializer}
            for inner in body.node:
                yield from (name for name in inputs_of(inner) if name not in inside)
                inside |= set(inner.output)
            yield from (o.name for o in body.output if o.name not in inside)


def value_info(name: str, type: TensorType) -> ValueInfoProto:
    """A tensor's declaration, as inputs and outputs of a graph need it."""
    return helper.make_tensor_value_info(name, _element_type(type.dtype), type.shape)


def first_line(error: Exception) -> str:
    """What an exception says, without its traceback-like tail."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def runtime_session(model: ModelProto) -> onnxruntime.InferenceSession:
    """A quiet one-thread session that runs the graph as it is written; for folding and for checks, never for timing."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _copy(model: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def _element_type(dtype: str) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _drop_prose(model: ModelProto) -> None:
    """Remove what says who exported it, when and from which line of code: equal graphs get equal bytes."""
    for field in ("doc_string", "producer_name", "producer_version", "domain"):
        model.ClearField(field)
    del model.metadata_props[:]
    model.graph.ClearField("doc_string")
    for node in model.graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    for tensor in model.graph.initializer:
        for field in ("doc_string", "data_location"):  # the data is inside by now
            tensor.ClearField(field)


def _fix_inputs(model: ModelProto, origin: str) -> None:
    graph = model.graph
    constants = {t.name for t in graph.initializer}
    real = [i for i in graph.input if i.name not in constants]
    if graph.sparse_initializer:
        raise ConfigError(
            f"{origin}: holds sparse weights ({graph.sparse_initializer[0].values.name}); export dense ones"
        )
    if not real:
        raise ConfigError(f"{origin}: the graph takes no input; there is nothing to feed it")
    for value in real:
        if not value.type.HasField("tensor_type"):
            raise ConfigError(f"{origin}: input {value.name!r} is no tensor; only tensors are measured")
        tensor = value.type.tensor_type
        if not tensor.HasField("shape"):
            raise ConfigError(f"{origin}: input {value.name!r} has no shape; export it again with a fixed one")
        for axis, dim in enumerate(tensor.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value > 0:
                continue
            if axis == 0:
                dim.dim_value = 1
                continue
            flag = (
                f"--dim_param {dim.dim_param} --dim_value N"
                if dim.dim_param
                else f"--input_name {value.name} --input_shape …"
            )
            raise ConfigError(
                f"{origin}: dimension {axis} of input {value.name!r} ({dim.dim_param or 'unnamed'}) is dynamic, and "
                f"only the batch can be fixed without asking; fix it with "
                f"`python -m onnxruntime.tools.make_dynamic_shape_fixed {flag} IN.onnx OUT.onnx`"
            )
    del graph.input[:]
    graph.input.extend(real)
    for output in graph.output:  # what they say may still hold the symbolic batch; inferred anew
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.ClearField("shape")
    del graph.value_info[:]


def _constants_to_initializers(model: ModelProto) -> None:
    """Nodes of type Constant that hold a dense tensor become initialisers."""
    graph = model.graph
    kept = []
    for node in graph.node:
        value = next((a for a in node.attribute if a.name == "value" and a.HasField("t")), None)
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx") and value is not None:
            tensor = graph.initializer.add()
            tensor.CopyFrom(value.t)
            tensor.name = node.output[0]
            tensor.ClearField("doc_string")
        else:
            kept.append(node)
    nodes = [NodeProto.FromString(n.SerializeToString()) for n in kept]
    del graph.node[:]
    graph.node.extend(nodes)


def _infer(model: ModelProto, origin: str) -> dict[str, TensorType]:
    """Types of all tensors that ONNX's own shape inference can tell."""
    del model.graph.value_info[:]
    # Strictness finds contradictions, but takes an operator of a runtime's own for one.
    strict = all(node.domain in ("", "ai.onnx") for node in model.graph.node)
    try:
        inferred = shape_inference.infer_shapes(model, strict_mode=strict, data_prop=True)
    except (shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{origin}: its shapes contradict each other: {first_line(error)}") from error
    types: dict[str, TensorType] = {}
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        tensor = value.type.tensor_type
        known = value.type.HasField("tensor_type") and tensor.HasField("shape") and tensor.elem_type
        if known and all(d.HasField("dim_value") for d in tensor.shape.dim):
            types[value.name] = TensorType(
                dtype=np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name,
                shape=tuple(d.dim_value for d in tensor.shape.dim),
            )
    for constant in model.graph.initializer:
        types[constant.name] = TensorType(
            dtype=np.dtype(helper.tensor_dtype_to_np_dtype(constant.data_type)).name, shape=tuple(constant.dims)
        )
    return types


def _fold(model: ModelProto, types: Mapping[str, TensorType], origin: str) -> bool:
    """Replace nodes whose result never changes by their result; False when there was none."""
    graph = model.graph
    constant = {t.name for t in graph.initializer}
    folded: list[NodeProto] = []
    values: dict[str, np.ndarray] = {}
    kept: list[NodeProto] = []
    for node in graph.node:
        source = types.get(node.input[0]) if node.op_type in ("Shape", "Size") and node.input else None
        small = all(o in types and types[o].count <= _MAX_FOLDED_ELEMENTS for o in node.output if o)
        bodies = any(a.HasField("g") or a.graphs for a in node.attribute)
        if source is not None and node.input[0] not in constant:
            values[node.output[0]] = _shape_value(node, source)
            constant.add(node.output[0])
        elif (
            node.domain in ("", "ai.onnx")
            and node.op_type not in _NEVER_FOLDED
            and all(name in constant for name in node.input if name)
            and not bodies
            and (small or not node.input)
        ):
            folded.append(node)
            constant.update(node.output)
        else:
            kept.append(node)
    if not folded and not values:
        return False
    wanted = {name for node in kept for name in inputs_of(node)} | {o.name for o in graph.output}
    values |= _evaluate(model, folded, values, wanted, origin)
    nodes = [NodeProto.FromString(n.SerializeToString()) for n in kept]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(numpy_helper.from_array(values[name], name) for name in sorted(values) if name in wanted)
    return True


def _shape_value(node: NodeProto, source: TensorType) -> np.ndarray:
    if node.op_type == "Size":
        return np.array(source.count, np.int64)
    given = {a.name: int(a.i) for a in node.attribute}
    return np.array(source.shape[given.get("start", 0) : given.get("end")], np.int64)


def _evaluate(
    model: ModelProto, nodes: Sequence[NodeProto], known: Mapping[str, np.ndarray], wanted: set[str], origin: str
) -> dict[str, np.ndarray]:
    names = [o for node in nodes for o in node.output if o in wanted]
    if not names:
        return {}
    read = {name for node in nodes for name in inputs_of(node)}
    small = _copy_without_graph(model)
    small.graph.name = "constants"
    small.graph.node.extend(nodes)
    small.graph.initializer.extend(t for t in model.graph.initializer if t.name in read)
    small.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in known.items() if n in read)
    small.graph.output.extend(ValueInfoProto(name=name) for name in names)
    try:
        results = runtime_session(small).run(names, {})
    except Exception as error:  # onnxruntime raises a family of its own that shares no base but Exception
        raise ConfigError(f"{origin}: its constants cannot be computed by ONNX Runtime: {first_line(error)}") from error
    return dict(zip(names, (np.asarray(r) for r in results), strict=True))


def _copy_without_graph(model: ModelProto) -> ModelProto:
    copy = ModelProto(ir_version=model.ir_version)
    copy.opset_import.extend(model.opset_import)
    return copy


def _split(model: ModelProto) -> tuple[list[NodeProto], list[NodeProto]]:
    """Live nodes in topological order: those that depend on an input, those that never change yet must run."""
    constant = {t.name for t in model.graph.initializer}
    needed = {o.name for o in model.graph.output}
    alive: list[NodeProto] = []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            alive.append(node)
            needed |= set(inputs_of(node))
    live: list[NodeProto] = []
    fixed: list[NodeProto] = []
    for node in reversed(alive):
        random = node.op_type in _NEVER_FOLDED and not node.op_type.endswith("Linear")
        if not random and all(name in constant for name in inputs_of(node)):
            constant.update(node.output)
            fixed.append(NodeProto.FromString(node.SerializeToString()))
        else:
            live.append(NodeProto.FromString(node.SerializeToString()))
    return live, fixed


def _observe(model: ModelProto, names: Sequence[str], origin: str) -> dict[str, TensorType]:
    """Run once on zeros and look: for operators that ONNX's inference does not know."""
    probe = _copy(model)
    declared = {o.name for o in probe.graph.output}
    probe.graph.output.extend(ValueInfoProto(name=n) for n in names if n not in declared)
    try:
        session = runtime_session(probe)
        feeds = {
            i.name: np.zeros(
                [d.dim_value for d in i.type.tensor_type.shape.dim],
                helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type),
            )
            for i in probe.graph.input
        }
        results = session.run(list(names), feeds)
    except Exception as error:  # onnxruntime raises a family of its own that shares no base but Exception
        raise ConfigError(
            f"{origin}: the shape of {names[0]!r} can be neither inferred nor observed: {first_line(error)}"
        ) from error
    types = {}
    for name, result in zip(names, results, strict=True):
        if not isinstance(result, np.ndarray | np.generic):
            raise ConfigError(
                f"{origin}: {name!r} is a sequence or a map; only tensors are measured, export without it"
            )
        types[name] = TensorType(dtype=result.dtype.name, shape=tuple(result.shape))
    return types
