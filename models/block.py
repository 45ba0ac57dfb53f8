"""The blocks of MobileNetV3-like networks and FBNet: what runs, its key, and what it reads, weighs and writes.

Counted by hand, without torch, so that a roofline, MACs and the missing rows of a table need none; tests hold the
counts against the modules that `models.families` build.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from pydantic import ConfigDict

from hwbench.workload import Op
from models.operations import Shape as Shape
from models.operations import activation, add, conv, depthwise, linear, pool, shuffle, squeeze_excite
from models.operations import resize as enlarge

_REDUCTION = 4  # squeeze-and-excitation: a quarter of the expanded channels, MobileNetV3 §5.3
_DIVISOR = 8  # channels inside a layer are multiples of 8, as in MobileNetV2 and V3
_RESIDUAL = ("mbconv", "inverted", "inverted_g2")
GATE_HIDDEN = 16  # features inside an exit's learned gate
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One group of operations that is measured alone.

    key: what runs (kind, shapes, kernel, stride, activation), human-readable; never weights.
    kind: `stem`, `mbconv`, `inverted`, `inverted_g2` (1×1 convolutions in two groups), `reduce`, `tail` or `head` (an
    exit); in_shape, out_shape: (C, H, W) of one sample.
    ops: counts at batch 1, batch normalisation folded; params: trainable elements of the module, not folded.
    The rest is what a family builds it from: hidden = channels inside (after expansion, before pooling),
    squeeze = channels of the squeeze-and-excitation bottleneck, last = features between pooling and classifier,
    resize = side to which the stem scales its image; 0 = there is none. shortcut: the input reaches the output,
    averaged down and through a 1×1 convolution (where shapes agree it is simply added, see `residual`).
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    key: str
    kind: str
    in_shape: Shape
    out_shape: Shape
    ops: tuple[Op, ...]
    params: int
    kernel: int = 1
    stride: int = 1
    expand: int | float = 0
    hidden: int = 0
    squeeze: int = 0
    last: int = 0
    resize: int = 0
    shortcut: bool = False
    act: str = "relu"

    @property
    def macs(self) -> int:
        """Multiply-accumulates at batch 1."""
        return sum(op.macs for op in self.ops)

    @property
    def residual(self) -> bool:
        """Whether the input is added to the output as it is."""
        return self.kind in _RESIDUAL and self.stride == 1 and self.in_shape == self.out_shape

    @property
    def peak_activation_count(self) -> int:
        """Elements alive at once while the block runs: an operation's input and output, the input kept for `add`."""
        kept = self.in_shape[0] * self.in_shape[1] * self.in_shape[2] if self.residual or self.shortcut else 0
        last = len(self.ops) - 1
        return max(
            (op.read_count + op.write_count + (kept if 0 < i < last else 0) for i, op in enumerate(self.ops)), default=0
        )


def stem_block(shape: Shape, side: int, width: int, *, kernel: int, stride: int, act: str) -> Block:
    """The stem for images of `shape`, scaled to `side` where that differs."""
    channels, native, _ = shape
    resize = side if side != native else 0
    scaled = (channels, side, side)
    out = (width, *strided(side, stride))
    ops = [enlarge(shape, scaled)] if resize else []
    ops += [conv(scaled, out, kernel), activation(out)]
    scale = f"-r{resize}" if resize else ""
    return Block(
        key=f"stem-{_text(shape)}{scale}-{_text(out)}-k{kernel}-s{stride}-{act}",
        kind="stem",
        in_shape=shape,
        out_shape=out,
        ops=tuple(ops),
        params=_convolution(channels, width, kernel),
        kernel=kernel,
        stride=stride,
        resize=resize,
        act=act,
    )


def mbconv_block(
    shape: Shape,
    width: int,
    *,
    kernel: int,
    expand: int | float,
    stride: int = 1,
    squeeze: bool = False,
    shortcut: bool = False,
    act: str = "hswish",
) -> Block:
    """Expanding 1×1, depthwise k×k, optional squeeze-and-excitation, projecting 1×1; plus the input where it fits."""
    channels, side, _ = shape
    hidden = divisible(channels * expand) if expand > 1 else channels
    inner, wide = (hidden, side, side), (hidden, *strided(side, stride))
    out = (width, *wide[1:])
    bottleneck = divisible(hidden / _REDUCTION) if squeeze else 0
    ops: list[Op] = []
    params = 0
    if expand > 1:
        ops += [conv(shape, inner, 1), activation(inner)]
        params += _convolution(channels, hidden, 1)
    ops += [depthwise(inner, wide, kernel), activation(wide)]
    params += hidden * (kernel**2 + 2)
    if bottleneck:
        ops += squeeze_excite(wide, bottleneck)
        params += 2 * hidden * bottleneck + hidden + bottleneck
    ops.append(conv(wide, out, 1))
    params += _convolution(hidden, width, 1)
    fits = stride == 1 and shape == out
    shortcut = shortcut and not fits
    if shortcut:
        small = (channels, *out[1:])
        if stride > 1:
            ops.append(pool(shape, small))
        weights = channels * width
        ops.append(replace(conv(small, out, 1), weight_count=weights))
        params += weights
    if fits or shortcut:
        ops.append(add(out))
    extra = (f"-se{bottleneck}" if bottleneck else "") + ("-sc" if shortcut else "")
    return Block(
        key=f"mbconv-{_text(shape)}-{_text(out)}-k{kernel}-e{expand}-s{stride}{extra}-{act}",
        kind="mbconv",
        in_shape=shape,
        out_shape=out,
        ops=tuple(ops),
        params=params,
        kernel=kernel,
        stride=stride,
        expand=expand,
        hidden=hidden,
        squeeze=bottleneck,
        shortcut=shortcut,
        act=act,
    )


