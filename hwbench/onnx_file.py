"""Reads ONNX files with their external data; what is wrong with a file is said in one line."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto

from hwbench.errors import ConfigError
from hwbench.onnx_graph import first_line

_MAX_BYTES = (1 << 31) - 1


def load(file: Path) -> ModelProto:
    """Read and check an ONNX file with its external data; raises ConfigError naming what is wrong with it."""
    try:
        size_bytes = file.stat().st_size
        model = onnx.load(file)
    except FileNotFoundError as error:
        raise ConfigError(f"{file}: {_missing(file, error)}") from error
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror or error})") from error
    except DecodeError as error:
        raise ConfigError(f"{file}: not an ONNX file, or cut short; export it again") from error
    except onnx.checker.ValidationError as error:
        raise ConfigError(f"{file}: its external data cannot be read: {first_line(error)}") from error
    if not size_bytes or not model.graph.node:
        raise ConfigError(f"{file}: holds no graph; it is empty or cut short, export it again")
    if model.ByteSize() > _MAX_BYTES:
        raise ConfigError(f"{file}: more than 2 GiB of weights; networks of that size are not measured here")
    return model


def _missing(file: Path, error: FileNotFoundError) -> str:
    if not file.exists():
        return "no such file"
    return f"its external data is missing ({Path(error.filename or 'unknown').name}); keep both files in one folder"
