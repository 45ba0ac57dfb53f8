"""The restore record: what every clock was before the first was set, kept on the board until all are put back.

It lies where the clocks are, so whoever opens the board after a crash, a lost link or a `kill -9` finds it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from hwbench.clock import Clock
from hwbench.errors import DeviceError, PermanentDeviceError, TransientDeviceError
from hwbench.link import Link

States = Mapping[str, Mapping[str, str]]
_NAME = "restore.json"
_COMMAND_S = 10.0


class RestoreRecord:
    """The record of one board.  board: how messages name it."""

    def __init__(self, link: Link, board: str) -> None:
        self._link, self._board = link, board

    @property
    def path(self) -> str:
        """Where it lies on the board."""
        return f"{self._link.workdir()}/{_NAME}"

    def write(self, states: States) -> None:
        """Keep the states by clock name; replaced in one step, so a record is whole or it is not there."""
        part = f"{self.path}.part"
        self._link.write(part, json.dumps(states).encode())
        done = self._link.run(["mv", "-f", part, self.path], timeout_s=_COMMAND_S)
        if done.returncode != 0:
            raise PermanentDeviceError(
                f"{self._board}: cannot keep {self.path}, without which no clock is touched "
                f"({done.stderr[-200:].decode('utf-8', 'replace').strip()}); is the disk full?"
            )

    def read(self) -> dict[str, dict[str, str]] | None:
        """The states by clock name; None when there is no record.

        Raises PermanentDeviceError when it is damaged: nobody knows then what the clocks were, and nothing is guessed.
        """
        try:
            text = self._link.read(self.path)
        except FileNotFoundError:
            return None
        try:
            states = json.loads(text)
            if all(isinstance(v, str) for state in states.values() for item in state.items() for v in item):
                return {name: dict(state) for name, state in states.items()}
        except (ValueError, AttributeError):
            pass
        raise PermanentDeviceError(
            f"{self._board}: the restore record {self.path} is damaged, so its clocks cannot be put back; "
            "reset them by hand (or restart the board), then remove that file"
        )

    def put_back(self, clocks: Sequence[Clock]) -> dict[str, dict[str, str]]:
        """Put every clock of the record back; returns what was put back, {} without a record.

        In the order in which they are set: a power mode comes first, as switching it moves the limits of the others.

        A clock that cannot be put back does not keep the others from it: it stays in the record, for whoever opens the
        board next, and PermanentDeviceError names it.  A link that is lost meanwhile leaves the whole record.
        """
        states = self.read()
        if states is None:
            return {}
        failed: dict[str, str] = {}
        for clock in clocks:
            if clock.name in states:
                try:
                    clock.restore(states[clock.name])
                except TransientDeviceError:
                    raise
                except DeviceError as error:
                    failed[clock.name] = str(error)
        for name in states.keys() - {clock.name for clock in clocks}:
            failed[name] = f"the target has no such clock any more; it was {dict(states[name])}"
        if failed:
            self.write({name: states[name] for name in failed})
            told = "; ".join(f"{name}: {why}" for name, why in sorted(failed.items()))
            raise PermanentDeviceError(
                f"{self._board}: not put back: {told}; all others are as found. Mend what is wrong and open the board "
                f"again, or reset by hand and remove {self.path} on the board"
            )
        self.remove()
        return states

    def remove(self) -> None:
        """Take the record away; harmless when there is none."""
        self._link.run(["rm", "-f", self.path], timeout_s=_COMMAND_S)
