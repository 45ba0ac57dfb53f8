"""ONNX Runtime on a board's processor; `hwbench.agent.runtimes.ort` is the other half."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwbench.agent_backend import AgentBackend, ProcessorOptions
from hwbench.link import Link

# No fp16: the runtime's own kernels for a processor have none, so it would compute in fp32 between conversions.
_FORMATS: Mapping[str, tuple[str, ...]] = {"fp32": ("onnx",), "int8": ("onnx_int8",)}


class Options(ProcessorOptions):
    """spinning: with two threads or more they wait for work busily inside a run, as the runtime does by default."""

    spinning: bool = True


def open(options: Options | Mapping[str, Any], link: Link | None = None) -> AgentBackend:
    """The runtime; nothing is asked of the board yet."""
    chosen = options if isinstance(options, Options) else Options.model_validate(dict(options))
    return AgentBackend(
        name="onnxruntime",
        runtime="ort",
        by_precision=_FORMATS,
        options=chosen.for_runtime,
        cores=chosen.cores,
        for_batches=_for_batches,
    )


def _for_batches(file: Path) -> Path:
    from hwbench.onnx_batch import with_open_batch  # onnx takes 0.3 s to import, and few ask for batches

    return with_open_batch(file)
