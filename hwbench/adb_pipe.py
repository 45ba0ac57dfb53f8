"""Lines to and from a process on an adb device: the link's pipe over one stream of the shell protocol."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress

from hwbench.adb_device import CLOSE_STDIN, EXIT, STDERR, STDIN, STDOUT, AdbDevice, Packets, Stream, packet
from hwbench.agent.protocol import MAX_LINE_BYTES
from hwbench.errors import DeviceError, TransientDeviceError

_SMALL_S = 20.0
_PIECE = 32 * 1024


class ShellPipe:
    """Lines to and from a process on the device, over one stream of the shell protocol.

    pid: of the process and of its group; None until it is known.
    """

    def __init__(self, device: AdbDevice, stream: Stream) -> None:
        self._device, self._stream = device, stream
        self._packets = Packets()
        self._read = bytearray()
        self._errors: deque[bytes] = deque(maxlen=64)
        self._status: int | None = None
        self._ended = self._closed = False
        self.pid: int | None = None

    def send(self, line: bytes) -> None:
        """Write one line."""
        self._take(0.0)
        if self._ended or self._closed:
            raise TransientDeviceError(f"{self._device.where}: the process is gone")
        with self._device.talking("sending a line", _SMALL_S) as end:
            self._stream.end = end
            data = line + b"\n"
            for at in range(0, len(data), _PIECE):
                self._stream.send(packet(STDIN, data[at : at + _PIECE]))

    def receive(self, timeout_s: float) -> bytes:
        """The next line; b"" at end of input."""
        end = time.monotonic() + timeout_s
        while True:
            at = self._read.find(b"\n")
            if max(at, len(self._read) if at < 0 else 0) > MAX_LINE_BYTES:
                raise TransientDeviceError("the process sent a line longer than 1 MiB")
            if at >= 0 or self._ended:
                line = bytes(self._read[: at if at >= 0 else None])
                del self._read[: at + 1 if at >= 0 else None]
                return line
            if not self._take(end - time.monotonic()):
                raise TransientDeviceError(f"{self._device.where}: no answer within {timeout_s:g} s")

    def stderr_tail(self) -> str:
        """The last lines of the error stream."""
        while self._take(0.0):
            pass
        return b"".join(self._errors)[-4000:].decode("utf-8", "replace").strip()

    def close(self, timeout_s: float = 5.0) -> int | None:
        """End the input, wait, kill the whole group."""
        if self._closed:
            return self._status
        with suppress(DeviceError):
            if not self._ended:
                with self._device.talking("ending the input", max(timeout_s, 0.1)) as end:
                    self._stream.end = end
                    self._stream.send(packet(CLOSE_STDIN))
            self._drain(timeout_s)
            if not self._ended and self.pid is not None:
                self._kill(self.pid)
                self._drain(1.0)
        self._closed = self._ended = True
        self._stream.close()
        return self._status

    def _kill(self, pid: int) -> None:
        with self._device.talking("kill", _SMALL_S) as end:
            stream = self._device.open(f"shell,v2,raw:kill -9 -{pid}", end)
            try:
                while stream.exchange(memoryview(b""))[0]:
                    pass
            finally:
                stream.close()

    def _drain(self, timeout_s: float) -> None:
        """Throw away what still comes until the process has ended."""
        end = time.monotonic() + timeout_s
        while not self._ended and self._take(end - time.monotonic()):
            self._read.clear()

    def _take(self, timeout_s: float) -> bool:
        """Read what is there, waiting for it; False when nothing came in time, or nothing more will."""
        if self._ended or self._closed:
            return False
        self._stream.end = time.monotonic() + max(timeout_s, 0.001)
        try:
            data = self._stream.exchange(memoryview(b""))[0]
        except TimeoutError:
            return False
        except OSError:
            data = b""
        self._ended = not data
        for kind, payload in self._packets.feed(data or b""):
            if kind == STDOUT:
                self._read += payload
            elif kind == STDERR:
                self._errors.append(payload)
            elif kind == EXIT and payload:
                self._status, self._ended = payload[0], True
        return True
