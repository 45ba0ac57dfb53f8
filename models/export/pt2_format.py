"""Torch modules as exported programs (`.pt2`), without what would differ from machine to machine."""

from __future__ import annotations

import io
import warnings

import torch

from hwbench.agent import pt2
from hwbench.errors import ConfigError
from models.export.graph import Runnable
from models.export.tflite_format import folded


def to_pt2(runnable: Runnable, x: torch.Tensor) -> bytes:
    """The archive of a runnable for inputs like `x` (1, *in_shape); batch normalisation is folded, as in other formats.

    No example inputs and no stack traces go with it: nothing in it is pickled, and equal modules give equal bytes.
    Raises ConfigError where the reader that boards use would refuse it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch says of its own parts
        with torch.no_grad():
            program = torch.export.export(folded(runnable.module), (x.contiguous(),))
    program._example_inputs = None
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
        node.meta.pop("nn_module_stack", None)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    try:
        read = pt2.read(io.BytesIO(buffer.getvalue()))
    except pt2.AgentError as error:
        raise ConfigError(f"{runnable.key}: {error}") from error
    if len(read.outputs) != len(runnable.outputs):
        raise ConfigError(f"{runnable.key}: {len(read.outputs)} outputs were exported, not {len(runnable.outputs)}")
    return buffer.getvalue()