def inverted_block(
    shape: Shape, width: int, *, kernel: int, expand: int, stride: int, groups: int, act: str = "relu"
) -> Block:
    """FBNet's candidate: 1×1 (also where nothing expands), depthwise k×k, 1×1; plus the input where it fits.

    groups: of both 1×1 convolutions, 1 or 2; the channels of two are shuffled behind the first.
    """
    channels, side, _ = shape
    hidden = channels * expand
    inner, wide = (hidden, side, side), (hidden, *strided(side, stride))
    out = (width, *wide[1:])
    ops = [conv(shape, inner, 1, groups), activation(inner)]
    if groups > 1:
        ops.append(shuffle(inner))
    ops += [depthwise(inner, wide, kernel), activation(wide), conv(wide, out, 1, groups)]
    if stride == 1 and shape == out:
        ops.append(add(out))
    return Block(
        key=f"inverted-{_text(shape)}-{_text(out)}-k{kernel}-e{expand}-g{groups}-s{stride}-{act}",
        kind="inverted" if groups == 1 else f"inverted_g{groups}",
        in_shape=shape,
        out_shape=out,
        ops=tuple(ops),
        params=hidden * (channels + width) // groups + 2 * hidden + 2 * width + hidden * (kernel**2 + 2),
        kernel=kernel,
        stride=stride,
        expand=expand,
        hidden=hidden,
        act=act,
    )


def reduce_block(shape: Shape, width: int, *, stride: int, act: str = "relu") -> Block:
    """One 1×1 convolution: what is left of a layer that is skipped, but changes the shape."""
    out = (width, *strided(shape[1], stride))
    return Block(
        key=f"reduce-{_text(shape)}-{_text(out)}-s{stride}-{act}",
        kind="reduce",
        in_shape=shape,
        out_shape=out,
        ops=(conv(shape, out, 1), activation(out)),
        params=_convolution(shape[0], width, 1),
        stride=stride,
        act=act,
    )


def tail_block(shape: Shape, classes: int, *, hidden: int, last: int, act: str) -> Block:
    """Optional 1×1 convolution to `hidden` channels, pooling, optional layer of `last` features, classifier."""
    ops, features, params = _pooled(shape, hidden, 1)
    if last:
        ops += [linear(features, last), activation((last, 1, 1))]
        params += features * last + last
        features = last
    inside = (f"-h{hidden}" if hidden else "") + (f"-l{last}" if last else "")
    return Block(
        key=f"tail-{_text(shape)}{inside}-{classes}" + (f"-{act}" if inside else ""),
        kind="tail",
        in_shape=shape,
        out_shape=(classes, 1, 1),
        ops=(*ops, linear(features, classes)),
        params=params + features * classes + classes,
        hidden=hidden,
        last=last,
        act=act,
    )


def head_block(shape: Shape, classes: int, *, width: int, kernel: int, act: str) -> Block:
    """The head of an exit behind features of `shape`: convolution, normalisation, activation, pooling, classifier."""
    ops, features, params = _pooled(shape, width, kernel)
    return Block(
        key=f"head-{_text(shape)}-h{width}-k{kernel}-{classes}-{act}",
        kind="head",
        in_shape=shape,
        out_shape=(classes, 1, 1),
        ops=(*ops, linear(features, classes)),
        params=params + features * classes + classes,
        kernel=kernel,
        hidden=width,
        act=act,
    )


def gate_ops(classes: int) -> tuple[Op, ...]:
    """What an exit's learned gate (`models.gate`) does beside the softmax."""
    hidden = linear(2 * classes + 1, GATE_HIDDEN), activation((GATE_HIDDEN, 1, 1))
    return (*hidden, linear(GATE_HIDDEN, 1), activation((1, 1, 1)))


def divisible(channels: float) -> int:
    """The nearest multiple of 8, but no more than 10 % below `channels`; MobileNetV2's rule."""
    near = max(_DIVISOR, int(channels + _DIVISOR / 2) // _DIVISOR * _DIVISOR)
    return near if near >= 0.9 * channels else near + _DIVISOR


def strided(side: int, stride: int) -> tuple[int, int]:
    """The sides after a padded convolution of that stride: rounded up."""
    return (-(-side // stride),) * 2


def _text(shape: Shape) -> str:
    return "x".join(str(length) for length in shape)


def _convolution(channels: int, width: int, kernel: int) -> int:
    """Trainable elements of a convolution without bias and the batch normalisation behind it."""
    return channels * width * kernel**2 + 2 * width


def _pooled(shape: Shape, hidden: int, kernel: int) -> tuple[list[Op], int, int]:
    """Optional convolution and pooling: operations, features, trainable elements."""
    if not hidden:
        return [pool(shape, (shape[0], 1, 1))], shape[0], 0
    wide = (hidden, *shape[1:])
    ops = [conv(shape, wide, kernel), activation(wide), pool(wide, (wide[0], 1, 1))]
    return ops, hidden, _convolution(shape[0], hidden, kernel)
