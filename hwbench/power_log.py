"""Lines of numbers that a meter prints or writes, as times and powers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hwbench.errors import PermanentDeviceError

# What a column may be: what it counts towards, and its factor to s, mW, V, mA.
COLUMNS = {
    "t_s": ("time", 1.0), "t_ms": ("time", 1e-3),
    "power_mw": ("power", 1.0), "power_w": ("power", 1e3),
    "volt_v": ("volt", 1.0), "volt_mv": ("volt", 1e-3),
    "amp_a": ("amp", 1e3), "amp_ma": ("amp", 1.0),
    "_": ("", 0.0),
}  # fmt: skip
DEFAULT = ("t_s", "power_mw")
# A serial line loses a byte now and then; more unreadable lines than this share and it is another format.
_MOST_UNREADABLE = 0.01


def check(columns: Sequence[str]) -> None:
    """ValueError unless the columns tell one time and one power (or volts and amperes)."""
    told = [COLUMNS[name][0] for name in columns if name in COLUMNS and name != "_"]
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        raise ValueError(f"unknown column {unknown[0]!r} (known: {', '.join(COLUMNS)})")
    if sorted(told) not in (["power", "time"], ["amp", "time", "volt"]):
        raise ValueError("columns must tell a time, and a power or volts and amperes, each once")


def parse(text: str, columns: Sequence[str] = DEFAULT) -> tuple[np.ndarray, np.ndarray]:
    """Times (s) and powers (mW) in the order of time; a header and a last line cut short are left out.

    columns: what stands between the commas, `_` for what does not matter.
    Raises PermanentDeviceError naming the first line that has other numbers, or when there are none.
    """
    lines = text.splitlines()
    if lines and not text.endswith("\n"):
        lines.pop()
    rows: list[tuple[float, float]] = []
    unreadable: list[int] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = _row(line, columns)
        if row is not None:
            rows.append(row)
        elif number > 1:
            unreadable.append(number)
    if len(unreadable) > _MOST_UNREADABLE * len(lines):
        first = unreadable[0]
        raise PermanentDeviceError(
            f"meter external: line {first} is {lines[first - 1][:40]!r}, expected `{','.join(columns)}`"
        )
    if not rows:
        raise PermanentDeviceError(f"meter external: there was no `{','.join(columns)}` line")
    table = np.array(sorted(rows))
    return table[:, 0], table[:, 1]


def _row(line: str, columns: Sequence[str]) -> tuple[float, float] | None:
    """(s, mW), or None for a line that is none."""
    parts = line.split(",")
    if len(parts) != len(columns):
        return None
    told: dict[str, float] = {}
    for part, name in zip(parts, columns, strict=True):
        if name == "_":
            continue
        try:
            value = float(part)
        except ValueError:
            return None
        kind, factor = COLUMNS[name]
        told[kind] = value * factor
    power_mw = told["power"] if "power" in told else told["volt"] * told["amp"]
    return (told["time"], power_mw) if math.isfinite(told["time"]) and math.isfinite(power_mw) else None
