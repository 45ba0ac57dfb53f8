"""Describes MobileNetV3-like search spaces by their stages, and turns such a description into a `Space`.

A network is: stem (convolution, optional scaling of the image) → stages of MBConv layers → tail (optional convolution,
pooling, optional layer, classifier). Choices with one value are fixed; all others become genes, in the order
resolution, widths (stem, stages, tail), depths, kernels, expansions. Kernel and expansion are chosen per stage.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from hwbench.errors import ConfigError
from hwbench.workload import Op
from models.space import Block, Gene, Shape, Slot, Space

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ACTIVATIONS = ("relu", "relu6", "hswish", "swish")
_STRICT = ConfigDict(extra="forbid")
_REDUCTION = 4  # squeeze-and-excitation: a quarter of the expanded channels, MobileNetV3 §5.3
_DIVISOR = 8  # channels inside a layer are multiples of 8, as in MobileNetV2 and V3


@dataclass(frozen=True, slots=True, kw_only=True)
class Stem:
    """The first convolution: batch normalisation and activation follow."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    widths: tuple[int, ...]
    kernel: int = 3
    stride: int = 2
    act: str = "hswish"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """MBConv layers of one width; the first has the stride. An expansion of 1 means no expanding convolution.

    shortcut: where a layer changes the shape, its input still reaches the output, averaged down and through a 1×1
    convolution; without it such a layer has no residual.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    kernels: tuple[int, ...]
    expands: tuple[int, ...]
    stride: int = 1
    squeeze: bool = False
    shortcut: bool = False
    act: str = "hswish"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """What ends the network. expand: a 1×1 convolution to that many times the channels before pooling, 0 = none.

    widths: features of the layer between pooling and classifier, () = none.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    expand: int = 0
    widths: tuple[int, ...] = ()
    act: str = "hswish"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exits:
    """The fixed head of an exit (one convolution with batch normalisation and activation, pooling, classifier).

    width: its channels. first: an exit stands behind the first-th running MBConv layer at the earliest, 1-based;
    none stands behind the last one, where the network's own classifier is.
    Source: HADAS §IV-B (convolution, batch normalisation, activation, then the classifier layer; Table II: first = 5).
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    width: int
    kernel: int = 1
    act: str = "hswish"
    first: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpace:
    """A MobileNetV3-like space. resolutions: sides of the image the stem works on.

    native: side of the data set's images; the stem scales them, so that a deployed network takes images as they are and
    the scaling is measured. None: images arrive at the network's own resolution.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    name: str
    classes: int
    resolutions: tuple[int, ...]
    stem: Stem
    stages: tuple[Stage, ...]
    tail: Tail = field(default_factory=Tail)
    exits: Exits | None = None
    channels: int = 3
    native: int | None = None

    def __post_init__(self) -> None:
        _check(self)

    def space(self) -> Space:
        """The space it describes."""
        return _Builder(self).build()


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    schema: int
    space: StageSpace


_ADAPTER: TypeAdapter[_File] = TypeAdapter(_File)


