"""Cutting ONNX graphs: what is a block, which blocks are equal, and that the chain still computes the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

from hwbench import onnx_graph
from hwbench.onnx_cut import Piece, cut, whole
from tests.hwbench.onnx_networks import FLOAT, Net, residual_network


def pieces_of(model: ModelProto) -> tuple[Piece, ...]:
    """The chain of blocks of a model."""
    return cut(onnx_graph.plain(model, "net"))


def run(model: ModelProto, *feeds: np.ndarray) -> list[np.ndarray]:
    """All outputs of a model."""
    session = onnx_graph.runtime_session(model)
    return session.run(None, {i.name: f for i, f in zip(session.get_inputs(), feeds, strict=True)})


def chained(pieces: tuple[Piece, ...], *feeds: np.ndarray) -> list[np.ndarray]:
    """The last piece's outputs when each piece takes the first output of the one before."""
    for piece in pieces:
        onnx.checker.check_model(piece.model, full_check=True)
    outputs = run(pieces[0].model, *feeds)
    for piece in pieces[1:]:
        outputs = run(piece.model, outputs[0])
    return outputs


def op_types(piece: Piece) -> list[str]:
    """Operators of a piece, in order."""
    return [node.op_type for node in piece.model.graph.node]


def assert_chain_equals(model: ModelProto, pieces: tuple[Piece, ...], rng: np.random.Generator) -> None:
    """The chain's output is the network's, within 1e-5."""
    shape = [d.dim_value or 1 for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = rng.normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(chained(pieces, x)[0], run(model, x)[0], rtol=1e-5, atol=1e-5)


def test_a_residual_network_falls_apart_at_its_single_tensor_points() -> None:
    """A residual stays whole, an activation stays with its convolution, pooling goes with the classifier."""
    pieces = pieces_of(residual_network())
    residual = ["Conv", "Relu", "Conv", "Add", "Relu"]
    assert [op_types(p) for p in pieces] == [
        ["Conv", "Relu"],
        residual,
        residual,
        residual,
        ["GlobalAveragePool", "Flatten", "Gemm"],
    ]


def test_blocks_of_equal_structure_share_their_key_whatever_their_weights() -> None:
    """Depthwise is another structure, other weights are not."""
    keys = [p.block_key for p in pieces_of(residual_network(seed=1))]
    assert keys[1] == keys[2]
    assert len(set(keys)) == 4
    assert keys == [p.block_key for p in pieces_of(residual_network(seed=2))]


def test_a_key_says_what_runs_on_which_shape() -> None:
    """Readable in a table, no comma in it."""
    key = pieces_of(residual_network())[1].block_key
    assert key.startswith("onnx-2conv.2activation.add-1x8x8x8-")
    assert "," not in key


def test_the_chain_of_blocks_computes_the_network(rng: np.random.Generator) -> None:
    """Same numbers as the uncut network."""
    model = residual_network()
    assert_chain_equals(model, pieces_of(model), rng)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(["conv", "depthwise", "act", "residual", "concat", "se", "view"]), min_size=1, max_size=7),
    st.integers(0, 9),
)
def test_every_chain_computes_its_network(layers: list[str], seed: int) -> None:
    """Random chains of layers, residuals, concatenations and gates: same numbers, and the blocks' MACs add up."""
    net = Net([1, 4, 5, 5], seed=seed)
    x = "image"
    for layer in layers:
        if layer == "conv":
            x = net.conv(x, 4, 4)
        elif layer == "depthwise":
            x = net.conv(x, 4, 4, groups=4)
        elif layer == "act":
            x = net.node("HardSwish", x)
        elif layer == "residual":
            x = net.node("Add", net.conv(net.node("Relu", net.conv(x, 4, 6)), 6, 4, kernel=1), x)
        elif layer == "concat":
            x = net.conv(net.node("Concat", net.conv(x, 4, 2), net.node("Relu", x), axis=1), 6, 4, kernel=1)
        elif layer == "se":
            gate = net.node("Sigmoid", net.conv(net.node("GlobalAveragePool", x), 4, 4, kernel=1))
            x = net.node("Mul", x, gate)
        else:
            x = net.node("Reshape", x, net.constant(np.array([1, 4, 5, 5])))
    model = net.model(net.node("Relu", x))
    graph = onnx_graph.plain(model, "net")
    pieces = cut(graph)
    assert_chain_equals(model, pieces, np.random.default_rng(seed))
    assert len(pieces) == max(1, sum(layer not in ("act", "view") for layer in layers) + layers.count("concat"))
    assert sum(op.macs for p in pieces for op in p.ops) == sum(op.macs for op in whole(graph, "net").ops)


