"""A Coral Edge TPU, host half: full-int8 TFLite through `edgetpu_compiler`; `hwbench.agent.runtimes.edgetpu` runs it.

The compiler exists for x86-64 Linux only, so it runs here and not on the board; what it makes is kept in the user's
cache folder by what went in: the files' contents and order, its version and its options.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from platformdirs import user_cache_path
from pydantic import Field, model_validator

from hwbench import agent_session, edgetpu_compiler, tflite_graph
from hwbench.agent_backend import ProcessorOptions
from hwbench.edgetpu_compiler import CompiledModel, CompilerLog
from hwbench.errors import ConfigError, PermanentDeviceError, nearest
from hwbench.link import Link
from hwbench.session import Prepared, Session
from hwbench.setting import Setting
from hwbench.workload import Bundle, Workload

_FORMATS = {"int8": ("tflite_int8",)}
_COMPILE_S = 900.0
_VERSION_S = 60.0
_LOG = "compiler.log"


class Options(ProcessorOptions):
    """How the device is opened and files are compiled.

    device: `usb:0`, `pci:0`, …; `usb` or `pci` = any of that kind, empty = any.  performance: the clock of the chip,
    the delegate's own choice where nothing is said.  library: the delegate on the board.
    compiler: the program on this machine.
    min_runtime_version: the oldest Edge TPU runtime that compiled files shall run on; None = the compiler's own choice.
    allow_cpu_fallback: run what the compiler cannot map on the processor, and flag the row, instead of refusing.
    """

    device: str = Field(default="", pattern=r"^((usb|pci)?(:[0-9]+)?)$")
    performance: Literal["Low", "Medium", "High", "Max"] | None = None
    library: str = "libedgetpu.so.1"
    compiler: str = "edgetpu_compiler"
    min_runtime_version: int | None = Field(default=None, ge=10)
    allow_cpu_fallback: bool = False

    @model_validator(mode="after")
    def _performance_needs_an_index(self) -> Options:
        if self.performance is not None and ":" not in self.device:
            raise ValueError(
                f"performance is ignored unless the device has an index; write device = '{self.device or 'usb'}:0'"
            )
        return self


def open(options: Options | Mapping[str, Any], link: Link | None = None) -> EdgeTpu:
    """The runtime; nothing is asked of the board or the compiler yet."""
    return EdgeTpu(options if isinstance(options, Options) else Options.model_validate(dict(options)))


class EdgeTpu:
    """Compiles on this machine, runs on the board; a Backend."""

    name = "edgetpu"

    def __init__(self, options: Options) -> None:
        self._options = options
        self._compiler: _Compiler | None = None

    def formats(self, precision: str) -> tuple[str, ...]:
        """`tflite_int8` for int8, all that the chip computes.

        ConfigError for anything else, and where this machine has no compiler: before hours of exporting, not after.
        """
        if precision not in _FORMATS:
            # The nearest name of a float precision says nothing; what the chip can does.
            raise ConfigError(f"edgetpu: computes in int8 only, not in {precision!r}{nearest(precision, _FORMATS)}")
        _program(self._options.compiler)
        return _FORMATS[precision]

    def prepare(self, link: Link, bundle: Bundle, workload: Workload, setting: Setting) -> Prepared:
        """Compile a workload alone and send it, so that a row says the same whatever else is measured beside it.

        The chip keeps about 8 MB of parameters. A block alone fits where a whole network may stream, so sums of blocks
        are too fast for large networks: such tables are to be validated on whole networks.
        """
        return self._prepared(link, bundle, [workload], setting)[0]

    def prepare_together(
        self, link: Link, bundle: Bundle, workloads: Sequence[Workload], setting: Setting
    ) -> list[Prepared]:
        """Compile the workloads of a plan in one go: each has its share of the chip's memory and evicts none."""
        return self._prepared(link, bundle, workloads, setting)

    def session(self, link: Link, setting: Setting) -> Session:
        """A fresh agent with the Edge TPU's delegate, on the unit's own cores where the target names them."""
        self._check(setting)
        return agent_session.start(link, "edgetpu", setting, cores=self._options.cores.get(setting.unit, ()))

    def _prepared(self, link: Link, bundle: Bundle, workloads: Sequence[Workload], setting: Setting) -> list[Prepared]:
        self._check(setting)
        (format,) = self.formats(setting.precision)
        files = [bundle.path(workload, format) for workload in workloads]
        if self._compiler is None:
            self._compiler = _Compiler(self._options)
        log, compiled = self._compiler.compiled(files, [workload.block_key for workload in workloads])
        found = []
        for workload, file, model, made in zip(workloads, files, log.models, compiled, strict=True):
            self._check_mapping(workload, file, model)
            found.append(
                Prepared(
                    block_key=workload.block_key,
                    setting=setting,
                    format=format,
                    path=link.push(made),
                    sha256=hashlib.sha256(made.read_bytes()).hexdigest(),
                    options={
                        "library": self._options.library,
                        "device": self._options.device,
                        "performance": self._options.performance or "",
                    },
                    notes=_notes(log, model, made),
                    source=str(file),
                )
            )
        return found

    def _check(self, setting: Setting) -> None:
        if setting.unit != "npu":
            raise ConfigError(f"edgetpu: runs on the npu, not on {setting.unit!r}; choose another backend")
        if setting.batch != 1:
            raise ConfigError(f"edgetpu: compiled files take one input at a time, not batch {setting.batch}")

    def _check_mapping(self, workload: Workload, file: Path, model: CompiledModel) -> None:
        """Refuse a file of which the chip does not run everything that is int8, unless that was allowed.

        Operations on real numbers are what the file itself asks of the processor: an exit's score is compared with a
        threshold and must not be rounded to 256 steps.
        """
        if self._options.allow_cpu_fallback or not model.unmapped:
            return
        real = Counter(op.name for op in tflite_graph.operations(file.read_bytes(), str(file)) if op.real)
        left = Counter({row.name: 0 for row in model.unmapped})
        for row in model.unmapped:
            left[row.name] += row.count
        if left - real:
            why = "; ".join(
                f"{row.count} {row.name} ({row.status})" for row in model.unmapped if row.name in left - real
            )
            raise PermanentDeviceError(
                f"{workload.block_key}: the Edge TPU cannot run all of it: {why}; change these operations, or "
                "measure it with them on the processor: --allow-cpu-fallback"
            )


