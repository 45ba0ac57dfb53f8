"""Lines to and from a process on an adb device: the link's pipe over one stream."""

from __future__ import annotations

import re
import time
from collections import deque
from contextlib import suppress

from hwbench.adb_device import CLOSE_STDIN, EXIT, STDERR, STDIN, STDOUT, AdbDevice, Packets, Stream, packet
from hwbench.agent.protocol import MAX_LINE_BYTES
from hwbench.errors import DeviceError, TransientDeviceError

_SMALL_S = 20.0
_PIECE = 32 * 1024


class ShellPipe:
    """A process over the shell protocol, or over a plain stream where the device is too old for it.

    mark: of a plain stream: behind it stand the status and then the error stream; its input ends with the stream only.
    pid: of the process's group; None until it is known.  started: when it was, as the kernel counts; "" = unknown.
    gone: closed, and known to have ended or been killed.
    """

    def __init__(self, device: AdbDevice, stream: Stream, mark: str | None = None) -> None:
        self._device, self._stream = device, stream
        self._packets = Packets()
        self._mark = None if mark is None else re.compile(rb"%s ([0-9]{1,3})\n" % mark.encode())
        self._read = bytearray()
        self._errors: deque[bytes] = deque(maxlen=64)
        self._status: int | None = None
        self._ended = self._closed = False
        self.pid: int | None = None
        self.started = ""
        self.gone = False

    def send(self, line: bytes) -> None:
        """Write one line."""
        self._take(0.0)
        if self._ended or self._closed:
            raise TransientDeviceError(f"{self._device.where}: the process is gone")
        with self._device.talking("sending a line", _SMALL_S) as end:
            self._stream.end = end
            data = line + b"\n"
            for at in range(0, len(data), _PIECE):
                piece = data[at : at + _PIECE]
                self._stream.send(packet(STDIN, piece) if self._mark is None else piece)

    def receive(self, timeout_s: float) -> bytes:
        """The next line; b"" at end of input."""
        end = time.monotonic() + timeout_s
        while True:
            at = self._read.find(b"\n")
            if max(at, len(self._read) if at < 0 else 0) > MAX_LINE_BYTES:
                raise TransientDeviceError("the process sent a line longer than 1 MiB")
            if at >= 0:
                line = bytes(self._read[:at])
                del self._read[: at + 1]
                return line
            if self._ended:
                if self._status is None:
                    raise TransientDeviceError(f"{self._device.where}: the link to the process is lost")
                if self._read:
                    raise TransientDeviceError("the process ended in the middle of a line")
                return b""
            if not self._take(end - time.monotonic()):
                raise TransientDeviceError(f"{self._device.where}: no answer within {timeout_s:g} s")

    def stderr_tail(self) -> str:
        """The last lines of the error stream."""
        while self._take(0.0):
            pass
        return b"".join(self._errors)[-4000:].decode("utf-8", "replace").strip()

    def close(self, timeout_s: float = 5.0) -> int | None:
        """End the input, wait, kill the whole group; None where the status is not known."""
        if self._closed:
            return self._status
        with suppress(DeviceError):
            if not self._ended and self._mark is None:
                with self._device.talking("ending the input", max(timeout_s, 0.1)) as end:
                    self._stream.end = end
                    self._stream.send(packet(CLOSE_STDIN))
                self._drain(timeout_s)
        if self._mark is not None:
            # All that ends its input; what it still says goes unheard.
            self._stream.close()
            self._ended = True
        with suppress(DeviceError):
            # Of a link that was lost too: what it left running would be measured beside the next.
            if self._status is None and self.pid is not None:
                self._kill(self.pid, 0.0 if self._mark is None else timeout_s)
                self._drain(1.0)
        self.gone = self.gone or self._status is not None
        self._closed = self._ended = True
        self._stream.close()
        return self._status

    def end_left(self) -> None:
        """Kill what could not be killed when this was closed, as the device was away; raises while it still is."""
        if self._closed and not self.gone and self.pid is not None:
            self._kill(self.pid, 0.0)

    def _kill(self, group: int, wait_s: float) -> None:
        """kill -9 what is left of the group after so many seconds."""
        tries = (
            f"i=0; while [ $i -lt {int(10 * wait_s)} ] && kill -0 -{group} 2>/dev/null; do sleep 0.1; i=$((i+1)); done"
        )
        # By now its number may be another's: the device may have started anew.
        same = f'read -r s </proc/{group}/stat; set -- ${{s##*) }}; [ "${{20}}" = {self.started} ] && '
        kill = f"{same if self.started else ''}kill -9 -{group}; echo done"
        with self._device.talking("kill", _SMALL_S + wait_s) as end:
            stream = self._device.open(f"exec:{{ {tries}; {kill}; }} 2>/dev/null", end)
            said = b""
            try:
                while piece := stream.exchange(memoryview(b""))[0]:
                    said += piece
            finally:
                stream.close()
            if b"done" not in said:
                raise ConnectionError("the device closed the stream")
        self.gone = True

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
            data = self._stream.exchange(memoryview(b""))[0] or b""
            self._ended = not data
            if self._mark is None:
                self._unpack(data)
            else:
                self._look_for_mark(data)
        except TimeoutError:
            return False
        except OSError:
            self._ended = True
        return True

    def _unpack(self, data: bytes) -> None:
        for kind, payload in self._packets.feed(data):
            if kind == STDOUT:
                self._read += payload
            elif kind == STDERR:
                self._errors.append(payload)
            elif kind == EXIT and payload:
                self._status, self._ended = payload[0], True

    def _look_for_mark(self, data: bytes) -> None:
        if self._status is not None:
            self._errors.append(data)
            return
        self._read += data
        found = self._mark.search(self._read) if self._mark is not None else None
        if found is not None:
            self._status = int(found[1])
            self._errors.append(bytes(self._read[found.end() :]))
            del self._read[found.start() :]


def start_of(stat: bytes) -> str:
    """When a process started, from the end of its line in /proc (field 22 of 52, in ticks); "" where it is not told."""
    fields = stat.rpartition(b") ")[2].split()
    return fields[19].decode() if len(fields) > 19 and fields[19].isdigit() else ""