def test_a_network_without_work_is_one_block() -> None:
    """Nothing but an activation and a view: there is nothing to cut for."""
    net = Net([1, 4, 2, 2])
    assert [op_types(p) for p in pieces_of(net.model(net.node("Flatten", net.node("Relu", "image"))))] == [
        ["Relu", "Flatten"]
    ]


def test_work_is_counted_by_hand() -> None:
    """Convolution 3×3 of 3 to 8 channels on 8×8: 8·64·27 MACs, 216 weights and 8 biases."""
    stem = pieces_of(residual_network())[0]
    assert (stem.ops[0].kind, stem.ops[0].macs, stem.ops[0].weight_count) == ("conv", 8 * 64 * 27, 224)
    assert (stem.ops[0].read_count, stem.ops[0].write_count) == (3 * 64, 8 * 64)
    assert stem.params == 224
    kinds = [op.kind for op in pieces_of(residual_network())[3].ops]
    assert kinds == ["dwconv", "activation", "conv", "add", "activation"]
    pool, view, classifier = pieces_of(residual_network())[4].ops
    assert (pool.kind, pool.macs, view.kind, view.read_count) == ("pool", 0, "view", 0)
    assert (classifier.kind, classifier.macs, classifier.weight_count) == ("linear", 80, 90)


def test_a_symbolic_batch_becomes_one() -> None:
    """The usual export with a dynamic batch needs no help."""
    pieces = pieces_of(residual_network("N"))
    assert pieces[0].inputs[0].shape == (1, 3, 8, 8)
    assert pieces[-1].outputs[0].shape == (1, 10)


def test_shape_arithmetic_is_folded_away(rng: np.random.Generator) -> None:
    """Exporters compute the flattened shape from the batch; none of it stays in a block."""
    net = Net(["N", 3, 4, 4])
    x = net.conv("image", 3, 4)
    batch = net.node("Gather", net.node("Shape", x), net.constant(np.array(0)), axis=0)
    shape = net.node(
        "Concat", net.node("Unsqueeze", batch, net.constant(np.array([0]))), net.constant(np.array([-1])), axis=0
    )
    weights = net.node("Identity", net.weight(64, 5))
    model = net.model(net.node("MatMul", net.node("Reshape", x, shape), weights))
    pieces = pieces_of(model)
    assert [op_types(p) for p in pieces] == [["Conv", "Reshape"], ["MatMul"]]
    assert_chain_equals(model, pieces, rng)


def test_several_inputs_enter_the_first_block() -> None:
    """Nothing is cut before the last input was used."""
    net = Net([1, 3, 4, 4])
    net.inputs.append(helper.make_tensor_value_info("mask", FLOAT, [1, 4, 4, 4]))
    x = net.conv(net.node("Mul", net.conv(net.conv("image", 3, 4), 4, 4), "mask"), 4, 4)
    pieces = pieces_of(net.model(x))
    assert [op_types(p) for p in pieces] == [["Conv", "Conv", "Mul"], ["Conv"]]
    assert [t.name for t in pieces[0].inputs] == ["x0", "x1"]


def test_an_early_output_leaves_with_its_block(rng: np.random.Generator) -> None:
    """An exit's logits are a second output of the block they branch off; the trunk goes on."""
    net = Net([1, 3, 4, 4])
    x = net.conv("image", 3, 4)
    exit_logits = net.node("Flatten", net.conv(x, 4, 2, kernel=4))
    model = net.model(exit_logits, net.conv(net.node("Relu", x), 4, 4))
    pieces = pieces_of(model)
    assert [len(p.outputs) for p in pieces] == [2, 1]
    image = rng.normal(size=(1, 3, 4, 4)).astype(np.float32)
    early, late = run(model, image)
    np.testing.assert_allclose(run(pieces[0].model, image)[1], early, atol=1e-5)
    np.testing.assert_allclose(chained(pieces, image)[0], late, atol=1e-5)


