"""Static int8 as ONNX: QDQ, weights per channel, activations per tensor, ranges from calibration data.

Two forms, as two runtimes take them: `static_int8` for ONNX Runtime, `explicit_int8` for TensorRT.

Inputs and outputs stay real numbers: the graph rounds what it takes and turns back what it gives, and pays for that, as
every program around ONNX Runtime does. Both are signed, which ONNX Runtime's own guide names first for x86 and ARM.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from hwbench.errors import ConfigError


def static_int8(float_model: bytes, samples: Sequence[np.ndarray], score: str | None = None) -> bytes:
    """Quantise a float ONNX file of one input; samples: inputs (1, …) float32, which the ranges come from.

    score: an output that stays real from the logits on: in 256 steps it could not be held against a threshold.
    Raises ConfigError when ONNX Runtime refuses the graph.
    """
    model = _named(onnx.load_from_string(float_model))
    return _quantised(model, samples, nodes_to_exclude=_behind_logits(model, score))


# What TensorRT computes in int8; all else stays real.
_WEIGHED = ["Conv", "Gemm", "MatMul", "Add"]


def explicit_int8(float_model: bytes, samples: Sequence[np.ndarray], score: str | None = None) -> bytes:
    """The same for TensorRT, which reads which numbers are int8 from the graph: symmetric, biases real, and pairs only
    before the inputs of convolutions, matrix products and additions, so that what follows them can be fused.

    Source: "Working with Quantized Types" of TensorRT's documentation, recommended placement of Q/DQ layers.
    """
    how = {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "QuantizeBias": False,
        "AddQDQPairToWeight": True,
        "DedicatedQDQPair": True,
        "OpTypesToExcludeOutputQuantization": _WEIGHED,
    }
    model = _named(onnx.load_from_string(float_model))
    real = _behind_logits(model, score)
    return _quantised(model, samples, op_types_to_quantize=_WEIGHED, extra_options=how, nodes_to_exclude=real)


# By the format's name in a bundle.
FORMS: Mapping[str, Callable[[bytes, Sequence[np.ndarray]], bytes]] = {
    "onnx_int8": static_int8,
    "onnx_qdq": explicit_int8,
}


def _quantised(model: onnx.ModelProto, samples: Sequence[np.ndarray], **how: Any) -> bytes:
    with tempfile.TemporaryDirectory(prefix="hwbench-") as folder, _quiet():
        file = Path(folder) / "int8.onnx"
        try:
            quantize_static(
                model,
                file,
                _Samples(model.graph.input[0].name, samples),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                **how,
            )
        except (ValueError, RuntimeError, NotImplementedError) as error:
            raise ConfigError(f"ONNX Runtime cannot quantise the graph: {' '.join(str(error).split())}") from error
        made = onnx.load(file)
    return bytes(made.SerializeToString(deterministic=True))


class _Samples(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
    """Calibration data as ONNX Runtime asks for it: one feed after the other, then None."""

    def __init__(self, name: str, samples: Sequence[np.ndarray]) -> None:
        self._feeds: Iterator[dict[str, np.ndarray]] = iter([{name: sample} for sample in samples])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next feed."""
        return next(self._feeds, None)


def _named(model: onnx.ModelProto) -> onnx.ModelProto:
    """Every node with a name of its own: by names the quantiser is told what to leave."""
    for i, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{i}"
    return model


def _behind_logits(model: onnx.ModelProto, score: str | None) -> list[str]:
    """Names of the nodes that make the score of the graph's other outputs; none where there is no score."""
    if score is None:
        return []
    ends = {output.name for output in model.graph.output} - {score}
    maker: dict[str, Any] = {name: node for node in model.graph.node for name in node.output}
    found, ahead = [], [score]
    while ahead:
        name = ahead.pop()
        if name in maker and name not in ends:
            found.append(maker[name].name)
            ahead += maker[name].input
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser's remarks go nowhere: on graphs it would like to be prepared, which ours are."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
