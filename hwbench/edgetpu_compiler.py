"""Reads what `edgetpu_compiler -s` prints: memory on and off the chip, subgraphs, and where each operation runs.

The log is all that is known of a compiled file, so it is read strictly: a line that is not understood, a figure that is
missing or that another one contradicts is an error, never a 0.
Source of the format: logs of versions 14.1, 15.0 and 16.0 as users and coral.ai/docs/edgetpu/compiler show them.
Version 16 frames its log with a timer; files compiled together follow each other under "Models compiled".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from hwbench.errors import PermanentDeviceError

_FRAMED = 16  # the first version that starts a timer and says at the end that it held
MAPPED = "Mapped to Edge TPU"
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_WHOLE = r"(0|[1-9][0-9]*)"
_AMOUNT = r"((?:0|[1-9][0-9]{0,3})\.[0-9]{2})(B|KiB|MiB|GiB)"
_VERSION = re.compile(r"Edge TPU Compiler version ([0-9]+(?:\.[0-9]+)+)")
_TIMER = re.compile(rf"Started a compilation timeout timer of {_WHOLE} seconds\.")
_DONE = re.compile(rf"(Models?) compiled successfully in {_WHOLE} ms\.")
_PARTLY = (
    "Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of the model will "
    "instead run on the CPU, which is slower. If possible, consider updating your model to use only operations "
    "supported by the Edge TPU. For details, visit g.co/coral/model-reqs."
)
_ROW = re.compile(r"([A-Z][A-Z0-9_]*) +([1-9][0-9]*) +(\S(?:.*\S)?)")
_HEADER = re.compile(r"Operator +Count +Status")
_SEE_LOG = "See the operation log file for individual operation details."
_END = ("Compilation child process completed within timeout period.", "Compilation succeeded!")
_REFUSALS = ("Invalid model:", "Internal compiler error", "Compilation failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """So many operations of one kind that fared alike; status is MAPPED or why they run on the processor."""

    name: str
    count: int
    status: str

    @property
    def mapped(self) -> bool:
        """Whether the Edge TPU runs them."""
        return self.status == MAPPED


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledModel:
    """One file of a compilation.

    on_chip_bytes: parameters kept in the chip's own memory; on_chip_free_bytes: what is left there; off_chip_bytes:
    parameters fetched again for every run. Sizes are rounded as printed, two decimals of their unit.
    """

    input_name: str
    input_bytes: int
    output_name: str
    output_bytes: int
    on_chip_bytes: int
    on_chip_free_bytes: int
    off_chip_bytes: int
    subgraphs: int
    operators: tuple[Operator, ...]

    @property
    def unmapped(self) -> tuple[Operator, ...]:
        """What runs on the processor."""
        return tuple(operator for operator in self.operators if not operator.mapped)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompilerLog:
    """A compilation that succeeded: its models in the order in which the files were given."""

    version: str
    compile_ms: int
    models: tuple[CompiledModel, ...]


def parse_version(text: str) -> str:
    """The version in what `edgetpu_compiler --version` prints; PermanentDeviceError when it is something else."""
    found = _VERSION.fullmatch(text.strip())
    if found is None:
        raise PermanentDeviceError(f"not the version of an edgetpu_compiler: {text.strip()[:80]!r}")
    return found[1]


def refusal(text: str) -> str | None:
    """Why the compiler refused, in its own words; None where it did not."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [i for i, line in enumerate(lines) if line.startswith(_REFUSALS)]
    if not told:
        return None
    # "Invalid model: FILE" gives its reason in the next line.
    first = lines[told[0]]
    return lines[told[0] + 1] if first.startswith("Invalid model:") and told[0] + 1 < len(lines) else first


def parse(text: str, files: Sequence[str]) -> CompilerLog:
    """Read the log of a compilation of these files (their names, in the order they were given).

    Raises PermanentDeviceError naming the line that is not understood, missing or contradicted by another.
    """
    if not text.endswith("\n"):
        raise PermanentDeviceError("edgetpu_compiler: its log is cut short in the middle of a line")
    lines = _Lines(text)
    version = lines.match(_VERSION, "the compiler's version")[1]
    timer = lines.optional(_TIMER)
    if (timer is not None) != (int(version.partition(".")[0]) >= _FRAMED):
        raise lines.wrong(f"version {version} with{'out' if timer is None else ''} a compilation timer")
    done = lines.match(_DONE, "'Model compiled successfully in … ms.'")
    models = []
    while lines.here.startswith("Input model: "):
        models.append(_model(lines))
    if timer:
        for line in _END:
            lines.exactly(line)
    lines.end()
    if (done[1] == "Model") != (len(models) == 1):
        raise lines.wrong(f"{done[1]!r} compiled, but {len(models)} described")
    names = [PurePosixPath(model.input_name).name for model in models]
    if names != [PurePosixPath(file).name for file in files]:
        raise lines.wrong(f"describes {', '.join(names) or 'no model'}, not {', '.join(files)}")
    return CompilerLog(version=version, compile_ms=int(done[2]), models=tuple(models))