class _Compiler:
    """The program `edgetpu_compiler` of this machine, and what it has compiled before."""

    def __init__(self, options: Options) -> None:
        program = _program(options.compiler)
        self._argv = [program, "-s"]
        if options.min_runtime_version is not None:
            self._argv += ["-m", str(options.min_runtime_version)]
        said = self._ran([program, "--version"], _VERSION_S).stdout
        self._version = edgetpu_compiler.parse_version(said.decode("utf-8", "replace"))

    def compiled(self, files: Sequence[Path], keys: Sequence[str]) -> tuple[CompilerLog, list[Path]]:
        """(the compiler's log, a compiled file for each), from the cache where they were compiled together before."""
        asked = [self._version, self._argv[1:], [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]]
        key = hashlib.blake2b(json.dumps(asked).encode(), digest_size=20).hexdigest()
        folder = user_cache_path("hwbench") / "edgetpu" / key
        return _kept(folder, files) or self._make(folder, files, keys)

    def _make(self, folder: Path, files: Sequence[Path], keys: Sequence[str]) -> tuple[CompilerLog, list[Path]]:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                inputs, out = Path(scratch) / "in", Path(scratch) / "out"
                inputs.mkdir()
                out.mkdir()
                # Names of our own: a bundle's may not suit a command line, and two may be equal.
                for name, file in zip(_names(files), files, strict=True):
                    shutil.copyfile(file, inputs / name)
                argv = [*self._argv, "-o", str(out), *(str(inputs / name) for name in _names(files))]
                ran = self._ran(argv, _COMPILE_S)
                why = edgetpu_compiler.refusal(_said(ran))
                if ran.returncode != 0 or why is not None:
                    raise PermanentDeviceError(
                        f"{' + '.join(keys)}: edgetpu_compiler refuses {', '.join(str(file) for file in files)}: "
                        f"{why or _tail(_said(ran)) or f'status {ran.returncode}'}"
                    )
                (out / _LOG).write_bytes(ran.stdout)
                shutil.rmtree(folder, ignore_errors=True)
                out.rename(folder)
        except OSError as error:
            raise ConfigError(f"{folder.parent}: compiled files cannot be kept there ({error.strerror})") from error
        found = _read(folder, files)
        if found is None:
            raise PermanentDeviceError(f"{' + '.join(keys)}: edgetpu_compiler's log and its files disagree on sizes")
        return found

    def _ran(self, argv: Sequence[str], timeout_s: float) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(argv, capture_output=True, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL)
        except OSError as error:
            raise ConfigError(f"edgetpu: {argv[0]} does not start ({error.strerror})") from error
        except subprocess.TimeoutExpired as error:
            raise PermanentDeviceError(f"edgetpu: {argv[0]} did not end within {timeout_s:g} s") from error


