"""The clocks of an opened board: set together, read back, watched, and put back from the restore record."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Mapping, Sequence

from hwbench.clock import Clock
from hwbench.errors import ConfigError
from hwbench.restore import RestoreRecord
from hwbench.setting import Setting
from hwbench.target import Probe

logger = logging.getLogger(__name__)

# A clock that was set and reads further from its value has moved; firmware that counts cycles reads this close.
_TOLERANCE = 0.02
_TO_MHZ = {"mhz": 1.0, "khz": 1e-3, "hz": 1e-6}


class OperatingPoint:
    """Where the clocks of a board stand.

    clocks: in the order in which they are set.  record: what each was before, written before the first is set.
    read: tells a probe's value, None where it does not answer.
    """

    def __init__(
        self, clocks: Sequence[Clock], record: RestoreRecord, read: Callable[[Probe], float | None], board: str
    ) -> None:
        self._clocks, self._record, self._read, self._board = tuple(clocks), record, read, board
        self._found: dict[str, dict[str, str]] = {}
        self._set: dict[str, float | str] = {}
        self._switch_ms: dict[str, list[float]] = {}

    @property
    def touched(self) -> bool:
        """Whether there may be something to put back."""
        return bool(self._found)

    @property
    def switch_ms(self) -> dict[str, float]:
        """Median time that each clock took to go to another value, of those that were switched."""
        return {name: statistics.median(times) for name, times in self._switch_ms.items()}

    def apply(self, setting: Setting) -> dict[str, float | str]:
        """Set all clocks that the setting names, put back those that only an earlier one named; clocks as read back."""
        wanted = dict(setting.clocks)
        unknown = set(wanted) - {clock.name for clock in self._clocks}
        if unknown:
            raise ConfigError(f"{self._board} has no clock {sorted(unknown)[0]!r}; name it in its TOML")
        if wanted and not self._found:
            self._found = {clock.name: dict(clock.state()) for clock in self._clocks}
            self._record.write(self._found)
        for clock in self._clocks:
            if clock.name in self._set.keys() - wanted.keys():
                clock.restore(self._found[clock.name])
                del self._set[clock.name]
        for clock in self._clocks:
            if clock.name in wanted:
                self._switch(clock, wanted[clock.name])
        return wanted | self.read()

    def _switch(self, clock: Clock, value: float | str) -> None:
        before = self._set.get(clock.name)
        # Noted first: a clock that was refused half-way is put back too.
        self._set[clock.name] = value
        switch_ms = clock.set(value)
        if before != value:
            self._switch_ms.setdefault(clock.name, []).append(switch_ms)
        logger.debug("clock %s set to %s in %.1f ms", clock.name, value, switch_ms)

    def read(self) -> dict[str, float | str]:
        """Present clocks in MHz, of those that tell."""
        found: dict[str, float | str] = {}
        for clock in self._clocks:
            probe = clock.probe()
            value = None if probe is None else self._read(probe)
            if probe is not None and value is not None:
                found[clock.name] = value * _TO_MHZ.get(probe.unit, 1.0)
        return found

    def moved(self, setting: Setting, applied: Mapping[str, float | str]) -> tuple[dict[str, float | str], list[str]]:
        """(clocks as they read now, those that are no longer as set).

        applied: as `apply` told them; a clock that read otherwise then (some read low while nothing runs) may do so.
        """
        now = self.read()
        names: list[str] = []
        for name, value in setting.clocks:
            known = [v for v in (value, applied.get(name)) if isinstance(v, (int, float))]
            read = now.get(name)
            if isinstance(read, float) and known and all(abs(read - v) > _TOLERANCE * v for v in known):
                names.append(name)
        return dict(applied) | now, names

    def remember(self) -> None:
        """Write the record again: a board that was away may have lost it."""
        if self._found:
            self._record.write(self._found)

    def put_back(self) -> Mapping[str, Mapping[str, str]]:
        """Put back what the record says and remove it; returns what was put back."""
        back = self._record.put_back(self._clocks)
        self._found, self._set = {}, {}
        return back
