"""Two exits as torch modules and exported programs; shapes as in exit_graphs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from hwbench.workload import Bundle
from models.export.graph import Runnable
from models.export.onnx_format import to_onnx
from models.export.onnx_int8 import explicit_int8
from models.export.pt2_format import to_pt2
from models.export.writing import seeded_samples
from tests.hwbench.exit_graphs import CHANNELS, CLASSES, SIDE, workload


class Exit(torch.nn.Module):
    """Convolution, normalisation, activation (features); mean and a linear layer (logits); largest softmax (score)."""

    def __init__(self, channels_in: int, seed: int, activation: torch.nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(seed)
        act = activation or torch.nn.ReLU(True)
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(channels_in, CHANNELS, 3, padding=1), torch.nn.BatchNorm2d(CHANNELS), act
        )
        self.head = torch.nn.Linear(CHANNELS, CLASSES)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Features, logits, score."""
        features = self.body(x)
        logits = self.head(features.mean((2, 3)))
        return features, logits, torch.softmax(logits, 1).amax(1)


def exits() -> dict[str, Exit]:
    """`first` takes 3 channels, `next` takes features."""
    return {"first": Exit(3, 1).eval(), "next": Exit(CHANNELS, 2).eval()}


def runnable(module: torch.nn.Module, channels_in: int) -> Runnable:
    """An exit, ready to be exported."""
    outputs = (("features", (1, CHANNELS, SIDE, SIDE)), ("logits", (1, CLASSES)), ("score", (1,)))
    return Runnable(
        key="exit",
        kind="segment",
        module=module,
        in_shape=(channels_in, SIDE, SIDE),
        outputs=outputs,
        ops=(),
        params=0,
        takes_image=True,
    )


def pt2(module: torch.nn.Module, channels_in: int) -> bytes:
    """The exported program of an exit."""
    return to_pt2(runnable(module, channels_in), torch.zeros(1, channels_in, SIDE, SIDE))


def onnx_files(module: torch.nn.Module, channels_in: int) -> dict[str, bytes]:
    """Float and int8 ONNX of an exit."""
    exit, samples = runnable(module, channels_in), seeded_samples("exit", (channels_in, SIDE, SIDE))
    floats = to_onnx(exit, samples[:1])
    return {"onnx": floats, "onnx_qdq": explicit_int8(floats, [sample[None] for sample in samples.numpy()])}


def torch_bundle(root: Path) -> Bundle:
    """Both exits as `.pt2`."""
    return _bundle(root, lambda module, channels: {"pt2": pt2(module, channels)})


def both_onnx_bundle(root: Path) -> Bundle:
    """Both exits as float and int8 ONNX."""
    return _bundle(root, onnx_files)


def _bundle(root: Path, files: Callable[[torch.nn.Module, int], dict[str, bytes]]) -> Bundle:
    root.mkdir(parents=True, exist_ok=True)
    modules = exits()
    bundle = Bundle(
        root=root,
        space=None,
        workloads=tuple(
            workload(root, key, files(modules[key], channels), channels)
            for key, channels in (("first", 3), ("next", CHANNELS))
        ),
    )
    bundle.write()
    return Bundle.read(root)