def _program(name: str) -> str:
    """Where the compiler is; ConfigError where it is not."""
    found = shutil.which(name)
    if found is None:
        raise ConfigError(
            f"edgetpu: no program {name!r} on this machine (there is one for x86-64 Debian and Ubuntu only); "
            "install it as coral.ai/docs/edgetpu/compiler says, or name it in the backend's options"
        )
    return found


def _kept(folder: Path, files: Sequence[Path]) -> tuple[CompilerLog, list[Path]] | None:
    """What was compiled before; None where nothing was, or where it is damaged."""
    try:
        return _read(folder, files)
    except (OSError, PermanentDeviceError):
        return None


def _read(folder: Path, files: Sequence[Path]) -> tuple[CompilerLog, list[Path]] | None:
    """The log and the files of a compilation; None where sizes are not those that the log tells."""
    log = edgetpu_compiler.parse((folder / _LOG).read_text(encoding="utf-8", errors="replace"), _names(files))
    compiled = [folder / name.replace(".tflite", "_edgetpu.tflite") for name in _names(files)]
    told = [size for model in log.models for size in (model.input_bytes, model.output_bytes)]
    real = [path.stat().st_size for pair in zip(files, compiled, strict=True) for path in pair]
    # Two decimals of at least 1 are told.
    agree = all(abs(a - b) <= 0.01 * max(a, b) for a, b in zip(told, real, strict=True))
    return (log, compiled) if agree else None


def _names(files: Sequence[Path]) -> list[str]:
    return [f"w{i}.tflite" for i in range(len(files))]


def _notes(log: CompilerLog, model: CompiledModel, made: Path) -> dict[str, str | int | float]:
    """What a row should carry; `needs_bytes` is the least memory that running takes."""
    return {
        "compiler": f"edgetpu_compiler {log.version}",
        "compiled_together": len(log.models),
        "on_chip_bytes": model.on_chip_bytes,
        "on_chip_free_bytes": model.on_chip_free_bytes,
        "off_chip_bytes": model.off_chip_bytes,
        "subgraphs": model.subgraphs,
        "unmapped_ops": sum(row.count for row in model.unmapped),
        "needs_bytes": made.stat().st_size,
    }


def _said(ran: subprocess.CompletedProcess[bytes]) -> str:
    return (ran.stdout + ran.stderr).decode("utf-8", "replace")


def _tail(text: str) -> str:
    return " ".join(text.split())[-200:]
