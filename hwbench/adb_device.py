"""A device of an adb server: which one it is, its services as byte streams with deadlines, and what its failures mean.

adbutils finds the server and speaks its requests; the streams are ours, because each must end at a deadline, carry
input and output at once, and never fill the host's memory. Their protocols are those of the Android Open Source
Project: the shell protocol (`shell_protocol.h`: packets of a kind, a length and bytes) and sync (`SYNC.TXT`: files).
"""

from __future__ import annotations

import os
import re
import select
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from adbutils import AdbClient, AdbConnection, AdbError, adb_path
from adbutils.errors import AdbTimeout

from hwbench.errors import ConfigError, DeviceError, PermanentDeviceError, TransientDeviceError

STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
_PIECE = 32 * 1024
_MOST_PACKET_BYTES = 16 << 20
_START_S = 20.0
# The server sends a small file in two pieces, and the second waits until the kernel here has acknowledged the first:
# 40 ms, unless that is asked for at once, each time anew (Linux).
_ACKNOWLEDGE: int | None = getattr(socket, "TCP_QUICKACK", None)
# The serial number of a device that is reached over the network is its address.
_NETWORK = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")


class Stream:
    """The bytes of one service; waiting is sleeping in `poll`.

    end: when every wait is over, as `time.monotonic` tells it; TimeoutError then.
    """

    def __init__(self, connection: AdbConnection, end: float) -> None:
        self._connection = connection
        self._raw: socket.socket = connection.conn
        self._raw.setblocking(False)
        self.end = end

    def exchange(self, out: memoryview) -> tuple[bytes | None, memoryview]:
        """Read or write whatever can be first: (what came, what is left to write).

        b"" is the end of the stream, None that something was written.
        """
        if self._ready(select.POLLIN | (select.POLLOUT if out else 0)) & ~select.POLLOUT:
            return self._raw.recv(1 << 18), out
        return None, out[self._raw.send(out[:_PIECE]) :]

    def send(self, data: bytes) -> None:
        """All of it."""
        left = memoryview(data)
        while left:
            self._ready(select.POLLOUT)
            left = left[self._raw.send(left[:_PIECE]) :]

    def exactly(self, count: int) -> bytes:
        """So many bytes; ConnectionError when the stream ends before."""
        got = bytearray()
        while len(got) < count:
            self._ready(select.POLLIN)
            piece = self._raw.recv(min(count - len(got), 1 << 18))
            if not piece:
                raise ConnectionError("the device closed the stream")
            got += piece
        return bytes(got)

    def close(self) -> None:
        """To the device it means: hang up what runs there."""
        self._connection.close()

    def _ready(self, events: int) -> int:
        if _ACKNOWLEDGE is not None:
            self._raw.setsockopt(socket.IPPROTO_TCP, _ACKNOWLEDGE, 1)
        poller = select.poll()
        poller.register(self._raw, events)
        left_s = self.end - time.monotonic()
        found = poller.poll(int(1000 * left_s + 0.999)) if left_s > 0 else []
        if not found:
            raise TimeoutError
        return found[0][1]


class Packets:
    """Takes the shell protocol apart."""

    def __init__(self) -> None:
        self._left = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """(kind, payload) of every packet that is complete; ConnectionError for what is none."""
        self._left += data
        while len(self._left) >= 5:
            kind, length = struct.unpack_from("<BI", self._left)
            if kind > EXIT or length > _MOST_PACKET_BYTES:
                raise ConnectionError("the device does not speak the shell protocol")
            if len(self._left) < 5 + length:
                return
            payload = bytes(self._left[5 : 5 + length])
            del self._left[: 5 + length]
            yield kind, payload


def packet(kind: int, payload: bytes = b"") -> bytes:
    """One packet of the shell protocol."""
    return struct.pack("<BI", kind, len(payload)) + payload


