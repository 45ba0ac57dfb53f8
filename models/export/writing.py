"""Writes a runnable in the formats asked for, from the cache where it was exported before."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch

from hwbench.errors import ConfigError, nearest
from hwbench.onnx_graph import runtime_session
from hwbench.workload import Workload
from models import quantization
from models.export import onnx_int8
from models.export.cache import cached, key_of
from models.export.graph import Runnable, run
from models.export.onnx_format import to_onnx
from models.export.pt2_format import to_pt2
from models.export.tflite_format import as_fed, channels_last, outputs, quiet, to_tflite
from models.supernet import seed_of

logger = logging.getLogger(__name__)
SUFFIXES = {
    **{"onnx": ".onnx", "onnx_int8": ".int8.onnx", "onnx_qdq": ".qdq.onnx"},
    **{"pt2": ".pt2", "tflite": ".tflite", "tflite_int8": ".int8.tflite"},
}
_CALIBRATED = ("onnx_int8", "onnx_qdq", "tflite_int8")
_CALIBRATION_SAMPLES = 16
_COMPARED = 4
_BROKEN = 0.7  # a correlation below is no rounding any more


def check_formats(formats: Sequence[str]) -> None:
    """Raise ConfigError for a format that nothing here writes."""
    for format in formats:
        if format not in SUFFIXES:
            raise ConfigError(f"no exporter writes {format!r}{nearest(format, SUFFIXES)}")


def write(runnable: Runnable, formats: Sequence[str], out: Path, samples: torch.Tensor | None = None) -> Workload:
    """Write the files of one runnable under `out` and describe it; formats () = describe only.

    samples: inputs (N, *in_shape), which calibrate int8 and check every format; default are seeded normal numbers:
    enough for timing, not for accuracy.
    """
    check_formats(formats)
    if not formats:
        return runnable.workload(out, {})
    if samples is None:
        samples = seeded_samples(runnable.key, runnable.in_shape)
    files = {}
    for format in formats:
        file = out / f"{runnable.kind}s" / f"{runnable.key}{SUFFIXES[format]}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content(runnable, format, samples))
        files[format] = file
    return runnable.workload(out, files)


def seeded_samples(text: str, shape: Sequence[int]) -> torch.Tensor:
    """(16, *shape) normal numbers that depend on nothing but the text."""
    generator = torch.Generator().manual_seed(seed_of(text))
    return torch.randn((_CALIBRATION_SAMPLES, *shape), generator=generator)


def content(runnable: Runnable, format: str, samples: torch.Tensor) -> bytes:
    """The bytes of one format; raises ConfigError where they do not compute what torch does."""
    extra = [runnable.key, runnable.input_name, *(name for name, _ in runnable.outputs)]
    if format in _CALIBRATED:
        extra.append(quantization.digest([samples.numpy()]))
    key = key_of(runnable.module, runnable.in_shape, format, *extra)
    make = {
        **{"onnx": _onnx, "onnx_int8": _onnx_int8, "onnx_qdq": _onnx_qdq},
        **{"pt2": _pt2, "tflite": _tflite, "tflite_int8": _int8},
    }[format]
    return cached(key, format, lambda: make(runnable, samples))


def _onnx(runnable: Runnable, samples: torch.Tensor) -> bytes:
    return to_onnx(runnable, samples[:1])


def _pt2(runnable: Runnable, samples: torch.Tensor) -> bytes:
    return to_pt2(runnable, samples[:1])


def _tflite(runnable: Runnable, samples: torch.Tensor) -> bytes:
    return to_tflite(runnable, samples[:1])


def _onnx_int8(runnable: Runnable, samples: torch.Tensor) -> bytes:
    return _rounded(runnable, samples, onnx_int8.static_int8)


def _onnx_qdq(runnable: Runnable, samples: torch.Tensor) -> bytes:
    return _rounded(runnable, samples, onnx_int8.explicit_int8)


def _rounded(runnable: Runnable, samples: torch.Tensor, form: Callable[..., bytes]) -> bytes:
    feeds = [sample[None] for sample in samples.numpy()]
    score = next((name for name, _ in runnable.outputs if name == "score"), None)
    return _checked(runnable, samples, form(content(runnable, "onnx", samples), feeds, score))


def _checked(runnable: Runnable, samples: torch.Tensor, data: bytes) -> bytes:
    session = runtime_session(onnx.load_from_string(data))
    feeds = [sample[None] for sample in samples[:_COMPARED].numpy()]
    found = [session.run(None, {runnable.input_name: feed})[0] for feed in feeds]
    _check_rounding(runnable, run(runnable.module, samples[:_COMPARED])[0].numpy(), np.concatenate(found))
    return data


def _int8(runnable: Runnable, samples: torch.Tensor) -> bytes:
    floats = content(runnable, "tflite", samples)
    fed = as_fed(runnable, samples).numpy()
    with quiet():
        scores = [i for i, (name, _) in enumerate(runnable.outputs) if name == "score"]
        data = quantization.static_int8(floats, [fed[i : i + 1] for i in range(len(fed))], scores)
        found = [outputs(data, fed[i : i + 1])[0] for i in range(min(_COMPARED, len(fed)))]
    expected = channels_last(run(runnable.module, samples[:_COMPARED])[0]).numpy()
    _check_rounding(runnable, expected, np.concatenate(found))
    return data


def _check_rounding(runnable: Runnable, expected: np.ndarray, found: np.ndarray) -> None:
    """Raise ConfigError where int8 does not only round what float computes."""
    r = quantization.correlation(expected, found)
    logger.debug("%s: int8 correlates with float by %.4f", runnable.key, r)
    if not r >= _BROKEN:
        raise ConfigError(f"{runnable.key}: its int8 form computes something else (correlation {r:.2f} with float)")
