"""What turns readings into one power or energy trace: the contract of `meters/`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from hwbench.measurement import Trace
from hwbench.target import Probe


class Meter(Protocol):
    """The agent only reads, so no meter has code on the board.

    rate_hz: how often it has a new value, which says how long a window must be; None = whenever it is read.
    """

    rate_hz: float | None

    def probes(self) -> Sequence[Probe]:
        """What the agent reads inside the window."""

    def start(self) -> None:
        """Only meters with a clock of their own (external, battery) do anything here."""

    def stop(self, marker: Trace) -> Mapping[str, Trace]:
        """The traces such a meter took, aligned to the board's clock by the marker load; else {}."""

    def total(self, traces: Mapping[str, Trace]) -> Trace:
        """Power in mW, or a counter in uJ; rails that overlap are never added."""


class ReadByAgent:
    """The half of a meter whose probes the agent reads: nothing to start here, and no traces of its own."""

    def start(self) -> None:
        """The agent reads; nothing to start."""

    def stop(self, marker: Trace) -> Mapping[str, Trace]:
        """The agent reads; nothing of its own."""
        return {}
