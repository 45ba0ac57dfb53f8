"""What reads another tool's file: the contract of `hwbench/importers`, behind `hwbench table import`.

A plugin is a module with `Options` (what `--set NAME=VALUE` may say) and `open(options)`, which returns an Importer.
Importers read and convert; evidence, provenance, duplicates and plausibility are the business of `import_command`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hwbench.errors import ConfigError
from hwbench.measurement import Interval
from hwbench.setting import Setting

UNITS: Mapping[str, Mapping[str, float]] = {
    "latency_ms": {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3},
    "energy_mj": {"uJ": 1e-3, "mJ": 1.0, "J": 1e3},
    "power_mw": {"mW": 1.0, "W": 1e3},
}
# HW-NAS-Bench's word for "could not be measured".
_NOT_MEASURABLE = -1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the user says of rows whose file does not: the setting, and `name`, the key of a network without one."""

    name: str
    setting: Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of a file, converted. A metric is None where the file could not or does not tell it.

    kind: block, segment or network; `arch` for an architecture of a family, whose key is what its decoder reads.
    energy_derived: it was computed from power and latency.  sessions: fresh processes, 0 = unknown.
    where: file and line, for messages.
    """

    key: str
    kind: str
    setting: Setting
    latency_ms: Interval | None
    energy_mj: Interval | None = None
    energy_derived: bool = False
    runs: int = 0
    sessions: int = 0
    flags: tuple[str, ...] = ()
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A file as read.

    told: provenance that the file itself holds (runtime, runtime_version, machine, …).
    missing: what a table of ours would know and the file does not tell; each becomes a flag `no_<word>`.
    family: of entries of kind `arch`.  estimated: its numbers come from an analytic tool, not from a device.
    """

    entries: tuple[Entry, ...]
    told: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    family: str = ""
    estimated: bool = False
    notes: tuple[str, ...] = ()


class Importer(Protocol):
    """Reads one format."""

    def read(self, file: Path, given: Given) -> Imported:
        """All rows; ConfigError naming the file and the place where it is wrong."""
        ...


def number(text: str | float, scale: float, where: str) -> float | None:
    """A positive value times scale; None for an empty field, NaN and −1: not measurable, never a latency."""
    try:
        value = float(text) if str(text).strip() else math.nan
    except ValueError as error:
        raise ConfigError(f"{where} is {str(text)[:40]!r}, not a number") from error
    if math.isnan(value) or value == _NOT_MEASURABLE:
        return None
    if not 0 < value < math.inf:
        raise ConfigError(f"{where} is {value:g}; a measurement is positive, -1 or empty means not measurable")
    return value * scale


def text_of(file: Path, max_bytes: int = 1 << 28) -> str:
    """A text file's content; ConfigError where it is absent, too large or no text."""
    try:
        if file.stat().st_size > max_bytes:
            raise ConfigError(f"{file}: {file.stat().st_size} bytes, more than the {max_bytes} that are read")
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read as text ({error})") from error