def test_quantised_layers_keep_their_scales(tmp_path: Path, rng: np.random.Generator) -> None:
    """A block of an int8 network begins with dequantisation and ends with quantisation, so a runtime can fuse it."""

    class Calibration(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = 4

        def get_next(self) -> dict[str, np.ndarray] | None:
            self.left -= 1
            return {"image": rng.normal(size=(1, 3, 8, 8)).astype(np.float32)} if self.left >= 0 else None

    onnx.save(residual_network(), tmp_path / "float.onnx")
    quantize_static(tmp_path / "float.onnx", tmp_path / "int8.onnx", Calibration(), quant_format=QuantFormat.QDQ)
    model = onnx.load(tmp_path / "int8.onnx")
    pieces = pieces_of(model)
    assert len(pieces) == 5
    assert all(p.inputs[0].dtype == p.outputs[0].dtype for p in pieces[1:-1])
    assert {p.inputs[0].dtype for p in pieces[1:]} <= {"int8", "uint8"}
    assert_chain_equals(model, pieces, rng)


def test_recurrent_layers_and_products_are_counted() -> None:
    """GRU: length·3·hidden·(features + hidden); attention's product of two activations has no weights."""
    net = Net([5, 1, 6])
    gru = net.node("GRU", "image", net.weight(1, 12, 6), net.weight(1, 12, 4), hidden_size=4)
    net.nodes[-1].output.append("last")
    product = net.node("MatMul", "last", net.node("Transpose", "last", perm=[0, 2, 1]))
    ops = {op.kind: op for p in pieces_of(net.model(product)) for op in p.ops}
    assert gru and ops["recurrent"].macs == 5 * 12 * (6 + 4)
    assert (ops["linear"].macs, ops["linear"].weight_count) == (4, 0)


def test_the_branches_of_control_flow_travel_with_their_block(rng: np.random.Generator) -> None:
    """A body may read a tensor from outside; its names are made canonical too."""
    net = Net([1, 3, 4, 4])
    x = net.conv("image", 3, 4)
    total = net.node("ReduceSum", x, keepdims=0)
    test = net.node("Greater", total, net.constant(np.array(0, np.float32)))

    def branch(op_type: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(f"{op_type}_out", FLOAT, [1, 4, 4, 4])
        return helper.make_graph([helper.make_node(op_type, [x], [f"{op_type}_out"])], op_type, [], [out])

    chosen = net.node("If", test, then_branch=branch("Relu"), else_branch=branch("Neg"))
    model = net.model(net.conv(chosen, 4, 2))
    pieces = pieces_of(model)
    assert [op_types(p)[-1] for p in pieces] == ["If", "Conv"]
    assert_chain_equals(model, pieces, rng)


def test_an_operator_that_inference_does_not_know_is_observed(rng: np.random.Generator) -> None:
    """Shapes of a runtime's own operators come from one run on zeros."""
    net = Net([1, 3, 4, 4])
    x = net.node("QuickGelu", net.conv("image", 3, 4), domain="com.microsoft")
    model = net.model(net.conv(x, 4, 2))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    pieces = pieces_of(model)
    assert [op_types(p) for p in pieces] == [["Conv", "QuickGelu"], ["Conv"]]
    assert pieces[0].outputs[0].shape == (1, 4, 4, 4)


@pytest.mark.parametrize("seed", range(2))
def test_a_block_is_written_the_same_every_time(seed: int) -> None:
    """Bytes depend on structure and weights alone."""
    bytes_of = [
        [p.model.SerializeToString(deterministic=True) for p in pieces_of(residual_network(seed=seed))] for _ in "ab"
    ]
    assert bytes_of[0] == bytes_of[1]


def test_two_encodings_of_one_shape_are_one_structure() -> None:
    """Raw bytes or a list of integers: the same Reshape."""
    keys = []
    for raw in (True, False):
        net = Net([1, 3, 4, 4])
        x = net.node("Reshape", net.conv("image", 3, 4), "shape")
        value = np.array([1, 64])
        net.weights.append(
            numpy_helper.from_array(value, "shape") if raw else helper.make_tensor("shape", 7, [2], value)
        )
        keys += [p.block_key for p in pieces_of(net.model(x))]
    assert keys[0] == keys[1]
