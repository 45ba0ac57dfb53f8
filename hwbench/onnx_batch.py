"""Opens the first dimension of an exported ONNX graph, so that a runtime can be given several inputs at once."""

from __future__ import annotations

import hashlib
from pathlib import Path

from onnx import ModelProto
from platformdirs import user_cache_path

from hwbench import onnx_file
from hwbench.errors import ConfigError


def with_open_batch(file: Path) -> Path:
    """A copy of an ONNX file that takes any number of inputs, in the user's cache folder under its content's digest.

    Only the graph's edges are opened: what is fixed inside (a reshape to one row) the runtime finds when it runs.
    Raises ConfigError for a broken file, or when the copy cannot be kept.
    """
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    copy = user_cache_path("hwbench") / "batches" / f"{digest[:32]}.onnx"
    data = opened(onnx_file.load(file)).SerializeToString(deterministic=True)
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not copy.exists() or copy.read_bytes() != data:
            copy.write_bytes(data)
    except OSError as error:
        raise ConfigError(f"{copy}: cannot be written ({error.strerror})") from error
    return copy


def opened(model: ModelProto) -> ModelProto:
    """The model with a first dimension of 1 made open in all inputs, and no shape stated behind them."""
    constants = {constant.name for constant in model.graph.initializer}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in constants and dims and dims[0].dim_value == 1:
            dims[0].dim_param = "batch"
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    return model
