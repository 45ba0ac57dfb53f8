"""Describes MobileNetV3-like search spaces by their stages, and turns such a description into a `Space`.

A network is: stem (convolution, optional scaling of the image) → stages of MBConv layers → tail (optional convolution,
pooling, optional layer, classifier). Choices with one value are fixed; all others become genes, in the order
resolution, widths (stem, stages, tail), depths, kernels, expansions. Kernel and expansion are chosen per stage, or in a
stage with `per_layer` for each of its layers; those of layers that the depth leaves out are inert.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from hwbench import plugin
from hwbench.errors import ConfigError, nearest
from models.block import Block, head_block, mbconv_block, stem_block, strided, tail_block
from models.space import Gene, Slot, Space, complaint

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ACTIVATIONS = ("relu", "relu6", "hswish", "swish")
_STRICT = ConfigDict(extra="forbid")


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
    per_layer: each layer chooses its own kernel and expansion (genes `kernel.STAGE.LAYER`).
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    kernels: tuple[int, ...]
    expands: tuple[int, ...]
    stride: int = 1
    squeeze: bool = False
    shortcut: bool = False
    per_layer: bool = False
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
        described = _ADAPTER.validate_python(raw).space
        if plugin.exists("models.spaces", described.name.replace("-", "_")):
            raise ConfigError(f"[space]: name {described.name!r} is that of a ready-made space; choose another one")
        return described.space()
    except ValidationError as error:
        raise ConfigError(f"{path}: {_misspelt(error) or complaint(error)}") from error
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _misspelt(error: ValidationError) -> str | None:
    """The first unknown key with the nearest one that its section knows; None where all keys are known."""
    sections = {"": _File, "space": StageSpace, "stem": Stem, "stages": Stage, "tail": Tail, "exits": Exits}
    for found in error.errors():
        *place, key = (str(part) for part in found["loc"])
        section = next((part for part in reversed(place) if not part.isdigit()), "")
        if found["type"] in ("extra_forbidden", "unexpected_keyword_argument") and section in sections:
            known = [f.name for f in fields(sections[section])]
            where = f"[{'.'.join(place)}]: " if place else ""
            return f"{where}unknown key {key!r}{nearest(key, known)}"
    return None


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
        for label, stage in zip(labels, d.stages, strict=True):
            self._gene(f"depth.{label}", "depth", stage.depths)
        for group in ("kernel", "expand"):
            for label, stage in zip(labels, d.stages, strict=True):
                layers = range(1, max(stage.depths) + 1)
                for name in [f"{label}.{layer}" for layer in layers] if stage.per_layer else [label]:
                    self._gene(f"{group}.{name}", group, getattr(stage, f"{group}s"))

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
        stage = d.stages[int(label.partition(".")[0]) - 1]
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
        choice = f"{label}.{layer + 1}" if self.d.stages[s].per_layer else f"{label}"
        names = {
            "side": "resolution",
            "width": f"width.{label}",
            "kernel": f"kernel.{choice}",
            "expand": f"expand.{choice}",
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
            side = strided(side, stride)[0]
        return side

    def _stem(self, side: int, width: int) -> Block:
        native = self.d.native or side
        stem = self.d.stem
        shape = (self.d.channels, native, native)
        return stem_block(shape, side, width, kernel=stem.kernel, stride=stem.stride, act=stem.act)

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
            shape = (width, here, here)
            return head_block(shape, self.d.classes, width=exits.width, kernel=exits.kernel, act=exits.act)

        return self._slot({**names, **before}, make)


def _check(d: StageSpace) -> None:
    where = f"space {d.name!r}"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", d.name):
        raise ConfigError(f"{where}: files and commands hold its name: letters, digits and . _ - only")
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
