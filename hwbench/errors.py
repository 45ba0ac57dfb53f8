"""Every error a user may meet, each with the exit code that the command line returns for it.

Messages say what, where, what next. Libraries raise; only a `cli.py` exits.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HwbenchError(Exception):
    """Base of all expected errors; `exit_code` is what the process returns when it reaches the command line."""

    exit_code = 2


class Finding(HwbenchError):
    """The command worked and found something: a regression, a failed check."""

    exit_code = 1


class ConfigError(HwbenchError):
    """The user's input is wrong: an unknown name, a broken file, contradictory options."""

    exit_code = 2


class EvidenceError(ConfigError):
    """Numbers of different origin were about to be combined as if they were one."""


class MissingRows(ConfigError):
    """A table lacks rows that a question needs; `keys` names them all, the message names ten and the way out."""

    def __init__(self, message: str, keys: tuple[str, ...]) -> None:
        super().__init__(message)
        self.keys = keys


class Inconclusive(HwbenchError):
    """The question cannot be answered with this data: another machine, too much noise."""

    exit_code = 3


class DeviceError(HwbenchError):
    """A board or a runtime failed."""

    exit_code = 4


class TransientDeviceError(DeviceError):
    """Worth another try: a lost link, an agent that died."""


class PermanentDeviceError(DeviceError):
    """Not worth another try: a runtime that is absent, a graph it cannot run."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The tail of a message about an unknown name: ` — did you mean 'x'? known: …`."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" — did you mean {close[0]!r}?" if close else ""
    return f"{hint} (known: {', '.join(names) if names else 'none'})"
