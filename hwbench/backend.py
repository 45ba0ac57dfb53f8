"""A runtime, host half: the contract of `backends/`. It chooses a format, compiles, pushes, opens sessions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hwbench.link import Link
from hwbench.session import Prepared, Session
from hwbench.setting import Setting
from hwbench.workload import Bundle, Workload


class Backend(Protocol):
    """One runtime on one board."""

    name: str

    def formats(self, precision: str) -> tuple[str, ...]:
        """Artifact formats this runtime takes at that precision, best first; ConfigError for one it cannot."""

    def prepare(self, link: Link, bundle: Bundle, workload: Workload, setting: Setting) -> Prepared:
        """The compiled file on the board, plus what the compiler said."""

    def prepare_together(
        self, link: Link, bundle: Bundle, workloads: Sequence[Workload], setting: Setting
    ) -> list[Prepared]:
        """All workloads of one plan, in their order, for one session that holds them at once.

        An accelerator with memory of its own compiles them so that they share it instead of evicting each other.
        """

    def session(self, link: Link, setting: Setting) -> Session:
        """A fresh process on the board; to be used as a context manager."""
