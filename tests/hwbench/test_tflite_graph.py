"""Reading TFLite files without a runtime: what it says equals what the runtime says."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwbench import tflite_graph
from hwbench.tflite_graph import TfliteGraph, parse


@pytest.fixture(params=["float", "int8"])
def file(request: pytest.FixtureRequest, root: Path) -> Path:
    """Convolution of stride 2, hard swish, depthwise convolution, pooling, classifier on 3×16×16; made in torch."""
    return root / "tests" / "recordings" / "tflite" / f"{request.param}.tflite"


def graph_of(file: Path) -> TfliteGraph:
    """The described file."""
    return parse(file.read_bytes(), file.name)


def test_inputs_and_outputs_are_those_of_the_runtime(file: Path) -> None:
    """Names, types and shapes, in the file's order."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(model_path=str(file))
    graph = graph_of(file)
    for ours, theirs in (
        (graph.inputs, interpreter.get_input_details()),
        (graph.outputs, interpreter.get_output_details()),
    ):
        assert [(t.name, t.dtype, t.shape) for t in ours] == [
            (d["name"], d["dtype"].__name__, tuple(d["shape"].tolist())) for d in theirs
        ]


def test_work_is_that_of_the_layers(file: Path) -> None:
    """MACs 8·64·27, 8·64·9 and 8·10; weights with their biases."""
    graph = graph_of(file)
    assert [(op.kind, op.macs, op.weight_count) for op in graph.ops if op.macs] == [
        ("conv", 13824, 224),
        ("dwconv", 4608, 80),
        ("linear", 80, 90),
    ]
    assert graph.params == 394
    assert graph.quantized == (file.stem == "int8")


def test_operations_have_the_names_of_the_schema(root: Path) -> None:
    """All of them, as LiteRT's own reader of the schema has them; real numbers are told apart from integers."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="LiteRT is not installed")
    numbers = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    assert [numbers[code] for code in range(len(tflite_graph._NAMES))] == list(tflite_graph._NAMES)
    for name, real in (("litert/exit0_int8", 3), ("litert/exit0", 7), ("tflite/int8", 0)):
        data = (root / "tests" / "recordings" / f"{name}.tflite").read_bytes()
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
        found = tflite_graph.operations(data, name)
        assert [numbers[codes[op.opcodeIndex]] for op in model.subgraphs[0].operators] == [op.name for op in found]
        assert real == sum(op.real for op in found)
