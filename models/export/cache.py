"""Remembers exported files by what went into them, in the user's cache folder: a second profile exports nothing."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from platformdirs import user_cache_path
from torch import nn

_EXPORTERS = {"onnx": ("torch", "onnx"), "pt2": ("torch",), "tflite": ("torch", "litert-torch", "litert-converter")}
_EXPORTERS["onnx_qdq"] = (*_EXPORTERS["onnx"], "onnxruntime")
_EXPORTERS["onnx_int8"] = (*_EXPORTERS["onnx"], "onnxruntime")
_EXPORTERS["tflite_int8"] = (*_EXPORTERS["tflite"], "ai-edge-quantizer")


def cached(key: str, format: str, make: Callable[[], bytes]) -> bytes:
    """The bytes kept under `key`, or what `make` returns, which is kept from then on.

    A cache folder that cannot be written is no error: then all is exported again each time.
    """
    file = user_cache_path("hwbench") / "exports" / key[:2] / f"{key}.{format}"
    try:
        return file.read_bytes()
    except OSError:
        data = make()
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
    return data


def key_of(module: nn.Module, shape: Sequence[int], format: str, *extra: str) -> str:
    """A digest of all that decides an exported file: code, structure, weights, input shape, exporter's versions.

    extra: what the structure's text does not show, such as block keys and calibration data.
    """
    digest = hashlib.blake2b(digest_size=20)
    versions = [f"{name}={importlib.metadata.version(name)}" for name in _EXPORTERS[format]]
    for text in (format, repr(module), str(tuple(shape)), *versions, *extra):
        digest.update(text.encode() + b"\0")
    own = {type(m).__module__ for m in module.modules()} | {__name__, "models.exits", "models.quantization"}
    package = {name for name in sys.modules if name.startswith("models.export")}
    for name in sorted({m for m in own if m.startswith("models.")} | package):
        digest.update(_source(name))
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@functools.cache
def _source(module: str) -> bytes:
    """The digest of a module's source file; empty where it is not loaded."""
    if module not in sys.modules:
        return b""
    file = inspect.getsourcefile(sys.modules[module])
    return hashlib.blake2b(Path(file).read_bytes()).digest() if file else b""
