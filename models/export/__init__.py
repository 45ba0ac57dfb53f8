"""Turns networks into bundles: spaces and timm models to be measured, trained networks with exits to be deployed.

`exporter` is the entry point `hwbench.exporters`, through which hwbench finds torch without importing it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hwbench.errors import ConfigError
from hwbench.workload import Bundle
from models.export.deployment import deployment
from models.export.spaces import export_space
from models.export.zoo import export_timm

__all__ = ["deployment", "exporter"]


def exporter(source: str, *, formats: Sequence[str], out: Path, networks: int = 0, seed: int = 0) -> Bundle:
    """Export `space:digits`, `space:FILE` or `timm:NAME` into the folder `out`; formats () = describe only.

    formats: of `onnx`, `onnx_int8` (for processors), `onnx_qdq` (int8 for TensorRT), `pt2`, `tflite`, `tflite_int8`.
    networks: how many random whole networks of a space go with the blocks, the smallest and the largest among them.
    Raises ConfigError for an unknown source or format.
    """
    kind, colon, name = source.partition(":")
    if colon and name and kind == "space":
        return export_space(name, formats=formats, out=out, networks=networks, seed=seed)
    if colon and name and kind == "timm":
        return export_timm(name, formats=formats, out=out)
    raise ConfigError(f"nothing to export: {source!r}; a source is space:NAME or timm:NAME")