class _Lines:
    """The lines of a log that are not empty, one after the other."""

    def __init__(self, text: str) -> None:
        self._lines = [(i, line.rstrip("\r")) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
        self._place = 0

    @property
    def here(self) -> str:
        """The present line; empty behind the last."""
        return self._lines[self._place][1] if self._place < len(self._lines) else ""

    def match(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        """Take a line that must be there."""
        found = pattern.fullmatch(self.here)
        if found is None:
            raise self.wrong(f"expected {what}, found {self.here[:80]!r}" if self.here else f"ends before {what}")
        self._place += 1
        return found

    def field(self, name: str, pattern: str) -> re.Match[str]:
        """Take the line `name: …`."""
        return self.match(re.compile(re.escape(name) + ": " + pattern), repr(name))

    def exactly(self, line: str) -> None:
        """Take that very line."""
        self.match(re.compile(re.escape(line)), repr(line))

    def optional(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Take a line if it is such a one."""
        found = pattern.fullmatch(self.here)
        self._place += found is not None
        return found

    def all(self, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
        """Take lines as long as they are such ones."""
        while (found := self.optional(pattern)) is not None:
            yield found

    def end(self) -> None:
        """Nothing may be left."""
        if self.here:
            raise self.wrong(f"expected its end, found {self.here[:80]!r}")

    def wrong(self, what: str) -> PermanentDeviceError:
        """The error that names the present line."""
        number = self._lines[min(self._place, len(self._lines) - 1)][0] if self._lines else 1
        return PermanentDeviceError(f"edgetpu_compiler: line {number} of its log: {what}")


def _model(lines: _Lines) -> CompiledModel:
    source = lines.field("Input model", r"(.+\.tflite)")[1]
    input_bytes = _amount(lines, "Input size")
    output = lines.field("Output model", r"(.+_edgetpu\.tflite)")[1]
    output_bytes = _amount(lines, "Output size")
    on_chip = _amount(lines, "On-chip memory used for caching model parameters")
    free = _amount(lines, "On-chip memory remaining for caching model parameters")
    off_chip = _amount(lines, "Off-chip memory used for streaming uncached model parameters")
    subgraphs = int(lines.field("Number of Edge TPU subgraphs", _WHOLE)[1])
    total = int(lines.field("Total number of operations", _WHOLE)[1])
    log = lines.field("Operation log", r"(.+_edgetpu\.log)")[1]
    if output != log.removesuffix(".log") + ".tflite" or _stem(output) != _stem(source) + "_edgetpu":
        raise lines.wrong(f"{source}, {output} and {log} do not belong together")
    partly = _partly(lines)
    lines.match(_HEADER, "the table of operations")
    rows = tuple(Operator(name=row[1], count=int(row[2]), status=row[3]) for row in lines.all(_ROW))
    if lines.here == _SEE_LOG:
        lines.exactly(_SEE_LOG)
    model = CompiledModel(
        input_name=source,
        input_bytes=input_bytes,
        output_name=output,
        output_bytes=output_bytes,
        on_chip_bytes=on_chip,
        on_chip_free_bytes=free,
        off_chip_bytes=off_chip,
        subgraphs=subgraphs,
        operators=rows,
    )
    _check_counts(lines, model, total, partly)
    return model


def _partly(lines: _Lines) -> tuple[int, int] | None:
    """(operations on the Edge TPU, on the processor) where the compiler warns that some are left."""
    if lines.here != _PARTLY:
        return None
    lines.exactly(_PARTLY)
    mapped = int(lines.field("Number of operations that will run on Edge TPU", _WHOLE)[1])
    return mapped, int(lines.field("Number of operations that will run on CPU", _WHOLE)[1])


def _check_counts(lines: _Lines, model: CompiledModel, total: int, partly: tuple[int, int] | None) -> None:
    mapped = sum(row.count for row in model.operators if row.mapped)
    unmapped = sum(row.count for row in model.unmapped)
    kinds = [(row.name, row.status) for row in model.operators]
    if len(set(kinds)) != len(kinds):
        raise lines.wrong(f"{model.input_name}: its table names {max(kinds, key=kinds.count)[0]} twice")
    if mapped + unmapped != total or total == 0:
        raise lines.wrong(
            f"{model.input_name}: its table counts {mapped + unmapped} operations, the total says {total}"
        )
    if (mapped, unmapped) != (partly or (total, 0)) or (partly is not None and not unmapped):
        raise lines.wrong(f"{model.input_name}: its table has {mapped} on the Edge TPU and {unmapped} on the processor")
    if (model.subgraphs > 0) != (mapped > 0):
        raise lines.wrong(f"{model.input_name}: {model.subgraphs} subgraphs for {mapped} operations on the Edge TPU")


def _amount(lines: _Lines, name: str) -> int:
    number, unit = lines.field(name, _AMOUNT).groups()
    if (float(number) > 1024 and unit != "GiB") or (float(number) < 1 and unit != "B"):
        raise lines.wrong(f"{name}: {number}{unit} would stand in another unit")
    if unit == "B" and not number.endswith(".00"):
        raise lines.wrong(f"{name}: {number}{unit} is no whole number of bytes")
    return round(float(number) * _UNITS[unit])


def _stem(name: str) -> str:
    return PurePosixPath(name).name.removesuffix(".tflite")
