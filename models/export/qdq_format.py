"""ONNX with explicit quantisation (Q/DQ pairs), as TensorRT reads int8.

Signed and symmetric, weights by channel, biases left in fp32, and pairs only before the inputs of convolutions, matrix
products and additions, so that what follows them can be fused. Scores and other arithmetic stay float.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch

from hwbench.errors import ConfigError
from hwbench.onnx_graph import runtime_session
from models import quantization
from models.export.graph import Runnable, run

logger = logging.getLogger(__name__)
_QUANTISED = ("Conv", "Gemm", "MatMul", "Add")
_BROKEN = 0.7  # a correlation below is no rounding any more


def to_qdq(runnable: Runnable, floats: bytes, samples: torch.Tensor) -> bytes:
    """The quantised form of a runnable's float ONNX file, with ranges from `samples` (N, *in_shape).

    Raises ConfigError where its first output hardly correlates with torch's.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the package carries no types
        """One sample after the other."""

        def __init__(self) -> None:
            self._left = iter(samples.numpy())

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next feed, None at the end."""
            sample = next(self._left, None)
            return None if sample is None else {runnable.input_name: sample[None]}

    with tempfile.TemporaryDirectory(prefix="hwbench-") as folder, _quiet():
        file = Path(folder) / "qdq.onnx"
        quantize_static(
            onnx.load_from_string(floats),
            file,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTISED),
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "AddQDQPairToWeight": True,
                "DedicatedQDQPair": True,
                "OpTypesToExcludeOutputQuantization": list(_QUANTISED),
            },
        )
        model = onnx.load(file)
    session = runtime_session(model)
    some = samples[:4]
    found = [session.run(None, {runnable.input_name: sample[None].numpy()})[0] for sample in some]
    r = quantization.correlation(run(runnable.module, some)[0].numpy(), np.concatenate(found))
    logger.debug("%s: int8 correlates with float by %.4f", runnable.key, r)
    if not r >= _BROKEN:
        raise ConfigError(f"{runnable.key}: its int8 form computes something else (correlation {r:.2f} with float)")
    return bytes(model.SerializeToString(deterministic=True))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep remarks on preparing a model, which our exporter has done, off the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
