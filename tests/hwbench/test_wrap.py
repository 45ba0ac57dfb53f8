"""A user's network file becomes a bundle, or one line says what is wrong with it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from hwbench import onnx_graph
from hwbench.errors import ConfigError
from hwbench.workload import Bundle
from hwbench.wrap import plain_name, wrap
from tests.hwbench.onnx_networks import FLOAT, Net, residual_network


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A residual network as a user's file."""
    path = tmp_path / "my net.onnx"
    onnx.save(residual_network("batch"), path)
    return path


def refused(file: Path, out: Path) -> str:
    """The message that wrapping the file ends with."""
    with pytest.raises(ConfigError) as caught:
        wrap(file, out)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_bundle_holds_each_different_block_once_and_the_network(file: Path, tmp_path: Path) -> None:
    """Five blocks, two of them equal; parts say how often each runs."""
    bundle = wrap(file, tmp_path / "bundle")
    network = bundle.workloads[-1]
    assert Bundle.read(tmp_path / "bundle") == bundle
    assert (bundle.space, network.kind, len(bundle.blocks)) == ("my-net", "network", 4)
    assert sorted(n for _, n in network.parts) == [1, 1, 1, 2]
    assert {key for key, _ in network.parts} == {b.block_key for b in bundle.blocks}
    assert network.inputs[0].name == "image"


def test_parts_add_up_to_the_network(file: Path, tmp_path: Path) -> None:
    """Operations and MACs of the network are those of its parts."""
    bundle = wrap(file, tmp_path / "bundle")
    network = bundle.workloads[-1]
    parts: Counter[str] = Counter()
    for key, n in network.parts:
        for op in bundle.workload(key).ops:
            parts[op.kind] += n * op.macs
    assert sum(parts.values()) == network.macs > 0


def test_the_written_network_computes_what_the_users_file_does(
    file: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Folding and a fixed batch change no number."""
    bundle = wrap(file, tmp_path / "bundle")
    x = {"image": rng.normal(size=(1, 3, 8, 8)).astype(np.float32)}
    written = onnx.load(bundle.path(bundle.workloads[-1], "onnx"))
    expected = onnx_graph.runtime_session(onnx.load(file)).run(None, x)
    np.testing.assert_allclose(onnx_graph.runtime_session(written).run(None, x)[0], expected[0], atol=1e-6)


def test_wrapping_twice_gives_the_same_bytes(file: Path, tmp_path: Path) -> None:
    """Keys and sha256 are equal, so a table of yesterday fits."""
    assert wrap(file, tmp_path / "a").workloads == wrap(file, tmp_path / "b").workloads


def test_a_network_that_cannot_be_cut_is_measured_whole(tmp_path: Path) -> None:
    """One layer: no block beside the network, and no parts."""
    net = Net([1, 3, 4, 4])
    onnx.save(net.model(net.node("Relu", net.conv("image", 3, 4))), tmp_path / "one.onnx")
    (network,) = wrap(tmp_path / "one.onnx", tmp_path / "bundle").workloads
    assert (network.kind, network.parts) == ("network", ())


def test_external_data_is_honoured(tmp_path: Path) -> None:
    """Weights beside the file come into the bundle; the bundle needs no second file."""
    onnx.save(residual_network(), tmp_path / "inside.onnx")
    outside = tmp_path / "outside.onnx"
    onnx.save(residual_network(), outside, save_as_external_data=True, location="outside.bin", size_threshold=0)
    inside = wrap(tmp_path / "inside.onnx", tmp_path / "a").blocks
    assert inside == wrap(outside, tmp_path / "b").blocks


def test_missing_external_data_is_named(tmp_path: Path) -> None:
    """The usual mistake: only the .onnx file was copied."""
    file = tmp_path / "net.onnx"
    onnx.save(residual_network(), file, save_as_external_data=True, location="net.bin", size_threshold=0)
    (tmp_path / "net.bin").unlink()
    assert "net.bin" in refused(file, tmp_path / "bundle")


def test_broken_files_are_refused(file: Path, tmp_path: Path) -> None:
    """Missing, empty, garbage, cut short at any length, another format."""
    broken = tmp_path / "broken.onnx"
    assert "no such file" in refused(tmp_path / "absent.onnx", tmp_path / "o")
    assert ".onnx or a .tflite" in refused(tmp_path / "net.pt", tmp_path / "o")
    data = file.read_bytes()
    for content in (b"", b"garbage" * 50, *(data[: len(data) * i // 7] for i in range(1, 7)), data[:-1]):
        broken.write_bytes(content)
        assert "broken.onnx" in refused(broken, tmp_path / "o")


def test_a_dynamic_side_is_named_with_the_way_out(tmp_path: Path) -> None:
    """Only the batch is fixed without asking."""
    net = Net(["N", 3, "height", 8])
    onnx.save(net.model(net.conv("image", 3, 4)), tmp_path / "net.onnx")
    message = refused(tmp_path / "net.onnx", tmp_path / "o")
    assert "dimension 2 of input 'image' (height)" in message
    assert "--dim_param height --dim_value N" in message


def test_inputs_that_cannot_be_fed_are_refused(tmp_path: Path) -> None:
    """No input at all, a graph that ignores its input, a sequence."""
    net = Net([1, 2])
    constant = net.node("Relu", net.weight(1, 2))
    onnx.save(net.model(constant), tmp_path / "constant.onnx")
    assert "no output depends on an input" in refused(tmp_path / "constant.onnx", tmp_path / "o")
    net.inputs = []
    onnx.save(net.model(constant), tmp_path / "none.onnx")
    assert "takes no input" in refused(tmp_path / "none.onnx", tmp_path / "o")
    net.inputs = [helper.make_tensor_sequence_value_info("image", FLOAT, [1, 2])]
    onnx.save(net.model(net.node("ConcatFromSequence", "image", axis=0)), tmp_path / "sequence.onnx")
    assert "no tensor" in refused(tmp_path / "sequence.onnx", tmp_path / "o")


def test_a_graph_whose_shapes_contradict_each_other_is_refused(tmp_path: Path) -> None:
    """A product of 3 columns with 5 rows."""
    net = Net([1, 3])
    onnx.save(net.model(net.node("MatMul", "image", net.weight(5, 2))), tmp_path / "net.onnx")
    assert "contradict" in refused(tmp_path / "net.onnx", tmp_path / "o")


def test_a_tflite_file_is_one_network(root: Path, tmp_path: Path) -> None:
    """Float and static int8 go to the formats of their precision."""
    for name, format in (("float", "tflite"), ("int8", "tflite_int8")):
        bundle = wrap(root / "tests" / "recordings" / "tflite" / f"{name}.tflite", tmp_path / name)
        assert Bundle.read(tmp_path / name) == bundle
        assert list(bundle.workloads[0].artifacts) == [format]


def test_a_broken_tflite_file_is_refused(root: Path, tmp_path: Path) -> None:
    """Cut short anywhere."""
    data = (root / "tests" / "recordings" / "tflite" / "float.tflite").read_bytes()
    file = tmp_path / "net.tflite"
    for length in range(0, len(data) - 1, 97):
        file.write_bytes(data[:length])
        assert "net.tflite" in refused(file, tmp_path / "o")


def test_names_of_files_become_names_of_keys() -> None:
    """No comma, no space, never empty."""
    assert [plain_name(t) for t in ("my net, v2", "resnet18.a1", "…")] == ["my-net-v2", "resnet18.a1", "network"]
