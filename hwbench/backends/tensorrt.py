"""TensorRT on a board's GPU or DLA; `hwbench.agent.runtimes.trt` and `.trtexec` are the other halves.

Engines are built on the board from ONNX and kept there, by content, setting and version; nobody else's engine would
run. int8 takes its ranges from the graph (`onnx_qdq`: explicit quantisation): TensorRT 8, 10 and 11 all read that, and
the same numbers are int8 everywhere. A calibration cache would leave the choice of layers to each builder, and 11 has
none any more. fp16 is a flag of the builder up to 10; 11 computes as the graph says, so it is sent a graph in fp16.
Before 8.4 the parser does not know HardSwish, so those versions are sent the two operators that it stands for.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx
from platformdirs import user_cache_path
from pydantic import BaseModel, ConfigDict, Field

from hwbench import agent_session
from hwbench.agent import trtexec_output
from hwbench.agent.protocol import AgentError
from hwbench.errors import ConfigError, PermanentDeviceError, nearest
from hwbench.link import Link
from hwbench.session import Prepared, Session
from hwbench.setting import Setting
from hwbench.workload import Bundle, Workload

logger = logging.getLogger(__name__)

_FORMATS: Mapping[str, tuple[str, ...]] = {"fp32": ("onnx",), "fp16": ("onnx",), "int8": ("onnx_qdq",)}
_UNITS = ("gpu", "dla")
_LOOK_S = 90.0
_START_S = 90.0  # trtexec loads all of CUDA for each window, on a small board from its card
_BINDINGS = "import tensorrt; print(tensorrt.__version__)"
_TYPED_SINCE = (11,)  # from here on networks compute as their graph says
_HARD_SWISH_SINCE = (8, 4)  # the parser's release notes; JetPack 4 has 8.2


class Options(BaseModel):
    """How engines are built and run.

    runner: `bindings` (TensorRT's Python package: windows, chains and answers), `trtexec` (the tool: windows only),
    `auto` = the first of these that the board has.  workspace_mb: most memory that a layer may try out (the tool of
    8.2 would allow 16).  tf32: let fp32 round its factors to 10 bits.  graph: record runs as a CUDA graph.
    dla_core: which one the unit `dla` is.  gpu_fallback: layers that the DLA cannot run go to the GPU, and every
    window is flagged; without it they are an error.  layers: with trtexec, time each layer too, in a run apart.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    runner: Literal["auto", "bindings", "trtexec"] = "auto"
    workspace_mb: int = Field(default=1024, ge=1)
    tf32: bool = False
    graph: bool = True
    dla_core: int = Field(default=0, ge=0)
    gpu_fallback: bool = False
    layers: bool = False


def open(options: Options | Mapping[str, Any], link: Link | None = None) -> Tensorrt:
    """The runtime; nothing is asked of the board yet."""
    return Tensorrt(options if isinstance(options, Options) else Options.model_validate(dict(options)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What a board has: the agent's runtime to use and TensorRT's version."""

    runtime: str
    version: str

    def is_at_least(self, version: tuple[int, ...]) -> bool:
        """Whether TensorRT is that version or later."""
        return tuple(int(part) for part in self.version.split(".")[: len(version)]) >= version


class Tensorrt:
    """Sends graphs, and starts agents that build and run them; a Backend."""

    name = "tensorrt"

    def __init__(self, options: Options) -> None:
        self._options = options
        self._found: dict[str, _Found] = {}

    def formats(self, precision: str) -> tuple[str, ...]:
        """Artifact formats for that precision; ConfigError for one that TensorRT cannot."""
        if precision not in _FORMATS:
            raise ConfigError(f"tensorrt: no precision {precision!r}{nearest(precision, _FORMATS)}")
        return _FORMATS[precision]

    def prepare(self, link: Link, bundle: Bundle, workload: Workload, setting: Setting) -> Prepared:
        """Send the graph; its engine is built when it is loaded for the first time."""
        _check(setting)
        format = self.formats(setting.precision)[0]
        file = bundle.path(workload, format)
        sent = _as_taken(workload.block_key, file, setting.precision, self._look(link))
        return Prepared(
            block_key=workload.block_key,
            setting=setting,
            format=format,
            path=link.push(sent),
            sha256=hashlib.sha256(sent.read_bytes()).hexdigest(),
            options={**self._options.model_dump(exclude={"runner"}), "folder": f"{link.workdir()}/tensorrt"},
            source=str(file),
        )

    def prepare_together(
        self, link: Link, bundle: Bundle, workloads: Sequence[Workload], setting: Setting
    ) -> list[Prepared]:
        """One by one: engines do not know each other."""
        return [self.prepare(link, bundle, workload, setting) for workload in workloads]

    def session(self, link: Link, setting: Setting) -> Session:
        """A fresh agent with the runner that was chosen or found."""
        _check(setting)
        runtime = self._look(link).runtime
        if runtime == "trtexec":
            return agent_session.start(link, runtime, setting, slack_s=_START_S)
        return agent_session.start(link, runtime, setting)

    def _look(self, link: Link) -> _Found:
        """Ask the board once what it has; PermanentDeviceError names what was tried."""
        key = f"{link.name} {link.workdir()}"
        if key not in self._found:
            self._found[key] = _look(link, self._options.runner)
            logger.info("%s: TensorRT %s (%s)", link.name, self._found[key].version, self._found[key].runtime)
        return self._found[key]


def _check(setting: Setting) -> None:
    if setting.unit not in _UNITS:
        raise ConfigError(f"tensorrt: runs on gpu and dla, not on {setting.unit!r}; choose another backend")
    if setting.unit == "dla" and setting.precision == "fp32":
        raise ConfigError("tensorrt: a DLA computes in fp16 and int8 only; leave fp32 to the gpu")


def _look(link: Link, runner: str) -> _Found:
    tried = []
    if runner in ("auto", "bindings"):
        done = link.run([link.python, "-c", _BINDINGS], timeout_s=_LOOK_S)
        version = done.stdout.decode("utf-8", "replace").strip()
        if done.returncode == 0 and version[:1].isdigit():
            return _Found(runtime="trt", version=version)
        tried.append(f"{link.python} cannot import tensorrt")
    if runner in ("auto", "trtexec"):
        for tool in ("trtexec", "/usr/src/tensorrt/bin/trtexec", "/opt/tensorrt/bin/trtexec"):
            done = link.run([tool, "--help"], timeout_s=_LOOK_S)
            try:
                version = trtexec_output.version_of(done.stdout.decode("utf-8", "replace"))
            except AgentError:
                continue
            return _Found(runtime="trtexec", version=version)
        tried.append("no trtexec on its path or in /usr/src/tensorrt/bin")
    raise PermanentDeviceError(
        f"{link.name}/tensorrt: {'; '.join(tried)}; install TensorRT there (on a Jetson: nvidia-jetpack), or give the "
        "link the python that has it"
    )


def _as_taken(block_key: str, file: Path, precision: str, found: _Found) -> Path:
    """The graph in words that this version understands: the file itself, or one kept by content and change."""
    changes: dict[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {}
    if precision == "fp16" and found.is_at_least(_TYPED_SINCE):
        changes["half"] = _half
    if not found.is_at_least(_HARD_SWISH_SINCE):
        changes["spelled"] = _without_hard_swish
    if not changes:
        return file
    data = file.read_bytes()
    name = "-".join([*changes, hashlib.sha256(data).hexdigest()[:32]])
    kept = user_cache_path("hwbench") / "exports" / f"{name}.onnx"
    if not kept.is_file():
        try:
            model = onnx.load_from_string(data)
            for change in changes.values():
                model = change(model)
        except Exception as error:  # a damaged file, or whatever the converter meets in a graph
            told = " ".join(str(error).split()) or type(error).__name__
            raise PermanentDeviceError(
                f"tensorrt: preparing {block_key} from {file} for TensorRT {found.version}: {told[:200]}"
            ) from error
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(model.SerializeToString(deterministic=True))
        part.replace(kept)
    return kept


def _half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights and all that is computed in fp16; inputs and outputs as they were."""
    typed: onnx.ModelProto = _converter()(model, keep_io_types=True)
    return typed


def _without_hard_swish(model: onnx.ModelProto) -> onnx.ModelProto:
    """HardSwish(x) as x · HardSigmoid(x; 1/6, 1/2), which is how ONNX defines it."""
    nodes = []
    for node in model.graph.node:
        if node.op_type != "HardSwish":
            nodes.append(node)
            continue
        gate = f"{node.output[0]}_gate"
        nodes.append(onnx.helper.make_node("HardSigmoid", [node.input[0]], [gate], alpha=1 / 6, beta=0.5))
        nodes.append(onnx.helper.make_node("Mul", [node.input[0], gate], [node.output[0]]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


@functools.cache
def _converter() -> Any:
    # That package adds its own folder to the path, where names like `models` would be found.
    before = list(sys.path)
    try:
        from onnxruntime.transformers.float16 import convert_float_to_float16
    finally:
        sys.path[:] = before
    return convert_float_to_float16
