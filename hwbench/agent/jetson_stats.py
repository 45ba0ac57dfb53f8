"""Rails as the package jetson-stats tells them; imported only where a target asks for `jtop:`.

Each rail's `power` is the reading, in mW; its `avg` is a running (power + avg) / 2 and no average, and its `tot` may
add rails that overlap, so neither is passed on.
"""

from typing import Any


class Rails:
    """A client of the board's jtop service; ImportError without the package, OSError where no service answers."""

    def __init__(self) -> None:
        from jtop import JtopException, jtop

        self._client: Any = jtop()
        try:
            self._client.start()
            self._client.ok()  # waits for the first values
        except JtopException as error:
            raise OSError("jtop does not answer: {}".format(error)) from error

    def read(self) -> bytes:
        """A line `NAME=123mW` of each rail, with the last value that the service sent."""
        lines = []
        for name, rail in self._client.power.get("rail", {}).items():
            power = rail.get("power")
            # A rail that is switched off is told without a number.
            if isinstance(power, (int, float)) and not isinstance(power, bool):
                lines.append("{}={}mW\n".format(name, power))
        return "".join(lines).encode("utf-8")

    def close(self) -> None:
        """Leave the service."""
        self._client.close()
