"""A trained network with exits as a bundle: one graph for each stage and the plan that walks them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from hwbench.errors import ConfigError
from hwbench.workload import Bundle, Leave, Node, Patience, Plan, Preprocessing
from models import quantization
from models.exits import ExitNetwork, head_blocks
from models.export.graph import Runnable, run
from models.export.spaces import segment_runnables
from models.export.tflite_format import as_fed, outputs, quiet
from models.export.writing import check_formats, content, write
from models.space import Space

logger = logging.getLogger(__name__)
CALIBRATION_IMAGES = 128


def deployment(
    space: Space,
    genes: Sequence[int],
    network: ExitNetwork,
    placed: Sequence[int],
    thresholds: Sequence[float],
    *,
    out: Path,
    formats: Sequence[str],
    data: Preprocessing,
    images: torch.Tensor,
    score: str = "max_softmax",
    patience: bool = False,
    name: str = "cascade",
) -> Bundle:
    """Write the segments of a trained network and the plan by which inputs leave them early.

    genes: the subnet that `network` was extracted from.  placed: slots that a used exit stands behind, in order;
    thresholds: one each, an input leaves when its score is at least that; with patience, when so many of them in a row
    answer alike, and the score that each graph still gives decides nothing.  data: how an image becomes an input.
    images: normalised training images (N, C, H, W), N ≥ 1: each format is checked on them, int8 takes its ranges from
    the first 128.  The plan's nodes are named `exit3` (behind slot 3), …, `final`.
    Raises ConfigError when placed and thresholds differ in number, or an export differs from torch.
    """
    check_formats(formats)
    if len(placed) != len(thresholds) or list(placed) != sorted(set(placed)):
        raise ConfigError(f"exits behind slots {list(placed)} with thresholds {list(thresholds)}: one each, in order")
    if len(images) < 1 or tuple(images.shape[1:]) != tuple(data.shape):
        raise ConfigError(f"images of shape {tuple(images.shape)} do not fit inputs of {tuple(data.shape)}")
    heads = head_blocks(space, genes)
    modules = {slot: network.heads[str(slot)] for slot in placed if str(slot) in network.heads}
    missing = sorted(set(placed) - set(modules) | set(placed) - set(heads))
    if missing:
        raise ConfigError(f"no exit behind slots {missing}; there are heads behind {list(network.slots)}")
    gates = {int(slot): gate for slot, gate in network.gates.items()}
    segments = segment_runnables(space, network.parts, heads, modules, placed, score, gates)
    workloads = []
    features = images[:CALIBRATION_IMAGES].contiguous()
    for segment in segments:
        workloads.append(write(segment, formats, out, features))
        features = run(segment.module, features)[0]
    if "tflite_int8" in formats:
        _report_agreement(segments, images[:CALIBRATION_IMAGES])
    nodes = []
    names = [*(f"exit{slot}" for slot in placed), "final"]
    for i, segment in enumerate(segments):
        leave: Leave | Patience | None = None
        if i < len(placed):
            at = float(thresholds[i])
            leave = Patience(agree=round(at)) if patience else Leave(output="score", at=at)
        after = names[i - 1] if i else None
        nodes.append(Node(node=names[i], block_key=segment.key, after=after, leave=leave, answers=True))
    plan = Plan(name=name, nodes=tuple(nodes))
    bundle = Bundle(root=out, space=space.name, workloads=tuple(workloads), plans=(plan,), data=data)
    bundle.write()
    return bundle


def _report_agreement(segments: Sequence[Runnable], images: torch.Tensor) -> None:
    """Say how often int8 answers as float does, stage by stage, each stage fed by the one before in int8."""
    floats, features = images, images
    fed = as_fed(segments[0], images).numpy()
    for segment in segments:
        data = content(segment, "tflite_int8", features)
        with quiet():
            results = [outputs(data, fed[i : i + 1]) for i in range(len(fed))]
        torch_features, logits, _ = run(segment.module, floats)
        same = quantization.agreement(logits.numpy(), np.concatenate([r[1] for r in results]))
        logger.info("%s: int8 and float answer alike on %.1f %% of %d images", segment.key, 100 * same, len(fed))
        fed = np.concatenate([r[0] for r in results])
        floats = features = torch_features
