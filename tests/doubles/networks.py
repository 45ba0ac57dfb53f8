"""Tiny real ONNX graphs, quick to make and to run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hwbench.workload import Bundle, Op, Tensor, Workload, artifact_of


def matmul_bundle(root: Path, sizes: Sequence[int] = (16, 32)) -> Bundle:
    """A bundle of matrix products `matmul-N`, at N^3 multiply-accumulates each; written to `root`."""
    root.mkdir(parents=True, exist_ok=True)
    bundle = Bundle(root=root, space=None, workloads=tuple(_matmul(root, n) for n in sizes))
    bundle.write()
    return bundle


def _matmul(root: Path, n: int) -> Workload:
    weights = np.random.default_rng(n).standard_normal((n, n)).astype(np.float32)
    shape = [1, n, n]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "matmul",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weights, "w")],
    )
    file = root / f"matmul-{n}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return Workload(
        block_key=f"matmul-{n}",
        kind="block",
        inputs=(Tensor(name="x", dtype="float32", shape=(1, n, n)),),
        outputs=(Tensor(name="y", dtype="float32", shape=(1, n, n)),),
        ops=(Op(kind="linear", macs=n**3, weight_count=n * n, read_count=n * n, write_count=n * n),),
        params=n * n,
        artifacts={"onnx": artifact_of(root, file)},
    )
