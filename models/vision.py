"""Imports timm beside a CPU-only torch.

timm imports torchvision, whose registry wheel is built for CUDA. Next to a CPU-only torch its operator library does
not load, and its import then dies registering a fake kernel for operators that nobody declared. It is enough to declare
their two schemas; no kernel is needed, since no network here suppresses boxes.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

from hwbench.errors import ConfigError

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []  # kept: a library's schemas live only as long as the object


def import_timm() -> ModuleType:
    """The timm package; raises ConfigError when it is not installed."""
    _declare()
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"timm models need the Python package {error.name!r}; install the extra `search` (see the README)"
        ) from error


def _declare() -> None:
    if _declared:
        return
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for schema in _SCHEMAS:
            library.define(schema)
        _declared.append(library)
