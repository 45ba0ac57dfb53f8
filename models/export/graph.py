"""What is exported: a module with the names of its outputs, the work it does, and where it stands in a network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from hwbench.workload import Op, Tensor, Workload, artifact_of

OUTPUTS = ("features", "logits", "score")  # of every segment, in this order


@dataclass(frozen=True, slots=True, kw_only=True)
class Runnable:
    """A graph to export.

    module: in eval mode; takes (1, *in_shape), returns a tensor, or a tuple as a segment does.
    outputs: names and (1, …) shapes in torch's layout.  parts: block keys it executes, repeated as often as they run.
    takes_image: its input is the image, which stays (C, H, W) in every format; features may be laid out otherwise.
    """

    key: str
    kind: Literal["block", "segment", "network"]
    module: nn.Module
    in_shape: tuple[int, ...]
    outputs: tuple[tuple[str, tuple[int, ...]], ...]
    ops: tuple[Op, ...]
    params: int
    parts: tuple[str, ...] = ()
    takes_image: bool = False

    @property
    def input_name(self) -> str:
        """`image`, or `x`: features are what comes out."""
        return "image" if self.takes_image else "x"

    def workload(self, root: Path, files: Mapping[str, Path]) -> Workload:
        """Its description, with a file by format."""
        return Workload(
            block_key=self.key,
            kind=self.kind,
            inputs=(Tensor(name=self.input_name, dtype="float32", shape=(1, *self.in_shape)),),
            outputs=tuple(Tensor(name=name, dtype="float32", shape=shape) for name, shape in self.outputs),
            ops=self.ops,
            params=self.params,
            parts=tuple(Counter(self.parts).items()),
            artifacts={format: artifact_of(root, file) for format, file in files.items()},
        )


def run(module: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """All outputs of a module, as a tuple."""
    with torch.no_grad():
        y = module(x)
    return tuple(y) if isinstance(y, tuple | list) else (y,)


def segment_ops(ops: Sequence[Op], classes: int) -> tuple[Op, ...]:
    """A segment's work: that of its blocks and head, and its score, a pass over the classes."""
    return (*ops, Op(kind="activation", macs=0, weight_count=0, read_count=classes, write_count=classes))
