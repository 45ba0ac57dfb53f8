"""Torch modules as ONNX, with the older exporter: 14 ms a block where the newer one takes 0.6 s."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence

import numpy as np
import onnx
import torch
from torch import nn

from hwbench.errors import ConfigError
from hwbench.onnx_graph import plain, runtime_session
from models.export.graph import Runnable, run

_OPSET = 15  # of ONNX Runtime 1.10, the last for the Python 3.6 of JetPack 4; nothing here needs a later one
_TOLERANCE = 1e-4


def to_onnx(runnable: Runnable, x: torch.Tensor) -> bytes:
    """The ONNX file of a runnable, checked against torch on `x` (1, *in_shape) within 1e-4 of the largest value."""
    model = trace(runnable.module, x, runnable.input_name, [name for name, _ in runnable.outputs])
    plain_model = plain(model, runnable.key).model
    check(plain_model, runnable.module, x, runnable.key)
    return bytes(plain_model.SerializeToString(deterministic=True))


def trace(module: nn.Module, x: torch.Tensor, source: str, outputs: Sequence[str]) -> onnx.ModelProto:
    """What the exporter makes of a module in eval mode; batch normalisation is folded into its convolution."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that a newer exporter exists, and where tracing fixes a shape
        torch.onnx.export(
            module.eval(),
            (x.contiguous(),),
            buffer,  # type: ignore[arg-type]  # the older exporter takes a file object too
            dynamo=False,
            opset_version=_OPSET,
            input_names=[source],
            output_names=list(outputs),
        )
    return onnx.load_from_string(buffer.getvalue())


def check(model: onnx.ModelProto, module: nn.Module, x: torch.Tensor, name: str) -> None:
    """Raise ConfigError where ONNX Runtime and torch differ by more than 1e-4 of an output's largest value."""
    found = runtime_session(model).run(None, {model.graph.input[0].name: x.numpy()})
    for output, ours, theirs in zip(model.graph.output, found, run(module, x), strict=True):
        wrong = error(theirs.numpy(), ours)
        if wrong > _TOLERANCE:
            raise ConfigError(
                f"{name}: the exported {output.name!r} differs from torch by {wrong:.1e} of its largest value"
            )


def error(expected: np.ndarray, found: np.ndarray) -> float:
    """The largest difference as a share of the largest value; infinite when shapes differ."""
    if expected.shape != found.shape:
        return float("inf")
    return float(np.abs(expected - found).max() / max(float(np.abs(expected).max()), 1e-6))
