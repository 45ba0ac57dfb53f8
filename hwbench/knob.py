"""What clocks that can be set share: values of the board against those of the TOML, and waiting until one is set."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from hwbench.errors import ConfigError, PermanentDeviceError

# Boards take some milliseconds; a governor may look once in a tenth of a second.
_PATIENCE_S, _PAUSE_S = 1.0, 0.01


def offered(name: str, declared: Sequence[float], board: Sequence[float], tolerance_mhz: float) -> tuple[float, ...]:
    """The grid of the TOML, or the board's where that names none, in MHz.

    Raises ConfigError naming the board's nearest value when the board lacks one.
    """
    if not declared:
        return tuple(sorted(board))
    for value in declared:
        nearest_mhz(name, value, board, tolerance_mhz)
    return tuple(declared)


def nearest_mhz(
    name: str, value: float, steps: Sequence[float], tolerance_mhz: float, *, whose: str = "the board"
) -> float:
    """What the board itself calls this value; ConfigError when it has none so near.

    whose: the steps are, for the message.
    """
    found = min(steps, key=lambda own: abs(own - value))
    if abs(found - value) > tolerance_mhz:
        raise ConfigError(
            f"clock {name}: {whose} has no {value:g} MHz; its nearest is {found:g} MHz "
            f"(it offers {min(steps):g} to {max(steps):g} MHz in {len(steps)} steps)"
        )
    return found


def chosen(name: str, value: float | str, grid: Sequence[float], steps: Sequence[float], tolerance_mhz: float) -> float:
    """What the board itself calls a value of the grid; ConfigError names the nearest."""
    if isinstance(value, str):
        raise ConfigError(f"clock {name} takes MHz, not {value!r}")
    nearest_mhz(name, value, grid, tolerance_mhz, whose="the target's grid")
    return nearest_mhz(name, value, steps, tolerance_mhz)


def settle(name: str, wanted_mhz: float, tolerance_mhz: float, read_mhz: Callable[[], float]) -> None:
    """Wait until the clock reads as it was set; PermanentDeviceError says what it reads instead."""
    end = time.monotonic() + _PATIENCE_S
    while True:
        found = read_mhz()
        if math.isfinite(found) and abs(found - wanted_mhz) <= tolerance_mhz:
            return
        if time.monotonic() >= end:
            raise PermanentDeviceError(
                f"clock {name}: set to {wanted_mhz:g} MHz, but the board runs at {found:g} MHz; "
                "something else (a power mode, a thermal limit, another program) holds it"
            )
        time.sleep(_PAUSE_S)


def number(name: str, path: str, text: str) -> float:
    """A positive number in a file of the board; PermanentDeviceError for anything else."""
    try:
        value = float(text.strip("\0\n "))
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value <= 0:
        raise PermanentDeviceError(f"clock {name}: {path} says {text.strip()[:40]!r}, which is no frequency")
    return value
