"""What runs: workloads, plans that chain them, and the bundle folder that carries both.

One schema serves measuring and deploying; this module is the only reader and writer of `bundle.json`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from pydantic import ConfigDict, TypeAdapter, ValidationError

from hwbench.errors import ConfigError

# What is written is the oldest schema that says it, so that older versions read what they can run.
SCHEMA = 1
_PATIENCE_SCHEMA = 2  # plans with `Patience`
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One input or output: name, numpy dtype name, shape with the batch dimension in front."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One operation, for the roofline, MAC counts and plausibility checks.

    kind: `conv`, `dwconv`, `linear`, `pool`, `activation`, `add`, `multiply`, …; counts are elements at batch 1.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    kind: str
    macs: int
    weight_count: int
    read_count: int
    write_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One file of a workload; `path` is relative to the bundle's folder."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One runnable graph; without artifacts it is only described (enough to simulate).

    block_key: what runs: kind, shapes, stride, kernel, activation; opaque to hwbench, never holds a comma or a newline.
    parts: (block_key, count) of the blocks that a segment or network executes, for fitting compositions.
    artifacts: by format: `onnx`, `onnx_int8`, `onnx_qdq`, `pt2` (torch), `tflite` (float), `tflite_int8`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    block_key: str
    kind: Literal["block", "segment", "network"]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    ops: tuple[Op, ...] = ()
    params: int | None = None
    parts: tuple[tuple[str, int], ...] = ()
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)

    @property
    def macs(self) -> int:
        """Multiply-accumulates at batch 1."""
        return sum(op.macs for op in self.ops)

    @property
    def digest(self) -> str:
        """sha256 of its description, files apart: what is simulated."""
        said = (self.ops, self.params, self.inputs, self.outputs)
        return hashlib.sha256(repr(said).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """When an input stops here: its score (the graph's output named `output`) is at least `at`."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    output: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """When an input stops here: `agree` nodes with patience in a row, this one the last of them, answer alike."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    agree: int

    def __post_init__(self) -> None:
        if self.agree < 1:
            raise ConfigError(f"patience of {self.agree} nodes that agree: one is the least")

    @property
    def at(self) -> float:
        """What the length of the run must reach."""
        return float(self.agree)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One step of a plan.

    after: the node whose first output (features) feeds this one; None = the input sample.
    leave: by score or by patience; None = goes on always (or is the last).
    answers: this node's second output holds logits.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    node: str
    block_key: str
    after: str | None = None
    leave: Leave | Patience | None = None
    answers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A tree of nodes in depth-first order; a chain with `leave` is a cascade of early exits or big/little."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    name: str
    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for node in self.nodes:
            if node.node in seen or (node.after is not None and node.after not in seen):
                raise ConfigError(f"plan {self.name!r}: node {node.node!r} is repeated or comes before {node.after!r}")
            seen.add(node.node)
        if not self.nodes:
            raise ConfigError(f"plan {self.name!r} has no nodes")

    @property
    def schema(self) -> int:
        """The oldest schema of bundles that says this plan."""
        patient = any(isinstance(node.leave, Patience) for node in self.nodes)
        return _PATIENCE_SCHEMA if patient else SCHEMA


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How an image becomes an input: (x / 255 − mean) / std per channel; shape is (C, H, W)."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """The file as it is written; unknown keys are refused at every depth."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    schema: int
    space: str | None
    workloads: tuple[Workload, ...]
    plans: tuple[Plan, ...] = ()
    data: Preprocessing | None = None
    commit: str | None = None


_ADAPTER: TypeAdapter[_File] = TypeAdapter(_File)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A folder of workloads, and for deployment the plans that chain them.

    root: the folder; artifacts lie under it.  space: the search space or source they come from.
    """

    root: Path
    space: str | None
    workloads: tuple[Workload, ...]
    plans: tuple[Plan, ...] = ()
    data: Preprocessing | None = None
    commit: str | None = None
    _by_key: Mapping[str, Workload] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        keys = [w.block_key for w in self.workloads]
        object.__setattr__(self, "_by_key", dict(zip(keys, self.workloads, strict=True)))
        if len(set(keys)) != len(keys):
            twice = sorted({k for k in keys if keys.count(k) > 1})
            raise ConfigError(f"{self.root}: the bundle holds {twice[0]!r} twice")
        missing = {n.block_key for p in self.plans for n in p.nodes} - set(keys)
        if missing:
            raise ConfigError(f"{self.root}: a plan runs {sorted(missing)[0]!r}, which the bundle does not hold")

    @property
    def blocks(self) -> tuple[Workload, ...]:
        """The workloads of kind `block`."""
        return tuple(w for w in self.workloads if w.kind == "block")

    def workload(self, block_key: str) -> Workload:
        """The workload of that key; raises ConfigError."""
        if block_key not in self._by_key:
            raise ConfigError(f"{self.root}: the bundle holds no workload {block_key!r}")
        return self._by_key[block_key]

    def path(self, workload: Workload, format: str) -> Path:
        """Where an artifact lies; raises ConfigError when the workload has no such format."""
        if format not in workload.artifacts:
            have = ", ".join(sorted(workload.artifacts)) or "none"
            raise ConfigError(
                f"{workload.block_key}: no {format} artifact in {self.root} (there: {have}); "
                f"use a backend that runs what is there, or export the network as {format}"
            )
        return self.root / workload.artifacts[format].path

    @classmethod
    def read(cls, root: Path) -> Bundle:
        """Read `bundle.json` and verify every artifact's sha256; raises ConfigError naming the file that is wrong."""
        file = root / "bundle.json"
        try:
            raw: Any = json.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{file}: cannot be read ({error.strerror}); is this a bundle folder?") from error
        except ValueError as error:
            raise ConfigError(f"{file}: not valid JSON ({error}); export the bundle again") from error
        known = (SCHEMA, _PATIENCE_SCHEMA)
        if isinstance(raw, dict) and raw.get("schema") not in known:
            raise ConfigError(
                f"{file}: schema {raw.get('schema')!r}, this version reads {' and '.join(map(str, known))}; "
                "export the bundle again"
            )
        try:
            parsed = _ADAPTER.validate_python(raw)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(p) for p in first["loc"])
            raise ConfigError(f"{file}: {place}: {first['msg']}") from error
        if later := [plan.name for plan in parsed.plans if plan.schema > parsed.schema]:
            raise ConfigError(f"{file}: plan {later[0]!r} leaves by patience, unknown to schema {parsed.schema}")
        bundle = cls(
            root=root,
            space=parsed.space,
            workloads=parsed.workloads,
            plans=parsed.plans,
            data=parsed.data,
            commit=parsed.commit,
        )
        for workload in bundle.workloads:
            for artifact in workload.artifacts.values():
                _verify(root, artifact)
        return bundle

    def write(self) -> None:
        """Write `bundle.json` (artifacts are already in place); replaces the file in one step."""
        self.root.mkdir(parents=True, exist_ok=True)
        content = _File(
            schema=max((plan.schema for plan in self.plans), default=SCHEMA),
            space=self.space,
            workloads=self.workloads,
            plans=self.plans,
            data=self.data,
            commit=self.commit,
        )
        temporary = self.root / "bundle.json.part"
        temporary.write_bytes(_ADAPTER.dump_json(content, indent=1))
        temporary.replace(self.root / "bundle.json")

    def only(self, keys: Sequence[str]) -> Bundle:
        """The same folder with only these workloads and no plans."""
        wanted = set(keys)
        return replace(self, workloads=tuple(w for w in self.workloads if w.block_key in wanted), plans=())


class Exporter(Protocol):
    """Turns a source into a bundle; found by the entry point `hwbench.exporters`, so hwbench stays free of torch."""

    def __call__(self, source: str, *, formats: Sequence[str], out: Path, networks: int = 0, seed: int = 0) -> Bundle:
        """Export `space:digits` or `timm:NAME`; formats () = describe only.

        networks: how many random whole networks of a space go with the blocks (with their `parts`).
        """


def artifact_of(root: Path, file: Path) -> Artifact:
    """Describe a file that lies under a bundle's folder."""
    data = file.read_bytes()
    return Artifact(
        path=file.relative_to(root).as_posix(), sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data)
    )


def _verify(root: Path, artifact: Artifact) -> None:
    file = (root / artifact.path).resolve()
    if not file.is_relative_to(root.resolve()):
        raise ConfigError(f"{root}: artifact {artifact.path!r} lies outside the bundle; refuse to read it")
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"{file}: artifact cannot be read ({error.strerror}); export the bundle again") from error
    if digest != artifact.sha256:
        raise ConfigError(
            f"{file}: content differs from bundle.json (sha256); the file was changed or cut short; export again"
        )