def read(path: Path) -> Space:
    """Read a TOML description (`schema = 1`, `[space]`, `[space.stem]`, `[[space.stages]]`, …); raises ConfigError."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not valid TOML ({error})") from error
    if raw.get("schema") != 1:
        raise ConfigError(f"{path}: schema {raw.get('schema')!r} where 1 is read; is this a search space?")
    try:
        return _ADAPTER.validate_python(raw).space.space()
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{path}: {'.'.join(str(p) for p in first['loc'])}: {first['msg']}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def stem_block(shape: Shape, side: int, width: int, stem: Stem) -> Block:
    """The stem for images of `shape`, scaled to `side` where that differs."""
    channels, native, _ = shape
    resize = side if side != native else 0
    scaled = (channels, side, side)
    out = (width, *_strided(side, stem.stride))
    ops = [Op(kind="resize", macs=0, weight_count=0, read_count=_n(shape), write_count=_n(scaled))] if resize else []
    ops += [_conv(scaled, out, stem.kernel), _act(out)]
    scale = f"-r{resize}" if resize else ""
    return Block(
        key=f"stem-{_text(shape)}{scale}-{_text(out)}-k{stem.kernel}-s{stem.stride}-{stem.act}",
        kind="stem",
        in_shape=shape,
        out_shape=out,
        ops=tuple(ops),
        params=_convolution(channels, width, stem.kernel),
        kernel=stem.kernel,
        stride=stem.stride,
        resize=resize,
        act=stem.act,
    )


def mbconv_block(
    shape: Shape,
    width: int,
    *,
    kernel: int,
    expand: int,
    stride: int = 1,
    squeeze: bool = False,
    shortcut: bool = False,
    act: str = "hswish",
) -> Block:
    """Expanding 1×1, depthwise k×k, optional squeeze-and-excitation, projecting 1×1; plus the input where it fits."""
    channels, side, _ = shape
    hidden = divisible(channels * expand) if expand > 1 else channels
    inner, wide = (hidden, side, side), (hidden, *_strided(side, stride))
    out = (width, *wide[1:])
    bottleneck = divisible(hidden / _REDUCTION) if squeeze else 0
    ops: list[Op] = []
    params = 0
    if expand > 1:
        ops += [_conv(shape, inner, 1), _act(inner)]
        params += _convolution(channels, hidden, 1)
    depthwise = Op(
        kind="dwconv",
        macs=_n(wide) * kernel**2,
        weight_count=hidden * (kernel**2 + 1),
        read_count=_n(inner),
        write_count=_n(wide),
    )
    ops += [depthwise, _act(wide)]
    params += hidden * (kernel**2 + 2)
    if bottleneck:
        ops += [
            _pool(wide),
            *(_linear(hidden, bottleneck), _act((bottleneck, 1, 1)), _linear(bottleneck, hidden), _act((hidden, 1, 1))),
            Op(kind="multiply", macs=0, weight_count=0, read_count=_n(wide) + hidden, write_count=_n(wide)),
        ]
        params += 2 * hidden * bottleneck + hidden + bottleneck
    ops.append(_conv(wide, out, 1))
    params += _convolution(hidden, width, 1)
    fits = stride == 1 and shape == out
    shortcut = shortcut and not fits
    if shortcut:
        small = (channels, *out[1:])
        if stride > 1:
            ops.append(Op(kind="pool", macs=0, weight_count=0, read_count=_n(shape), write_count=_n(small)))
        weights = channels * width
        ops.append(replace(_conv(small, out, 1), weight_count=weights))
        params += weights
    if fits or shortcut:
        ops.append(Op(kind="add", macs=0, weight_count=0, read_count=2 * _n(out), write_count=_n(out)))
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


def tail_block(shape: Shape, classes: int, *, hidden: int, last: int, act: str) -> Block:
    """Optional 1×1 convolution to `hidden` channels, pooling, optional layer of `last` features, classifier."""
    ops, features, params = _pooled(shape, hidden, 1)
    if last:
        ops += [_linear(features, last), _act((last, 1, 1))]
        params += features * last + last
        features = last
    inside = (f"-h{hidden}" if hidden else "") + (f"-l{last}" if last else "")
    return Block(
        key=f"tail-{_text(shape)}{inside}-{classes}" + (f"-{act}" if inside else ""),
        kind="tail",
        in_shape=shape,
        out_shape=(classes, 1, 1),
        ops=(*ops, _linear(features, classes)),
        params=params + features * classes + classes,
        hidden=hidden,
        last=last,
        act=act,
    )


def head_block(shape: Shape, classes: int, exits: Exits) -> Block:
    """The head of an exit behind features of `shape`: convolution, normalisation, activation, pooling, classifier."""
    ops, features, params = _pooled(shape, exits.width, exits.kernel)
    return Block(
        key=f"head-{_text(shape)}-h{exits.width}-k{exits.kernel}-{classes}-{exits.act}",
        kind="head",
        in_shape=shape,
        out_shape=(classes, 1, 1),
        ops=(*ops, _linear(features, classes)),
        params=params + features * classes + classes,
        kernel=exits.kernel,
        hidden=exits.width,
        act=exits.act,
    )


def divisible(channels: float) -> int:
    """The nearest multiple of 8, but no more than 10 % below `channels`; MobileNetV2's rule."""
    near = max(_DIVISOR, int(channels + _DIVISOR / 2) // _DIVISOR * _DIVISOR)
    return near if near >= 0.9 * channels else near + _DIVISOR


class _Builder:
    def __init__(self, description: StageSpace) -> None:
        self.d = description
        self.genes: list[Gene] = []
        self.blocks: dict[str, Block] = {}
        self.index: dict[str, int] = {}

    def build(self) -> Space:
        d = self.d
        labels = [str(i + 1) for i in range(len(d.stages))]
        self._gene("resolution", "resolution", d.resolutions)
        self._gene("width.stem", "width", d.stem.widths)
        for label, stage in zip(labels, d.stages, strict=True):
            self._gene(f"width.{label}", "width", stage.widths)
        self._gene("width.tail", "width", d.tail.widths)
        for group in ("depth", "kernel", "expand"):
            for label, stage in zip(labels, d.stages, strict=True):
                self._gene(f"{group}.{label}", group, getattr(stage, f"{group}s"))

        slots = [self._slot({"side": "resolution", "width": "width.stem"}, self._stem)]
        positions: list[int] = []
        heads: list[Slot] = []
        for s, stage in enumerate(d.stages):
            for layer in range(max(stage.depths)):
                names = self._names(s, layer)
                if d.exits is not None:
                    positions.append(len(slots))
                    heads.append(self._head_slot(s, layer, names))
                slots.append(self._slot(names, self._layer(s, layer)))
        slots.append(
            self._slot({"side": "resolution", "channels": f"width.{labels[-1]}", "last": "width.tail"}, self._tail)
        )
        return Space(
            name=d.name,
            genes=tuple(self.genes),
            slots=tuple(slots),
            blocks=tuple(self.blocks.values()),
            positions=tuple(positions),
            heads=tuple(heads),
        )

    def _gene(self, name: str, group: str, values: Sequence[int]) -> None:
        if len(values) > 1:
            self.index[name] = len(self.genes)
            self.genes.append(Gene(name=name, values=tuple(values), group=group))

    def _fixed(self, name: str) -> int:
        group, _, label = name.partition(".")
        d = self.d
        if group == "resolution":
            return d.resolutions[0]
        if label in ("stem", "tail"):
            widths = d.stem.widths if label == "stem" else d.tail.widths
            return widths[0] if widths else 0
        stage = d.stages[int(label) - 1]
        return int(
            {"width": stage.widths, "depth": stage.depths, "kernel": stage.kernels, "expand": stage.expands}[group][0]
        )

    def _slot(self, names: dict[str, str], make: Callable[..., Block | None]) -> Slot:
        """names: argument of `make` -> the choice it takes; the choices that are genes span the slot's table."""
        free = {argument: self.index[name] for argument, name in names.items() if name in self.index}
        fixed = {argument: self._fixed(name) for argument, name in names.items() if name not in self.index}
        table = np.full([len(self.genes[g].values) for g in free.values()], -1, np.int32)
        order = {key: i for i, key in enumerate(self.blocks)}
        for at in np.ndindex(table.shape):
            chosen = {a: self.genes[g].values[v] for (a, g), v in zip(free.items(), at, strict=True)}
            block = make(**fixed, **chosen)
            if block is not None:
                self.blocks.setdefault(block.key, block)
                table[at] = order.setdefault(block.key, len(order))
        return Slot(genes=tuple(free.values()), block=table)

    def _names(self, s: int, layer: int) -> dict[str, str]:
        label = s + 1
        names = {
            "side": "resolution",
            "width": f"width.{label}",
            "kernel": f"kernel.{label}",
            "expand": f"expand.{label}",
        }
        if layer == 0:
            names["channels"] = f"width.{s}" if s else "width.stem"
        if layer >= min(self.d.stages[s].depths):
            names["depth"] = f"depth.{label}"
        return names

    def _side(self, side: int, s: int, layer: int) -> int:
        """The side of the features that enter a layer, for an image of `side`."""
        strides = [self.d.stem.stride, *(stage.stride for stage in self.d.stages[: s + (layer > 0)])]
        for stride in strides:
            side = _strided(side, stride)[0]
        return side

    def _stem(self, side: int, width: int) -> Block:
        native = self.d.native or side
        return stem_block((self.d.channels, native, native), side, width, self.d.stem)

    def _layer(self, s: int, layer: int) -> Callable[..., Block | None]:
        stage = self.d.stages[s]

        def make(
            *, side: int, width: int, kernel: int, expand: int, channels: int = 0, depth: int | None = None
        ) -> Block | None:
            if depth is not None and layer >= depth:
                return None
            here = self._side(side, s, layer)
            return mbconv_block(
                (channels or width, here, here),
                width,
                kernel=kernel,
                expand=expand,
                stride=stage.stride if layer == 0 else 1,
                squeeze=stage.squeeze,
                shortcut=stage.shortcut,
                act=stage.act,
            )

        return make

    def _tail(self, *, side: int, channels: int, last: int) -> Block:
        tail, here = self.d.tail, self._side(side, len(self.d.stages), 0)
        shape = (channels, here, here)
        return tail_block(shape, self.d.classes, hidden=channels * tail.expand, last=last, act=tail.act)

    def _head_slot(self, s: int, layer: int, layer_names: dict[str, str]) -> Slot:
        exits, stages = self.d.exits, self.d.stages
        assert exits is not None
        is_last_stage = s == len(stages) - 1
        names = {"side": "resolution", "width": f"width.{s + 1}"}
        if "depth" in layer_names or is_last_stage:
            names["depth"] = f"depth.{s + 1}"
        # Depths of earlier stages decide only where their smallest values leave this layer too early for an exit.
        early = sum(min(stage.depths) for stage in stages[:s]) + layer + 1 < exits.first
        before = {f"before{i}": f"depth.{i + 1}" for i in range(s)} if early else {}

        def make(*, side: int, width: int, depth: int | None = None, **earlier: int) -> Block | None:
            if depth is not None and (layer >= depth or (is_last_stage and layer == depth - 1)):
                return None
            if earlier and sum(earlier.values()) + layer + 1 < exits.first:
                return None
            if not earlier and early:
                return None
            here = self._side(side, s, layer + 1)
            return head_block((width, here, here), self.d.classes, exits)

        return self._slot({**names, **before}, make)


def _check(d: StageSpace) -> None:
    where = f"space {d.name!r}"
    parts: list[tuple[str, Sequence[int]]] = [("resolutions", d.resolutions), ("stem.widths", d.stem.widths)]
    for i, stage in enumerate(d.stages):
        parts += [(f"stages.{i}.{k}", getattr(stage, k)) for k in ("widths", "depths", "kernels", "expands")]
        parts.append((f"stages.{i}.stride", (stage.stride,)))
    parts += [("stem.kernel", (d.stem.kernel,)), ("stem.stride", (d.stem.stride,)), ("channels", (d.channels,))]
    parts.append(("classes", (d.classes,)))
    parts.append(("native", (d.native or 1,)))
    if d.exits is not None:
        parts += [
            ("exits.width", (d.exits.width,)),
            ("exits.kernel", (d.exits.kernel,)),
            ("exits.first", (d.exits.first,)),
        ]
    for what, values in [*parts, ("tail.widths", d.tail.widths or (1,))]:
        if not values or min(values) < 1 or list(values) != sorted(set(values)):
            raise ConfigError(f"{where}: {what} is {values}; it takes numbers from 1 up, smallest first, none twice")
        if "kernel" in what and any(v % 2 == 0 for v in values):
            raise ConfigError(f"{where}: {what} is {values}; kernels are odd")
    if not d.stages:
        raise ConfigError(f"{where}: it has no stages")
    acts = [d.stem.act, d.tail.act, *(stage.act for stage in d.stages), *([d.exits.act] if d.exits else [])]
    for act in acts:
        if act not in ACTIVATIONS:
            raise ConfigError(f"{where}: unknown activation {act!r} (known: {', '.join(ACTIVATIONS)})")


def _strided(side: int, stride: int) -> tuple[int, int]:
    return (-(-side // stride),) * 2


def _n(shape: Sequence[int]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count


def _text(shape: Shape) -> str:
    return "x".join(str(length) for length in shape)


def _convolution(channels: int, width: int, kernel: int) -> int:
    """Trainable elements of a convolution without bias and the batch normalisation behind it."""
    return channels * width * kernel**2 + 2 * width


def _conv(shape: Shape, out: Shape, kernel: int) -> Op:
    weights = shape[0] * out[0] * kernel**2
    macs = weights * out[1] * out[2]
    return Op(kind="conv", macs=macs, weight_count=weights + out[0], read_count=_n(shape), write_count=_n(out))


def _act(shape: Shape) -> Op:
    return Op(kind="activation", macs=0, weight_count=0, read_count=_n(shape), write_count=_n(shape))


def _pool(shape: Shape) -> Op:
    return Op(kind="pool", macs=0, weight_count=0, read_count=_n(shape), write_count=shape[0])


def _linear(channels: int, width: int) -> Op:
    return Op(
        kind="linear",
        macs=channels * width,
        weight_count=channels * width + width,
        read_count=channels,
        write_count=width,
    )


def _pooled(shape: Shape, hidden: int, kernel: int) -> tuple[list[Op], int, int]:
    """Optional convolution and pooling: operations, features, trainable elements."""
    if not hidden:
        return [_pool(shape)], shape[0], 0
    wide = (hidden, *shape[1:])
    ops = [_conv(shape, wide, kernel), _act(wide), _pool(wide)]
    return ops, hidden, _convolution(shape[0], hidden, kernel)
