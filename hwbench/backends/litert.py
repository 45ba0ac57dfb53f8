"""LiteRT (TensorFlow Lite) on a board's processor; `hwbench.agent.runtimes.litert` is the other half."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hwbench.agent_backend import AgentBackend, ProcessorOptions
from hwbench.link import Link

_FORMATS: Mapping[str, tuple[str, ...]] = {"fp32": ("tflite",), "int8": ("tflite_int8",)}


class Options(ProcessorOptions):
    """xnnpack: use the optimised kernels, as the runtime does by default."""

    xnnpack: bool = True


def open(options: Options | Mapping[str, Any], link: Link | None = None) -> AgentBackend:
    """The runtime; nothing is asked of the board yet."""
    chosen = options if isinstance(options, Options) else Options.model_validate(dict(options))
    return AgentBackend(
        name="litert", runtime="litert", by_precision=_FORMATS, options=chosen.for_runtime, cores=chosen.cores
    )
