"""A process on the board behind one channel: its output, its errors, its end, and how it is killed."""

from __future__ import annotations

import contextlib
import select
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import paramiko

from hwbench.agent.protocol import MAX_LINE_BYTES
from hwbench.errors import TransientDeviceError

_SEND_TIMEOUT_S = 20.0
# After a process has ended its output: for the rest of its errors, and for its exit status.
_LAST_WORDS_S = 2.0
_CHUNK = 1 << 16
# An sshd takes so much before the program reads: sent at once, without a thread that waits for the program.
_INLINE_BYTES = 1 << 13


class Process:
    """What runs on the board; to wait for it is to sleep in `poll`.

    pid: its number on the board once it told it.  most_errors: bytes that are kept of its error stream, the last ones.
    """

    def __init__(self, channel: paramiko.Channel, *, most_errors: int = 1 << 14) -> None:
        self.channel: Any = channel
        self.pid = 0
        self.ended = False
        self.output = bytearray()
        self.errors = bytearray()
        self._most_errors = most_errors
        self._poller = select.poll()
        self._poller.register(channel.fileno(), select.POLLIN)

    def take(self, timeout_s: float) -> bool:
        """Move what came into `output` and `errors`, waiting for it; False when nothing came in time, or ever will."""
        if self.ended or not self._poller.poll(max(0, int(1000 * timeout_s + 0.999))):
            return False
        # In this order: what came before the end must not be taken for nothing.
        over = self.channel.eof_received or self.channel.closed
        if not self._drain() and over:
            # Errors may come after the end of the output, up to the channel's own end, which sets this event.
            self.channel.event.clear()
            if not self.channel.closed:
                self.channel.event.wait(_LAST_WORDS_S)
            self._drain()
            self.ended = True
        return True

    def feed(self, data: bytes, end: float) -> None:
        """Give it all its input, until `end` (monotonic); a process that does not want it is no error.

        What sshd might not take at once is sent beside, since a process may write before it has read.
        """
        if len(data) <= _INLINE_BYTES:
            self._send_all(data, end)
        else:
            threading.Thread(target=self._send_all, args=(data, end), daemon=True).start()

    @property
    def exited(self) -> bool:
        """Whether the board said that it ended, and how."""
        return self.channel.exit_status != -1 or hasattr(self.channel, "exit_signal")

    @property
    def lost(self) -> bool:
        """Whether the channel went down with its connection, before the process had ended."""
        return bool(self.channel.closed and not self.channel.eof_received and not self.exited)

    def status(self, timeout_s: float) -> int | None:
        """Exit status, or minus the signal that killed it; None where it does not end in time or nobody knows."""
        self.channel.status_event.wait(timeout_s)
        name = getattr(self.channel, "exit_signal", None)
        if name is not None:
            with contextlib.suppress(KeyError):  # a signal that this machine does not have
                return -int(signal.Signals[f"SIG{name}"])
            return None
        return None if self.channel.exit_status == -1 else int(self.channel.exit_status)

    def close(self) -> None:
        """Let go of the channel."""
        self._drain()
        self.ended = True
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):  # the connection has gone before
            self.channel.close()

    def _drain(self) -> bool:
        moved = False
        while self.channel.recv_stderr_ready():
            self.errors += self.channel.recv_stderr(_CHUNK)
            del self.errors[: -self._most_errors]
            moved = True
        if self.channel.recv_ready():
            self.output += self.channel.recv(_CHUNK)
            moved = True
        return moved

    def _send_all(self, data: bytes, end: float) -> None:
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            self.channel.settimeout(max(0.01, end - time.monotonic()))
            for at in range(0, len(data), _CHUNK):  # the library copies all that is left for each packet
                self.channel.sendall(data[at : at + _CHUNK])
            self.channel.shutdown_write()


class SshPipe:
    """Lines to and from a process; a LinePipe.

    kill: ends the process and its group, told the process; False when the board could not be asked.
    """

    def __init__(self, process: Process, kill: Callable[[Process], bool]) -> None:
        self._process = process
        self._kill = kill
        self._closed = False
        self._returncode: int | None = None

    @property
    def pid(self) -> int:
        """The process's number on the board, which is its group's too."""
        return self._process.pid

    def send(self, line: bytes) -> None:
        """Write one line."""
        channel = self._process.channel
        channel.settimeout(_SEND_TIMEOUT_S)
        try:
            channel.sendall(line + b"\n")
        except TimeoutError as error:
            raise TransientDeviceError(f"the process does not read what it is sent ({_SEND_TIMEOUT_S:g} s)") from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise TransientDeviceError("the process is gone") from error

    def receive(self, timeout_s: float) -> bytes:
        """The next line; b"" at end of input."""
        end = time.monotonic() + timeout_s
        read = self._process.output
        while True:
            at = read.find(b"\n")
            if max(at, len(read) if at < 0 else 0) > MAX_LINE_BYTES:
                raise TransientDeviceError("the process sent a line longer than 1 MiB")
            if at >= 0:
                line = bytes(read[:at])
                del read[: at + 1]
                return line
            if self._process.lost:
                raise TransientDeviceError("the connection was lost")
            if self._process.ended:
                if read:
                    raise TransientDeviceError("the process ended in the middle of a line")
                return b""
            left_s = end - time.monotonic()
            if not self._process.take(max(0.0, left_s)) and left_s <= 0:
                raise TransientDeviceError(f"no answer within {timeout_s:g} s")

    def stderr_tail(self) -> str:
        """The last lines of the error stream."""
        while self._process.take(0.0):
            pass
        return bytes(self._process.errors[-4000:]).decode("utf-8", "replace").strip()

    def close(self, timeout_s: float = 5.0) -> int | None:
        """End the input, wait, kill the whole group."""
        if self._closed:
            return self._returncode
        self._closed = True
        process = self._process
        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):  # it is gone already
            process.channel.shutdown_write()
        self._returncode = process.status(timeout_s)
        if self._returncode is None and self._kill(process):
            self._returncode = process.status(_LAST_WORDS_S)
        process.close()
        return self._returncode
