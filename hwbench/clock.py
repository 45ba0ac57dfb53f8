"""One knob of DVFS: the contract of `clocks/`; used over the Link before and after windows, never inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from hwbench.target import Probe


class Clock(Protocol):
    """One clock of a board."""

    name: str

    def grid(self) -> tuple[float | str, ...]:
        """What the board offers under the present power mode, MHz or mode names."""

    def state(self) -> Mapping[str, str]:
        """All that `restore` needs."""

    def set(self, value: float | str) -> float:
        """Set, read back, verify; returns switch_ms. PermanentDeviceError when the board does not take it."""

    def restore(self, state: Mapping[str, str]) -> None:
        """Put back what `state` found."""

    def probe(self) -> Probe | None:
        """How the agent reads this clock inside a window, where it can."""
