"""TensorFlow Lite on Android through its tool `benchmark_model`: NNAPI, the GPU delegate, or XNNPACK on the processor.

Works over any link to a board with a POSIX shell. NNAPI is deprecated since Android 15; the GPU delegate is the
accelerator that newer devices keep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from hwbench.benchmark_session import BenchmarkSession, Tool
from hwbench.errors import ConfigError, PermanentDeviceError, nearest
from hwbench.link import Link
from hwbench.session import Prepared, Session
from hwbench.setting import Setting
from hwbench.workload import Bundle, Workload

_BY_PRECISION = {"fp32": ("tflite",), "fp16": ("tflite",), "int8": ("tflite_int8",)}
_UNITS = ("npu", "gpu", "cpu")
_SMALL_S = 30.0


class Options(BaseModel):
    """Which tool, and how.

    tool: its path on the board.  push: a file of this machine to send there instead.
    accelerator: NNAPI's name of the accelerator; None = NNAPI chooses.
    allow_cpu_fallback: run on the processor what the accelerator does not take, and flag it, instead of refusing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    tool: str = Field(default="/data/local/tmp/benchmark_model", min_length=1)
    push: Path | None = None
    accelerator: str | None = Field(default=None, pattern=r"^[^\s]+$")
    allow_cpu_fallback: bool = False


def open(options: Options | Mapping[str, Any], link: Link | None = None) -> NnApi:
    """The runtime; nothing is asked of the board yet."""
    return NnApi(options if isinstance(options, Options) else Options.model_validate(dict(options)))


class NnApi:
    """Sends files and calls the tool; a Backend."""

    name = "nnapi"

    def __init__(self, options: Options) -> None:
        self._options = options

    def formats(self, precision: str) -> tuple[str, ...]:
        """`tflite` for floats (fp16 computes it in halves), `tflite_int8` for int8; ConfigError for any other."""
        if precision not in _BY_PRECISION:
            raise ConfigError(f"nnapi: no precision {precision!r}{nearest(precision, _BY_PRECISION)}")
        return _BY_PRECISION[precision]

    def prepare(self, link: Link, bundle: Bundle, workload: Workload, setting: Setting) -> Prepared:
        """Send the file; the delegate compiles it whenever the tool is called."""
        flags(setting, self._options)
        format = self.formats(setting.precision)[0]
        file = bundle.path(workload, format)
        return Prepared(
            block_key=workload.block_key,
            setting=setting,
            format=format,
            path=link.push(file),
            sha256=workload.artifacts[format].sha256,
            source=str(file),
        )

    def prepare_together(
        self, link: Link, bundle: Bundle, workloads: Sequence[Workload], setting: Setting
    ) -> list[Prepared]:
        """One by one: each call of the tool has the accelerator to itself."""
        return [self.prepare(link, bundle, workload, setting) for workload in workloads]

    def session(self, link: Link, setting: Setting) -> Session:
        """Calls of the tool for this setting."""
        told = flags(setting, self._options)
        delegate = {"npu": "NNAPI", "gpu": "GPU"}.get(setting.unit)
        fallback = self._options.allow_cpu_fallback
        tool = Tool(path=self._path(link), flags=told, delegate=delegate, allow_cpu_fallback=fallback)
        return BenchmarkSession(link, tool, backend=self.name)

    def _path(self, link: Link) -> str:
        if self._options.push is None:
            return self._options.tool
        if not self._options.push.is_file():
            raise ConfigError(f"nnapi: {self._options.push} is no file; `push` names a benchmark_model of this machine")
        path = link.push(self._options.push)
        done = link.run(["chmod", "755", path], timeout_s=_SMALL_S)
        if done.returncode != 0:
            raise PermanentDeviceError(f"{link.name}/nnapi: {path} cannot be made executable on the board")
        return path


def flags(setting: Setting, options: Options) -> tuple[str, ...]:
    """The tool's flags for a setting; ConfigError for one that it cannot."""
    half = setting.precision == "fp16"
    if setting.batch != 1:
        raise ConfigError(f"nnapi: files take one input at a time, not batch {setting.batch}")
    threads = () if setting.threads is None else (f"--num_threads={setting.threads}",)
    if setting.unit == "npu":
        name = () if options.accelerator is None else (f"--nnapi_accelerator_name={options.accelerator}",)
        # NNAPI's own processor implementation is slow and nobody's accelerator.
        processor = f"--disable_nnapi_cpu={'false' if options.allow_cpu_fallback else 'true'}"
        return ("--use_nnapi=true", *name, processor, f"--nnapi_allow_fp16={'true' if half else 'false'}", *threads)
    if setting.unit == "gpu":
        return ("--use_gpu=true", f"--gpu_precision_loss_allowed={'true' if half else 'false'}", *threads)
    if setting.unit == "cpu" or setting.unit.startswith("cpu."):
        if not threads:
            raise ConfigError("nnapi: the setting names no threads; say how many, like threads = [1]")
        return ("--use_xnnpack=true", *(("--xnnpack_force_fp16=true",) if half else ()), *threads)
    raise ConfigError(f"nnapi: no unit {setting.unit!r}{nearest(setting.unit, _UNITS)}")
