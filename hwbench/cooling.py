"""Waits until a board is cool enough to be measured."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from hwbench.board import Board
from hwbench.errors import PermanentDeviceError

logger = logging.getLogger(__name__)

_LONGEST_S = 600.0
_LOOK_S = 2.0
_TELL_S = 30.0


Sensors = tuple[dict[str, float], dict[str, float]]


def cool(board: Board, sleep: Callable[[float], None] = time.sleep, *, seen: Sensors | None = None) -> Sensors:
    """Sensors as `Board.read_sensors` tells them, once no temperature is above the target's limit.

    seen: what they told a moment ago, which over a link costs less than to ask again.
    Raises PermanentDeviceError when ten minutes of rest are not enough.
    """
    limit_c = board.target.limits.temp_c
    waited_s = 0.0
    while True:
        temps, others = seen or board.read_sensors()
        seen = None
        hot = {name: temp for name, temp in temps.items() if limit_c is not None and temp > limit_c}
        if not hot:
            return temps, others
        told = f"{', '.join(f'{name} {temp:.0f} C' for name, temp in hot.items())}, above its limit of {limit_c:g} C"
        if waited_s >= _LONGEST_S:
            raise PermanentDeviceError(
                f"{board.name}: {told}, and {_LONGEST_S / 60:.0f} minutes of rest did not cool it; "
                "give it air, or mend [limits] temp_c of its target"
            )
        if waited_s % _TELL_S < _LOOK_S:
            logger.warning("%s: %s; waiting until it cools", board.name, told)
        sleep(_LOOK_S)
        waited_s += _LOOK_S
