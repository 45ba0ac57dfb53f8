"""Lines that come in over a serial port, each with the time of its arrival; nothing but the system's own terminals."""

from __future__ import annotations

import os
import select
import termios
import threading
import time

from hwbench.errors import PermanentDeviceError

_MOST_BYTES = 256 << 20
_LOOK_S = 0.2


class SerialLines:
    """A port that is read until `stop`; the first line is dropped, as it may have begun before we listened."""

    def __init__(self, port: str, baud: int) -> None:
        speed = getattr(termios, f"B{baud}", None)
        if speed is None:
            raise PermanentDeviceError(f"{port}: no terminal runs at {baud} baud")
        try:
            self._port = os.open(port, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise PermanentDeviceError(
                f"{port} cannot be opened ({error.strerror}); is it plugged in, and may you read it (group dialout)?"
            ) from error
        try:
            _make_raw(self._port, speed)
        except termios.error as error:
            os.close(self._port)
            raise PermanentDeviceError(f"{port} is no serial port ({error.args[-1]})") from error
        self._lines: list[tuple[float, bytes]] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="serial", daemon=True)
        self._thread.start()

    def stop(self) -> list[tuple[float, bytes]]:
        """(arrival in s of this machine's monotonic clock, line) of every whole line but the first."""
        self._done.set()
        self._thread.join()
        os.close(self._port)
        return self._lines[1:]

    def _listen(self) -> None:
        rest, taken = b"", 0
        while not self._done.is_set() and taken < _MOST_BYTES:
            if not select.select([self._port], [], [], _LOOK_S)[0]:
                continue
            try:
                part = os.read(self._port, 1 << 12)
            except BlockingIOError:
                continue
            except OSError:  # unplugged: what came so far is kept, and a curve that ends early is refused later
                return
            if not part:
                return
            now = time.monotonic()
            taken += len(part)
            *lines, rest = (rest + part).split(b"\n")
            self._lines += [(now, line.rstrip(b"\r")) for line in lines]


def _make_raw(port: int, speed: int) -> None:
    """Eight bits, no echo, no translation; what had come before is thrown away."""
    iflag, _, cflag, _, _, _, chars = termios.tcgetattr(port)
    iflag &= ~(termios.IXON | termios.IXOFF | termios.ICRNL | termios.INLCR | termios.IGNCR | termios.ISTRIP)
    cflag = (cflag & ~(termios.CSIZE | termios.PARENB | termios.CSTOPB)) | termios.CS8 | termios.CLOCAL | termios.CREAD
    termios.tcsetattr(port, termios.TCSANOW, [iflag, 0, cflag, 0, speed, speed, chars])
    termios.tcflush(port, termios.TCIFLUSH)
