"""A search space as plain numpy: genes → slots → blocks.

From it come cardinality, the missing rows of a table, the vectorised cost and the exact differentiable cost; none of
that needs torch. Spaces live in `models/spaces/`, or in a file of the user's (`Space.read`, `load_space`).
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, TypeAdapter, ValidationError

from hwbench import plugin
from hwbench.errors import ConfigError
from models.block import Block as Block
from models.block import Shape as Shape
from models.cardinality import Elimination, Table, activity, draw, eliminate

SCHEMA = 1
_STRICT = ConfigDict(extra="forbid")
_CHUNK = 16_384  # candidates per pass: indices and tables of one pass stay in the second-level cache
Genes = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gene:
    """One choice. values: what may be chosen, smallest first; a candidate holds the index of its value.

    group: `resolution`, `width`, `depth`, `kernel`, `expand`, …; a curriculum or an ablation varies one group.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    name: str
    values: tuple[int | float | str, ...]
    group: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slot:
    """One place of the network: which block runs there for every joint value of the genes it depends on.

    genes: indices into Space.genes. block[v1, v2, …]: index into Space.blocks, −1 = nothing runs. count: repetitions.
    """

    genes: tuple[int, ...]
    block: npt.NDArray[np.int32]
    count: int = 1

    def __post_init__(self) -> None:
        table = np.array(self.block, np.int32)
        table.setflags(write=False)
        object.__setattr__(self, "block", table)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Slot)
            and (self.genes, self.count) == (other.genes, other.count)
            and np.array_equal(self.block, other.block)
        )

    def __hash__(self) -> int:
        return hash((self.genes, self.count, self.block.tobytes()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet:
    """One point of a space; make it with `Space.subnet`, which brings the genes into canonical form.

    Its text `digits:0.2.1` is what files and command lines hold; its key is a digest of that text.
    """

    space: str
    genes: tuple[int, ...]

    @property
    def key(self) -> str:
        """32 hexadecimal digits: blake2b of the space's name and the genes."""
        return hashlib.blake2b(str(self).encode(), digest_size=16).hexdigest()

    def __str__(self) -> str:
        return f"{self.space}:{'.'.join(str(g) for g in self.genes)}"

    @classmethod
    def parse(cls, text: str) -> Subnet:
        """The inverse of `str`; raises ConfigError. Whether the genes fit is for `Space.subnet` to say."""
        space, colon, genes = text.rpartition(":")
        try:
            return cls(space=space if colon else "", genes=tuple(int(g) for g in genes.split(".")) if genes else ())
        except ValueError as error:
            raise ConfigError(f"subnet {text!r}: expected SPACE:GENE.GENE.…, for instance digits:0.2.1") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A named search space. positions: an exit may stand after slot i; heads: the block of that exit, one slot each.

    A head is −1 where its exit does not exist: the slot it stands behind does not run, or is the last one that does.
    family: the module of `models.families` whose supernet realises it. Candidates are arrays (n, G) of indices into
    Gene.values. Raises ConfigError when the parts do not fit together.
    """

    name: str
    genes: tuple[Gene, ...]
    slots: tuple[Slot, ...]
    blocks: tuple[Block, ...]
    positions: tuple[int, ...] = ()
    heads: tuple[Slot, ...] = ()
    family: str = "mobilenetv3"
    _inert: Mapping[int, Table] = field(init=False, repr=False, compare=False)
    _elimination: Elimination = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check(self)
        tables: list[Table] = [(s.genes, s.block) for s in (*self.slots, *self.heads)]
        found = {g: activity(g, len(gene.values), tables) for g, gene in enumerate(self.genes)}
        inert = {g: table for g, table in found.items() if table is not None}
        object.__setattr__(self, "_inert", inert)
        object.__setattr__(self, "_elimination", eliminate(self.sizes, inert))

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many values each gene has."""
        return tuple(len(g.values) for g in self.genes)

    def size(self) -> int:
        """How many canonical points there are, exactly."""
        return self._elimination.count

    def sample(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.int16]:
        """(n, G), uniform over the canonical points."""
        return draw(n, self._elimination, rng)

    def smallest(self) -> npt.NDArray[np.int16]:
        """(G,) the first value of every gene, canonical."""
        return self._point(np.zeros(len(self.genes), np.int16))

    def largest(self) -> npt.NDArray[np.int16]:
        """(G,) the last value of every gene, canonical."""
        return self._point(np.array(self.sizes, np.int16) - 1)

    def _point(self, genes: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        point: npt.NDArray[np.int16] = self.canonical(genes)[0]
        return point

    def canonical(self, genes: npt.ArrayLike) -> npt.NDArray[np.int16]:
        """(n, G) with every inert gene at 0, so that points that differ in those alone are equal rows.

        Do it before any hash.

        Raises ConfigError on a wrong number of genes or a value outside its gene.
        """
        given = np.atleast_2d(np.asarray(genes))
        if given.ndim != 2 or given.shape[1] != len(self.genes) or not np.issubdtype(given.dtype, np.integer):
            raise ConfigError(
                f"space {self.name!r} has {len(self.genes)} genes, each an index; got an array of shape "
                f"{np.shape(genes)} and type {given.dtype}"
            )
        wrong = np.argwhere((given < 0) | (given >= np.array(self.sizes)))
        if len(wrong):
            row, gene = wrong[0]
            raise ConfigError(
                f"space {self.name!r}: gene {self.genes[gene].name!r} is {given[row, gene]}, "
                f"allowed are 0 to {self.sizes[gene] - 1} (indices of {self.genes[gene].values})"
            )
        points = given.astype(np.int16)
        # Zeroing one gene can make another one inert, so repeat until nothing changes (each round zeroes at least one).
        while True:
            before = points.copy()
            for gene, (scope, active) in self._inert.items():
                points[:, gene] *= active[tuple(points[:, g] for g in scope)]
            if np.array_equal(before, points):
                return points

    def subnet(self, genes: npt.ArrayLike) -> Subnet:
        """The canonical point of these genes."""
        return Subnet(space=self.name, genes=tuple(int(g) for g in self.canonical(genes)[0]))

    def choice(self, genes: Sequence[int]) -> dict[str, int | float | str]:
        """What one candidate's genes mean: value by gene name."""
        return {g.name: g.values[int(v)] for g, v in zip(self.genes, genes, strict=True)}

    def block_ids(self, genes: Genes) -> npt.NDArray[np.int32]:
        """(n, n_slots) index into `blocks`, −1 = nothing runs."""
        return self._gather(genes, self.slots, [s.block for s in self.slots], np.int32)

    def head_ids(self, genes: Genes) -> npt.NDArray[np.int32]:
        """(n, n_positions) index into `blocks`, −1 = this exit does not exist."""
        return self._gather(genes, self.heads, [s.block for s in self.heads], np.int32)

    def total(self, genes: Genes, per_block: npt.ArrayLike) -> npt.NDArray[Any]:
        """(n,) Σ over slots of count × per_block[block]; exits are not in it."""
        # One value more, so that index −1 (nothing runs) reads 0.
        values = np.append(np.asarray(per_block), 0)
        tables = [values[s.block] * s.count for s in self.slots]
        return np.asarray(self._gather(genes, self.slots, tables, values.dtype).sum(1))

    def params(self, genes: Genes) -> npt.NDArray[np.int64]:
        """(n,) trainable elements, without exits."""
        return self.total(genes, np.array([b.params for b in self.blocks], np.int64))

    def macs(self, genes: Genes) -> npt.NDArray[np.int64]:
        """(n,) multiply-accumulates at batch 1, without exits."""
        return self.total(genes, np.array([b.macs for b in self.blocks], np.int64))

    def peak_activation_count(self, genes: Genes) -> npt.NDArray[np.int64]:
        """(n,) the largest number of elements that a block holds at once, without exits."""
        values = np.array([*(b.peak_activation_count for b in self.blocks), 0], np.int64)
        peaks = self._gather(genes, self.slots, [values[s.block] for s in self.slots], values.dtype)
        return np.asarray(peaks.max(1))

    def _gather(
        self, genes: Genes, slots: Sequence[Slot], tables: Sequence[npt.NDArray[Any]], dtype: npt.DTypeLike
    ) -> npt.NDArray[Any]:
        columns = np.atleast_2d(genes).T
        n = columns.shape[1]
        out = np.empty((len(slots), n), dtype)
        sizes = self.sizes
        for start in range(0, n, _CHUNK):
            part = np.ascontiguousarray(columns[:, start : start + _CHUNK], dtype=np.intp)
            # Layers of one stage depend on the same genes: their joint index is computed once.
            index: dict[tuple[int, ...], npt.NDArray[np.intp]] = {}
            for row, slot, table in zip(out, slots, tables, strict=True):
                if slot.genes not in index:
                    joint = np.zeros(part.shape[1], np.intp)
                    for gene in slot.genes:
                        joint *= sizes[gene]
                        joint += part[gene]
                    index[slot.genes] = joint
                np.take(table.ravel(), index[slot.genes], out=row[start : start + _CHUNK], mode="clip")
        return out.T

    def digest(self) -> str:
        """Sha256 of all that `write` writes: two spaces of one digest are the same."""
        return hashlib.sha256(_ADAPTER.dump_json(_File.of(self))).hexdigest()

    @staticmethod
    def read(path: Path) -> Space:
        """Read what `write` wrote; raises ConfigError naming the file and the key that is wrong."""
        try:
            raw = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise ConfigError(f"{path}: not valid JSON ({error}); write the space again") from error
        if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
            found = raw.get("schema") if isinstance(raw, dict) else None
            raise ConfigError(f"{path}: schema {found!r} where {SCHEMA} is read; is this a search space?")
        try:
            file = _ADAPTER.validate_python(raw)
        except ValidationError as error:
            raise ConfigError(f"{path}: {complaint(error)}") from error
        try:
            return file.space()
        except (ValueError, IndexError) as error:
            raise ConfigError(f"{path}: a slot's table does not fit its genes ({error})") from error
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    def write(self, path: Path) -> None:
        """Write the space as JSON, replacing the file in one step; `read` gives an equal one back."""
        path = Path(path)
        temporary = path.with_name(path.name + ".part")
        temporary.write_bytes(_ADAPTER.dump_json(_File.of(self)))
        temporary.replace(path)


def load_space(name: str | Path) -> Space:
    """A space by its name in `models.spaces`, or from a file.

    A `.json` file holds a whole space as `Space.write` leaves it; a `.toml` file describes the stages of a
    MobileNetV3-like network. Raises ConfigError naming the nearest known space.
    """
    text = str(name)
    if text.endswith(".json"):
        return Space.read(Path(text))
    if text.endswith(".toml"):
        # Imported here: stages builds on this module.
        space = importlib.import_module("models.stages").read(Path(text))
    else:
        # A module's name has no hyphen; the name a space is known by may have one.
        module = text if plugin.exists("models.spaces", text) else text.replace("-", "_")
        space = plugin.load("models.spaces", module).space()
    if not isinstance(space, Space):
        raise ConfigError(f"space {text!r}: space() returned {type(space).__name__}, expected models.space.Space")
    return space


def complaint(error: ValidationError) -> str:
    """What is wrong with a file, by its key; a misspelt key is named before the one that is then missing."""
    errors = sorted(error.errors(), key=lambda e: e["type"] not in ("extra_forbidden", "unexpected_keyword_argument"))
    first = errors[0]
    return f"{'.'.join(str(p) for p in first['loc'])}: {first['msg'].replace('a valid tuple', 'a list')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _SlotFile:
    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    genes: tuple[int, ...]
    block: tuple[int, ...]
    count: int = 1

    @classmethod
    def of(cls, slot: Slot) -> _SlotFile:
        return cls(genes=slot.genes, block=tuple(slot.block.ravel().tolist()), count=slot.count)

    def slot(self, genes: Sequence[Gene]) -> Slot:
        shape = [len(genes[g].values) for g in self.genes]
        return Slot(genes=self.genes, block=np.array(self.block, np.int32).reshape(shape), count=self.count)


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    schema: int
    name: str
    genes: tuple[Gene, ...]
    slots: tuple[_SlotFile, ...]
    blocks: tuple[Block, ...]
    positions: tuple[int, ...] = ()
    heads: tuple[_SlotFile, ...] = ()
    family: str = "mobilenetv3"

    @classmethod
    def of(cls, space: Space) -> _File:
        return cls(
            schema=SCHEMA,
            name=space.name,
            genes=space.genes,
            slots=tuple(_SlotFile.of(s) for s in space.slots),
            blocks=space.blocks,
            positions=space.positions,
            heads=tuple(_SlotFile.of(s) for s in space.heads),
            family=space.family,
        )

    def space(self) -> Space:
        return Space(
            name=self.name,
            genes=self.genes,
            slots=tuple(s.slot(self.genes) for s in self.slots),
            blocks=self.blocks,
            positions=self.positions,
            heads=tuple(s.slot(self.genes) for s in self.heads),
            family=self.family,
        )


_ADAPTER: TypeAdapter[_File] = TypeAdapter(_File)


def _check(space: Space) -> None:
    where = f"space {space.name!r}"
    for what, names in (("gene", [g.name for g in space.genes]), ("block", [b.key for b in space.blocks])):
        twice = {n for n in names if names.count(n) > 1} if len(set(names)) < len(names) else set()
        if twice:
            raise ConfigError(f"{where}: {what} {min(twice)!r} is there twice")
    for gene in space.genes:
        if not gene.values:
            raise ConfigError(f"{where}: gene {gene.name!r} has no values")
    for block in space.blocks:
        if not block.key or any(c in block.key for c in ", \n\t"):
            raise ConfigError(f"{where}: block key {block.key!r} holds a comma, a space or nothing")
    if not space.slots:
        raise ConfigError(f"{where} has no slots")
    if len(space.positions) != len(space.heads) or any(not 0 <= p < len(space.slots) for p in space.positions):
        raise ConfigError(
            f"{where}: {len(space.positions)} exit positions for {len(space.heads)} heads, after existing slots"
        )
    for i, slot in enumerate((*space.slots, *space.heads)):
        if any(not 0 <= g < len(space.genes) for g in slot.genes) or len(set(slot.genes)) < len(slot.genes):
            raise ConfigError(f"{where}: slot {i} depends on genes {slot.genes}, there are {len(space.genes)}")
        shape = tuple(len(space.genes[g].values) for g in slot.genes)
        if slot.block.shape != shape:
            raise ConfigError(f"{where}: slot {i} has a table of {slot.block.shape}, its genes need {shape}")
        if slot.block.min() < -1 or slot.block.max() >= len(space.blocks) or slot.count < 1:
            raise ConfigError(f"{where}: slot {i} names a block that does not exist")
