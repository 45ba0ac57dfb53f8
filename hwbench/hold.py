"""Keeps a board ours while its link comes and goes, and leaves it as it was found."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from hwbench.board_lock import BoardLock
from hwbench.errors import ConfigError, DeviceError, TransientDeviceError
from hwbench.link import Link
from hwbench.operating_point import OperatingPoint

logger = logging.getLogger(__name__)

# How long a board that was lost is waited for, and how long on the way out, when only clocks are to be put back.
RECONNECT_S, LEAVE_S = 120.0, 30.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 10.0
_COMMAND_S = 10.0


class Hold:
    """A board that was locked and may be lost.

    lock: None = nobody else can come, as with a simulated board.  point: its clocks.  board: how messages name it.
    """

    def __init__(self, link: Link, lock: BoardLock | None, point: OperatingPoint, board: str) -> None:
        self._link, self._lock, self._point, self._board = link, lock, point, board

    @property
    def ours(self) -> bool:
        """Whether it is still locked for us; a link that makes itself anew does not keep the lock."""
        return self._lock is None or self._lock.held()

    def recover(self, *, within_s: float, sleep: Callable[[float], None]) -> bool:
        """Wait until the board answers and is locked for us, with its restore record; whether it had been lost.

        Raises TransientDeviceError when it does not answer in time, or when somebody else has taken it meanwhile.
        """
        end, pause_s = time.monotonic() + within_s, _FIRST_PAUSE_S
        while True:
            try:
                self._link.run(["true"], timeout_s=_COMMAND_S)
                if self._lock is None or self._lock.held():
                    return False
                self._lock.renew()
                self._point.remember()
                logger.info("%s is back", self._board)
                return True
            except (TransientDeviceError, ConfigError) as error:
                if time.monotonic() + pause_s > end:
                    raise TransientDeviceError(
                        f"{self._board}: {within_s:.0f} s were not enough to get it back ({error}); what was measured "
                        "is kept: see what it says, then go on with --resume"
                    ) from error
                logger.info("%s: %s; trying again in %.1f s", self._board, error, pause_s)
            sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def leave(self, *, quiet: bool, within_s: float, way_out: str) -> None:
        """Put the clocks back, also when the link has to be made again for it.

        quiet: a board that cannot be left as found is told, not raised, since something else is the matter already.
        way_out: the command that puts them back later.
        """
        if not self._point.touched:
            return
        try:
            # First of all it must be ours: whoever took it meanwhile has clocks and a record of his own.
            self.recover(within_s=within_s, sleep=time.sleep)
            try:
                self._point.put_back()
            except TransientDeviceError:
                self.recover(within_s=within_s, sleep=time.sleep)
                self._point.put_back()
        except DeviceError as error:
            told = (
                f"{self._board} was left with its clocks set ({error}); whoever opens it next puts them back, "
                f"as does: {way_out}"
            )
            if not quiet:
                raise type(error)(told) from error
            logger.error("%s", told)
