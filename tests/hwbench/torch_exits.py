"""Two exits as torch modules and exported programs; shapes as in exit_graphs."""

from __future__ import annotations

from pathlib import Path

import torch

from hwbench.workload import Bundle
from models.export.graph import Runnable
from models.export.pt2_format import to_pt2
from tests.hwbench.exit_graphs import CHANNELS, CLASSES, SIDE, workload


class Exit(torch.nn.Module):
    """Convolution, normalisation, ReLU (features), mean and a linear layer (logits), the largest softmax (score)."""

    def __init__(self, channels_in: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(channels_in, CHANNELS, 3, padding=1), torch.nn.BatchNorm2d(CHANNELS), torch.nn.ReLU(True)
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


def pt2(module: torch.nn.Module, channels_in: int) -> bytes:
    """The exported program of an exit."""
    shape = (channels_in, SIDE, SIDE)
    outputs = (("features", (1, CHANNELS, SIDE, SIDE)), ("logits", (1, CLASSES)), ("score", (1,)))
    runnable = Runnable(
        key="exit", kind="segment", module=module, in_shape=shape, outputs=outputs, ops=(), params=0, takes_image=True
    )
    return to_pt2(runnable, torch.zeros(1, *shape))


def torch_bundle(root: Path) -> Bundle:
    """Both exits as `.pt2`."""
    root.mkdir(parents=True, exist_ok=True)
    modules = exits()
    bundle = Bundle(
        root=root,
        space=None,
        workloads=tuple(
            workload(root, key, {"pt2": pt2(modules[key], channels)}, channels)
            for key, channels in (("first", 3), ("next", CHANNELS))
        ),
    )
    bundle.write()
    return Bundle.read(root)