class AdbDevice:
    """One device of one adb server.

    host, port: of the server; None = as `adb` finds it.  serial: None = $ANDROID_SERIAL or the only one attached.
    """

    def __init__(self, *, host: str | None, port: int | None, serial: str | None) -> None:
        self._client = AdbClient(host=host, port=port)
        self.serial = serial or os.environ.get("ANDROID_SERIAL") or None
        self._met = False
        self._features: frozenset[str] | None = None

    @property
    def where(self) -> str:
        """How messages call it."""
        return f"adb {self.serial}" if self.serial else "adb"

    @contextmanager
    def talking(self, what: str, timeout_s: float) -> Iterator[float]:
        """Gives the deadline to a talk with the device, and says clearly how it failed.

        what: the subject of the message, like `cat`.  FileNotFoundError passes.
        """
        try:
            yield time.monotonic() + timeout_s
        except (TimeoutError, AdbTimeout) as error:
            raise TransientDeviceError(f"{self.where}: {what} did not end within {timeout_s:g} s") from error
        except FileNotFoundError:
            raise
        except AdbError as error:
            raise self._fault(str(error)) from error
        except (OSError, EOFError, ValueError, struct.error) as error:
            self._features = None
            raise TransientDeviceError(f"{self.where}: the link broke during {what} ({error})") from error

    def open(self, service: str, end: float) -> Stream:
        """A service of the device; a device that was lost is looked for again.  To be called while `talking`."""
        self._reach_server(end)
        self._choose()
        try:
            return self._open(service, end)
        except AdbError as error:
            # The server does not look for a network device again by itself; its entry must be taken away first.
            lost = "not found" in str(error) or "offline" in str(error)
            if not lost or self.serial is None or not _NETWORK.fullmatch(self.serial):
                raise
        self._features = None
        self._client.disconnect(self.serial)
        self._client.connect(self.serial, timeout=max(end - time.monotonic(), 0.1))
        return self._open(service, end)

    def features(self, end: float) -> frozenset[str]:
        """What its adb daemon can, like `shell_v2`; asked once a connection.  To be called while `talking`."""
        if self._features is None:
            self.open("sync:", end).close()  # reaches a device that was lost
            with self._connected(end) as connection:
                connection.send_command(f"host-serial:{self.serial}:features")
                connection.check_okay()
                self._features = frozenset(connection.read_string_block().split(","))
        return self._features

    def receive_file(self, path: str, end: float) -> Iterator[bytes]:
        """A file's content, piece by piece; FileNotFoundError when absent.  To be called while `talking`."""
        stream = self._sync(b"RECV", path, end)
        try:
            while True:
                kind, length = struct.unpack("<4sI", stream.exactly(8))
                if kind == b"DONE":
                    return
                if kind not in (b"DATA", b"FAIL") or length > _MOST_PACKET_BYTES:
                    raise ConnectionError("the device does not speak the sync protocol")
                data = stream.exactly(length)
                if kind == b"FAIL":
                    raise self._refused("read", path, data)
                yield data
        finally:
            stream.close()

    def send_file(self, file: BinaryIO, path: str, end: float) -> None:
        """Write a new file (one that is there is replaced) with mode 644.  To be called while `talking`."""
        stream = self._sync(b"SEND", f"{path},{0o100644}", end)
        try:
            while data := file.read(_PIECE):
                stream.send(struct.pack("<4sI", b"DATA", len(data)) + data)
            stream.send(struct.pack("<4sI", b"DONE", int(time.time())))
            kind, length = struct.unpack("<4sI", stream.exactly(8))
            if kind != b"OKAY":
                raise self._refused("write", path, stream.exactly(min(length, 4096)))
        finally:
            stream.close()

    def _sync(self, request: bytes, argument: str, end: float) -> Stream:
        stream = self.open("sync:", end)
        encoded = argument.encode()
        stream.send(struct.pack("<4sI", request, len(encoded)) + encoded)
        return stream

    def _refused(self, doing: str, path: str, message: bytes) -> Exception:
        text = " ".join(message.decode("utf-8", "replace").split())
        if "No such file" in text:
            return FileNotFoundError(path)
        room = "; is there room on the device?" if "No space" in text else ""
        return PermanentDeviceError(f"{self.where}: cannot {doing} {path} ({text}){room}")

    def _open(self, service: str, end: float) -> Stream:
        connection = self._connected(end)
        try:
            for request in (f"host:transport:{self.serial}", service):
                connection.conn.sendall(f"{len(request.encode()):04x}{request}".encode())
                if (answer := connection.read_exact(4)) != b"OKAY":
                    raise AdbError(connection.read_string_block() if answer == b"FAIL" else f"it answered {answer!r}")
        except BaseException:
            connection.close()
            raise
        self._met = True
        return Stream(connection, end)

    def _connected(self, end: float) -> AdbConnection:
        return self._client.make_connection(timeout=max(end - time.monotonic(), 0.1))

    def _reach_server(self, end: float) -> None:
        """See that the server runs; one of this machine is started where it does not."""
        server = (self._client.host, self._client.port)
        try:
            socket.create_connection(server, timeout=max(end - time.monotonic(), 0.1)).close()
            return
        except OSError as error:
            if self._client.host not in ("127.0.0.1", "localhost", "::1"):
                raise TransientDeviceError(
                    f"adb: no adb server answers at {server[0]}:{server[1]} ({error}); "
                    "start it there with `adb -a server nodaemon`"
                ) from error
        try:
            argv = [adb_path(), "-P", str(server[1]), "start-server"]
        except AdbError as error:
            raise PermanentDeviceError(
                "adb: the program adb is not installed here; `apt install adb`, or take Android's platform tools"
            ) from error
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=_START_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TransientDeviceError(f"adb: the adb server does not start ({error})") from error
        if done.returncode != 0:
            said = " ".join(done.stderr.decode("utf-8", "replace").split())
            raise TransientDeviceError(f"adb: the adb server does not start ({said[-300:]})")

    def _choose(self) -> None:
        """The only device that is attached, where none was named."""
        if self.serial is not None:
            return
        attached = self._client.list()
        if len(attached) > 1:
            listed = ", ".join(f"{d.serial} ({d.state})" for d in attached)
            raise ConfigError(
                f"adb: several devices are attached: {listed}; choose one with --serial, or serial = … in [[link]]"
            )
        if not attached:
            raise PermanentDeviceError(
                "adb: no device is attached; plug one in, switch on USB debugging in its developer options, "
                "and see that `adb devices` lists it"
            )
        self.serial = attached[0].serial

    def _fault(self, message: str) -> DeviceError:
        """What the adb server's complaint means, and what to do."""
        text = " ".join(message.split())
        self._features = None
        if "unauthorized" in text:
            return PermanentDeviceError(
                f"{self.where}: the device does not trust this computer yet; unlock it and accept the key it asks about"
            )
        if "no permissions" in text:
            return PermanentDeviceError(
                f"{self.where}: this user may not open the USB device ({text}); add a udev rule or the group plugdev"
            )
        if "not found" in text or "offline" in text:
            gone = "is gone" if self._met else "does not answer"
            return TransientDeviceError(
                f"{self.where}: the device {gone} ({text}); see its cable, USB debugging and `adb devices`"
            )
        return TransientDeviceError(f"{self.where}: {text}")
