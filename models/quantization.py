"""Static int8 for TFLite: weights per channel, activations per tensor, ranges from calibration data.

Inputs and outputs are int8 too, as accelerators want them; whoever feeds the graph converts by scale and zero point.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from hwbench.errors import ConfigError


def static_int8(float_model: bytes, samples: Sequence[np.ndarray]) -> bytes:
    """Quantise a float TFLite file; samples: inputs (1, …) float32 as the graph takes them, which the ranges come from.

    Raises ConfigError when ai-edge-quantizer is missing or refuses the graph.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
        from ai_edge_quantizer import quantizer, recipe
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"static int8 needs the Python package {error.name!r}; install the extra `litert` (see the README)"
        ) from error
    signatures = Interpreter(model_content=float_model).get_signature_list()
    (signature, names), *_ = signatures.items()
    (name,) = names["inputs"]
    quantize = quantizer.Quantizer(bytearray(float_model), recipe.static_wi8_ai8())
    try:
        ranges = quantize.calibrate({signature: [{name: s} for s in samples]}, num_threads=1)
        done = quantize.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"ai-edge-quantizer refuses the graph: {' '.join(str(error).split())}") from error
    return bytes(done.quantized_model)


def digest(samples: Sequence[np.ndarray]) -> str:
    """A name for calibration data: equal data, equal int8 file."""
    found = hashlib.blake2b(digest_size=16)
    for sample in samples:
        found.update(f"{sample.dtype}{sample.shape}".encode())
        found.update(np.ascontiguousarray(sample).tobytes())
    return found.hexdigest()


def correlation(expected: np.ndarray, found: np.ndarray) -> float:
    """Pearson's r over all elements; 1 where both never change."""
    a, b = expected.ravel().astype(np.float64), found.ravel().astype(np.float64)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else float(np.allclose(a, b))


def agreement(expected: np.ndarray, found: np.ndarray) -> float:
    """The share of samples (N, classes) whose largest logit is the same one."""
    return float((expected.argmax(-1) == found.argmax(-1)).mean())
