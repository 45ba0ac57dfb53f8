"""Small real graphs that look like exported segments: each gives features, logits and a score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hwbench.setting import Setting
from hwbench.workload import Bundle, Leave, Node, Plan, Tensor, Workload, artifact_of

CPU1 = Setting(unit="cpu", precision="fp32", threads=1)
CHANNELS, SIDE, CLASSES = 8, 8, 10


def exit_onnx(channels_in: int, seed: int) -> bytes:
    """Conv-ReLU (features), mean and a linear layer (logits), the largest softmax (score)."""
    rng = np.random.default_rng(seed)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((0.5 * rng.standard_normal(shape)).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["features"]),
        helper.make_node("GlobalAveragePool", ["features"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "h", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["s"], axis=1),
        helper.make_node("ReduceMax", ["s"], ["score"], axes=[1], keepdims=0),
    ]
    floats = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "exit",
        [helper.make_tensor_value_info("x", floats, [1, channels_in, SIDE, SIDE])],
        [
            helper.make_tensor_value_info("features", floats, [1, CHANNELS, SIDE, SIDE]),
            helper.make_tensor_value_info("logits", floats, [1, CLASSES]),
            helper.make_tensor_value_info("score", floats, [1]),
        ],
        [weight("w", CHANNELS, channels_in, 3, 3), weight("h", CHANNELS, CLASSES), weight("b", CLASSES)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def workload(root: Path, key: str, files: dict[str, bytes], channels_in: int) -> Workload:
    """Write the files under `root` (by format) and describe them."""
    artifacts = {}
    for format, data in files.items():
        file = root / f"{key}.{format}"
        file.write_bytes(data)
        artifacts[format] = artifact_of(root, file)
    return Workload(
        block_key=key,
        kind="segment",
        inputs=(Tensor(name="x", dtype="float32", shape=(1, channels_in, SIDE, SIDE)),),
        outputs=(
            Tensor(name="features", dtype="float32", shape=(1, CHANNELS, SIDE, SIDE)),
            Tensor(name="logits", dtype="float32", shape=(1, CLASSES)),
            Tensor(name="score", dtype="float32", shape=(1,)),
        ),
        artifacts=artifacts,
    )


def chain_plan(*at: float) -> Plan:
    """A cascade of `len(at) + 1` exits: the first takes the sample, each other the features before it."""
    keys = ["first"] + ["next"] * len(at)
    nodes = []
    for i, key in enumerate(keys):
        leave = Leave(output="score", at=at[i]) if i < len(at) else None
        nodes.append(Node(node=f"n{i}", block_key=key, after=f"n{i - 1}" if i else None, leave=leave, answers=True))
    return Plan(name="chain", nodes=tuple(nodes))


def onnx_bundle(root: Path) -> Bundle:
    """Segments `first` (3 channels in) and `next` (8 channels in)."""
    root.mkdir(parents=True, exist_ok=True)
    bundle = Bundle(
        root=root,
        space=None,
        workloads=(
            workload(root, "first", {"onnx": exit_onnx(3, 1)}, 3),
            workload(root, "next", {"onnx": exit_onnx(CHANNELS, 2)}, CHANNELS),
        ),
    )
    bundle.write()
    return Bundle.read(root)


def litert_bundle(root: Path, recordings: Path) -> Bundle:
    """The same shapes as TFLite, float and static int8 (see tests/recordings/litert/README.md)."""
    root.mkdir(parents=True, exist_ok=True)

    def files(name: str) -> dict[str, bytes]:
        folder = recordings / "litert"
        return {
            "tflite": (folder / f"{name}.tflite").read_bytes(),
            "tflite_int8": (folder / f"{name}_int8.tflite").read_bytes(),
        }

    bundle = Bundle(
        root=root,
        space=None,
        workloads=(workload(root, "first", files("exit0"), 3), workload(root, "next", files("exit1"), CHANNELS)),
    )
    bundle.write()
    return Bundle.read(root)
