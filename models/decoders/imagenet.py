"""Mobile networks for ImageNet by the names that MLPerf's submitters gave them, as the operations that they execute.

`mobilenet-v1-0.5-192` and `mobilenet-v2-…` (width, side), `mobilenet-v3-large_224_1.0` and `-small…`, with
`-minimalistic` (no squeeze-and-excitation, no 5×5, no h-swish), `efficientnet-lite0` to `4`, and `resnet50`; endings
that tell the precision (`-quantized`, `_float`, …) are passed over. Tables 1 of Howard et al. 2017 (arXiv 1704.04861),
2 of Sandler et al. 2018 (1801.04381), 1 and 2 of Howard et al. 2019 (1905.02244), 1 of Tan & Le 2019 (1905.11946)
without squeeze-and-excitation, 1 of He et al. 2016 (1512.03385) with the stride in the 3×3 convolution.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from hwbench.decoder import Decoded, Executed, Reading
from hwbench.errors import ConfigError
from hwbench.workload import Op
from models.block import divisible, mbconv_block, stem_block, strided
from models.operations import Shape, activation, add, conv, depthwise, linear, pool

KINDS = ("conv", "dwconv", "linear", "pool", "add", "activation", "multiply")
_CLASSES = 1001  # with one for the background, as in TensorFlow's
# Channels and stride of the separable layers of MobileNet v1.
_V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
# Expansion, channels, repeats, stride, kernel.
_V2 = (
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 32, 3, 2, 3), (6, 64, 4, 2, 3), (6, 96, 3, 1, 3), (6, 160, 3, 2, 3),
    (6, 320, 1, 1, 3),
)  # fmt: skip
_LITE = (
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)  # fmt: skip
# Width, depth and side of EfficientNet-Lite 0 to 4.
_LITES = ((1.0, 1.0, 224), (1.0, 1.1, 240), (1.1, 1.2, 260), (1.2, 1.4, 280), (1.4, 1.8, 300))
# Expansion, channels, stride, kernel, squeeze-and-excitation of the blocks; what comes behind them stands in _V3.
_LARGE = (
    (1, 16, 1, 3, False), (4, 24, 2, 3, False), (3, 24, 1, 3, False), (3, 40, 2, 5, True), (3, 40, 1, 5, True),
    (3, 40, 1, 5, True), (6, 80, 2, 3, False), (2.5, 80, 1, 3, False), (2.3, 80, 1, 3, False), (2.3, 80, 1, 3, False),
    (6, 112, 1, 3, True), (6, 112, 1, 3, True), (6, 160, 2, 5, True), (6, 160, 1, 5, True), (6, 160, 1, 5, True),
)  # fmt: skip
_SMALL = (
    (1, 16, 2, 3, True), (4.5, 24, 2, 3, False), (88 / 24, 24, 1, 3, False), (4, 40, 2, 5, True), (6, 40, 1, 5, True),
    (6, 40, 1, 5, True), (3, 48, 1, 5, True), (3, 48, 1, 5, True), (6, 96, 2, 5, True), (6, 96, 1, 5, True),
    (6, 96, 1, 5, True),
)  # fmt: skip
_V3 = {"large": (_LARGE, 960, 1280), "small": (_SMALL, 576, 1024)}
_RESNET = ((64, 256, 3, 1), (128, 512, 4, 2), (256, 1024, 6, 2), (512, 2048, 3, 2))
_ENDING = re.compile(r"[-_](non-quantized|quantized|float|uint8|fp32|fp16|int8)$")
_WIDE = re.compile(r"mobilenet-v([12])-(\d(?:\.\d+)?)-(\d{2,3})")
_THIRD = re.compile(r"mobilenet-v3-(large|small)(-minimalistic)?_(\d{2,3})_(\d(?:\.\d+)?)")
_LITE_NAME = re.compile(r"efficientnet-lite([0-4])")


def decode(archs: Sequence[str]) -> Decoded:
    """What each executes, by kind of operation and in full; ConfigError for a name that is none of these."""
    networks = [Counter(operations(_ENDING.sub("", arch.strip()))) for arch in archs]
    kinds = [Counter({k: sum(n for op, n in network.items() if op.kind == k) for k in KINDS}) for network in networks]
    counts = np.array([[found[kind] for kind in KINDS] for found in kinds], dtype=np.float64).reshape(len(archs), -1)
    reading = Reading(
        name="layers",
        ops=KINDS,
        counts=counts,
        places=np.zeros((len(archs), 0), dtype=np.int64),
        traits=np.array([[sum(op.macs * n for op, n in network.items())] for network in networks], dtype=np.float64),
        executed=Executed.of(networks),
    )
    return Decoded(
        readings=(reading,), constant=np.zeros(len(archs), dtype=bool), signs=reading.traits, function=(reading.traits,)
    )


@lru_cache(maxsize=1 << 10)
def operations(arch: str) -> tuple[Op, ...]:
    """All that a network executes, in order."""
    if found := _WIDE.fullmatch(arch):
        width, side = float(found[2]), int(found[3])
        return tuple(_first(width, side) if found[1] == "1" else _second(width, side))
    if found := _THIRD.fullmatch(arch):
        return tuple(_third(found[1], float(found[4]), int(found[3]), plain=found[2] is not None))
    if found := _LITE_NAME.fullmatch(arch):
        width, depth, side = _LITES[int(found[1])]
        return tuple(_lite(width, depth, side))
    if arch == "resnet50":
        return tuple(_residual())
    raise ConfigError(
        f"imagenet architecture {arch[:80]!r}: expected mobilenet-v1-WIDTH-SIDE, mobilenet-v2-WIDTH-SIDE, "
        "mobilenet-v3-large|small[-minimalistic]_SIDE_WIDTH, efficientnet-lite0 to 4, or resnet50"
    )


def _first(width: float, side: int) -> list[Op]:
    ops, shape = _stem(side, int(32 * width), "relu6")
    for channels, stride in _V1:
        middle: Shape = (shape[0], *strided(shape[1], stride))
        out: Shape = (int(channels * width), *middle[1:])
        ops += [depthwise(shape, middle, 3), activation(middle), conv(middle, out, 1), activation(out)]
        shape = out
    return ops + _classify(shape)


def _second(width: float, side: int) -> list[Op]:
    ops, shape = _stem(side, divisible(32 * width), "relu6")
    stages = tuple((e, divisible(c * width), n, s, k) for e, c, n, s, k in _V2)
    return _stages(ops, shape, stages, int(1280 * max(1.0, width)))


def _lite(width: float, depth: float, side: int) -> list[Op]:
    ops, shape = _stem(side, 32, "relu6")
    last = len(_LITE) - 1
    stages = tuple(
        (e, divisible(c * width), n if i in (0, last) else math.ceil(n * depth), s, k)
        for i, (e, c, n, s, k) in enumerate(_LITE)
    )
    return _stages(ops, shape, stages, 1280)


def _stages(ops: list[Op], shape: Shape, stages: Sequence[tuple[float, int, int, int, int]], features: int) -> list[Op]:
    for expand, channels, repeats, stride, kernel in stages:
        for i in range(repeats):
            block = mbconv_block(
                shape, channels, kernel=kernel, expand=expand, stride=stride if i == 0 else 1, act="relu6"
            )
            ops, shape = [*ops, *block.ops], block.out_shape
    wide: Shape = (features, *shape[1:])
    return [*ops, conv(shape, wide, 1), activation(wide), *_classify(wide)]


def _third(size: str, width: float, side: int, *, plain: bool) -> list[Op]:
    blocks, wide, features = _V3[size]
    ops, shape = _stem(side, 16, "hswish")
    for expand, channels, stride, kernel, squeeze in blocks:
        block = mbconv_block(
            shape,
            divisible(channels * width),
            kernel=3 if plain else kernel,
            expand=expand,
            stride=stride,
            squeeze=squeeze and not plain,
        )
        ops, shape = [*ops, *block.ops], block.out_shape
    out: Shape = (divisible(wide * width), *shape[1:])
    last = int(features * max(1.0, width))
    ops += [conv(shape, out, 1), activation(out), pool(out, (out[0], 1, 1))]
    return [*ops, linear(out[0], last), activation((last, 1, 1)), linear(last, _CLASSES)]


def _residual() -> list[Op]:
    ops, shape = _stem(224, 64, "relu", kernel=7)
    ops.append(pool(shape, (64, 56, 56)))
    shape = (64, 56, 56)
    for inner, outer, repeats, first in _RESNET:
        for i in range(repeats):
            stride = first if i == 0 else 1
            narrow: Shape = (inner, *shape[1:])
            middle: Shape = (inner, *strided(shape[1], stride))
            out: Shape = (outer, *middle[1:])
            ops += [conv(shape, narrow, 1), activation(narrow), conv(narrow, middle, 3), activation(middle)]
            ops += [conv(middle, out, 1), *([conv((shape[0], *out[1:]), out, 1)] if i == 0 else [])]
            ops += [add(out), activation(out)]
            shape = out
    return ops + _classify(shape)


def _stem(side: int, width: int, act: str, *, kernel: int = 3) -> tuple[list[Op], Shape]:
    block = stem_block((3, side, side), side, width, kernel=kernel, stride=2, act=act)
    return list(block.ops), block.out_shape


def _classify(shape: Shape) -> list[Op]:
    return [pool(shape, (shape[0], 1, 1)), linear(shape[0], _CLASSES)]
