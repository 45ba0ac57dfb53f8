"""Torch modules as TFLite, float and static int8.

Features travel channels last, as TFLite computes, so that no block or segment pays for transposing at its edges; the
image stays (C, H, W), as every other format takes it, and whoever reads it transposes it once. A conversion takes one
second of processor time for a block and eight for a network of eighteen.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from copy import deepcopy as copy_of
from types import ModuleType

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hwbench.errors import ConfigError
from models.export.graph import Runnable, run
from models.export.onnx_format import error

logger = logging.getLogger(__name__)
_TOLERANCE = 1e-4


def to_tflite(runnable: Runnable, x: torch.Tensor) -> bytes:
    """The float TFLite file of a runnable, checked against torch on `x` (1, *in_shape).

    Raises ConfigError where it differs by more than 1e-4 of an output's largest value, or litert-torch is missing.
    """
    with quiet():
        litert_torch = _import()
        first = [] if runnable.takes_image or len(runnable.in_shape) != 3 else [0]
        spatial = [i for i, (_, shape) in enumerate(runnable.outputs) if len(shape) == 4]
        module = folded(runnable.module)
        if first or spatial:
            module = litert_torch.to_channel_last_io(module, args=first, outputs=spatial)
        data = bytes(litert_torch.convert(module.eval(), (as_fed(runnable, x),)).model_content())
        found = outputs(data, as_fed(runnable, x).numpy())
    for (name, _), theirs, ours in zip(runnable.outputs, run(runnable.module, x), found, strict=True):
        wrong = error(channels_last(theirs).numpy(), ours)
        if wrong > _TOLERANCE:
            raise ConfigError(
                f"{runnable.key}: TFLite's {name!r} differs from torch by {wrong:.1e} of its largest value"
            )
    return data


def folded(module: nn.Module) -> nn.Module:
    """A copy in eval mode whose batch normalisation is part of the convolution before it: a third less to convert."""
    copy = copy_of(module).eval()
    for parent in list(copy.modules()):
        children = list(parent.named_children()) if isinstance(parent, nn.Sequential) else []
        for (name, conv), (after, norm) in itertools.pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(conv, norm))
                delattr(parent, after)
    return copy


def as_fed(runnable: Runnable, x: torch.Tensor) -> torch.Tensor:
    """Torch's input (N, C, H, W) in the layout that the TFLite graph takes."""
    return x.contiguous() if runnable.takes_image else channels_last(x)


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) as (N, H, W, C), contiguous; anything else as it is."""
    return x.permute(0, 2, 3, 1).contiguous() if x.ndim == 4 else x.contiguous()


def outputs(data: bytes, *inputs: np.ndarray) -> list[np.ndarray]:
    """Run a TFLite file once on real numbers; outputs in the order of the signature, int8 ones as real numbers."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, num_threads=1)
    runner = interpreter.get_signature_runner()
    taken = runner.get_input_details()
    feeds = {}
    for (name, detail), value in zip(sorted(taken.items()), inputs, strict=True):
        scale, zero = detail["quantization"]
        info = np.iinfo(detail["dtype"]) if scale else None
        feeds[name] = (
            value
            if info is None
            else np.clip(np.rint(value / np.float32(scale)) + zero, info.min, info.max).astype(detail["dtype"])
        )
    given = runner.get_output_details()
    results = runner(**feeds)
    names = sorted(given, key=lambda n: int(n.rpartition("_")[2]))
    return [_real(results[name], given[name]["quantization"]) for name in names]


def _real(value: np.ndarray, quantization: tuple[float, int]) -> np.ndarray:
    scale, zero = quantization
    return (value.astype(np.float32) - zero) * np.float32(scale) if scale else value


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the converter's progress and its C++ parts' remarks off the terminal; they go to the log (DEBUG)."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    kept = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as said:
        try:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            with (
                open(os.devnull, "w") as nothing,
                contextlib.redirect_stdout(nothing),
                contextlib.redirect_stderr(nothing),
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("ignore")
                yield
        finally:
            for number, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)
            said.seek(0)
            logger.debug("converter: %s", said.read().decode("utf-8", "replace"))


def _import() -> ModuleType:
    os.environ.setdefault("LITERT_TORCH_SHOW_PROGRESS", "n")
    try:
        return importlib.import_module("litert_torch")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"TFLite needs the Python package {error.name!r}; install the extra `litert` (see the README)"
        ) from error
