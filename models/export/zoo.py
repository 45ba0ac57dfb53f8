"""`timm:NAME`: a model of timm's, cut into blocks.

Weights are random (seeded by the name): pretrained ones would have to be downloaded, and time does not depend on them.
ONNX is cut at its single-tensor points by the same code that cuts a user's file. Other formats are written whole:
cutting in torch is not reliable for models that were not written to be cut.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from hwbench import wrap
from hwbench.errors import ConfigError, nearest
from hwbench.workload import Bundle, Workload, artifact_of
from models.export import onnx_int8
from models.export.graph import Runnable, run
from models.export.onnx_format import check, trace
from models.export.writing import SUFFIXES, check_formats, seeded_samples, write
from models.supernet import seed_of, seeded
from models.vision import import_timm

logger = logging.getLogger(__name__)


def export_timm(name: str, *, formats: Sequence[str], out: Path) -> Bundle:
    """The bundle of one timm model; formats () describes blocks and network without a file.

    The network's parameters are torch's; those of a block are the constants of its graph, normalisation folded in.
    Raises ConfigError naming the nearest known model.
    """
    check_formats(formats)
    module = create(name)
    shape = input_shape(name, module)
    x = seeded_samples(name, shape)[:1]
    model = trace(module, x, "image", ["logits"])
    check(model, module, x, name)
    named = wrap.plain_name(f"timm-{name}")
    cut_too = not formats or not {"onnx", *onnx_int8.FORMS}.isdisjoint(formats)
    bundle = wrap.of_model(model, out, name=named, origin=f"timm:{name}", files=cut_too and bool(formats))
    *blocks, network = bundle.workloads
    for format in onnx_int8.FORMS:
        if format in formats:
            blocks = [_with_int8(out, block, format) for block in blocks]
    network = replace(network, params=sum(p.numel() for p in module.parameters()))
    if not cut_too:
        logger.warning("timm:%s: %s is measured whole; blocks are cut from ONNX only", name, " and ".join(formats))
        blocks, network = [], replace(network, parts=())
    runnable = Runnable(
        key=network.block_key,
        kind="network",
        module=module,
        in_shape=shape,
        outputs=(("logits", tuple(run(module, x)[0].shape)),),
        ops=network.ops,
        params=network.params or 0,
        takes_image=True,
    )
    lite = write(runnable, [format for format in formats if format != "onnx"], out).artifacts
    network = replace(network, artifacts={**network.artifacts, **lite})
    bundle = replace(bundle, workloads=(*blocks, network))
    bundle.write()
    return bundle


def _with_int8(out: Path, block: Workload, format: str) -> Workload:
    """A block that was cut, with its int8 form beside it, calibrated on seeded numbers: enough for timing."""
    file = out / block.artifacts["onnx"].path
    (taken,) = block.inputs
    samples = seeded_samples(block.block_key, taken.shape[1:]).numpy()
    rounded = file.with_name(file.stem + SUFFIXES[format])
    rounded.write_bytes(onnx_int8.FORMS[format](file.read_bytes(), [sample[None] for sample in samples]))
    return replace(block, artifacts={**block.artifacts, format: artifact_of(out, rounded)})


def create(name: str) -> nn.Module:
    """The model with weights seeded by its name, in eval mode; raises ConfigError naming the nearest known one."""
    timm = import_timm()
    if not timm.is_model(name):
        raise ConfigError(f"timm has no model {name!r}{_near(name, timm.list_models())}")
    with seeded(seed_of(name)):
        module: nn.Module = timm.create_model(name, pretrained=False).eval()
    return module


def input_shape(name: str, module: nn.Module) -> tuple[int, ...]:
    """(C, H, W) that the model was made for; raises ConfigError where it does not say."""
    config: Any = getattr(module, "pretrained_cfg", {})
    if not config.get("input_size"):
        raise ConfigError(f"timm:{name} does not say which input it takes; export it to ONNX and give the file")
    return tuple(int(n) for n in config["input_size"])


def _near(name: str, known: Sequence[str]) -> str:
    """The nearest names only: all that timm knows are too many for a message."""
    return nearest(name, known).partition(" (known:")[0] + "; `timm.list_models()` names them all"
