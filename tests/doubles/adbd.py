"""A phone that speaks the ADB wire protocol over TCP, for the real adb server to connect to.

    python -m tests.doubles.adbd --root DIR [--port N] [--path DIR] [--features shell_v2,cmd] [--unauthorized]

prints its port, and runs what it is asked for real: commands in `sh` with the stand-ins of --path before the system's
programs, files of the sync protocol below --root. Folders of --root hide those of the same name at the top of the file
system, so that `/data/local/tmp` and `/sys` are the phone's. Lines on its standard input make accidents happen:
`drop` (the connection breaks now), `drop N TEXT` (it breaks N bytes into the answer to the next service that contains
TEXT), `due` (whether that is still to come), `leave` and `return` (unplugged and plugged in again). It ends with its
input.

Message: command, arg0, arg1, length, sum of the bytes, ~command, each 32 bits little-endian, then the payload.
Source: the documents of the Android Open Source Project (`protocol.txt`, `SYNC.TXT`, `shell_protocol.h`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import signal
import stat
import struct
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path

_VERSION, _MAX_PAYLOAD = 0x01000001, 256 * 1024
_TOKEN = b"\x5a" * 20
_STDIN, _STDOUT, _STDERR, _EXIT, _CLOSE_STDIN = range(5)
_PIECE = 64 * 1024


@dataclass(slots=True)
class Phone:
    """What the phone is, and what shall happen to it.

    drop: (bytes of the answer still to be sent, text that the service contains); None = nothing happens.
    """

    root: Path
    path: str
    features: str
    unauthorized: bool
    drop: tuple[int, str] | None = None
    connections: set[Connection] = field(default_factory=set)

    def local(self, text: str) -> str:
        """A command or path of the phone as one of this machine: the phone's folders lie below its root."""
        tops = "|".join(re.escape(p.name) for p in self.root.iterdir() if p.is_dir())
        return re.sub(rf"(?<![\w.\-/])/(?=(?:{tops})(?![\w.\-]))", f"{self.root}/", text) if tops else text


class Connection:
    """One host: reads its messages, and gives each stream its own task."""

    def __init__(self, phone: Phone, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.phone = phone
        self._reader, self._writer = reader, writer
        self._streams: dict[int, Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Answer until the host is gone."""
        self.phone.connections.add(self)
        try:
            while True:
                await self._message()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.phone.connections.discard(self)
            self.drop()
            for stream in list(self._streams.values()):
                stream.end()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def drop(self) -> None:
        """Break the connection in the middle of whatever goes on."""
        if (transport := self._writer.transport) is not None:
            transport.abort()

    def send(self, command: bytes, arg0: int, arg1: int, data: bytes = b"") -> None:
        """One message to the host."""
        number = int.from_bytes(command, "little")
        head = struct.pack("<4s5I", command, arg0, arg1, len(data), sum(data) & 0xFFFFFFFF, number ^ 0xFFFFFFFF)
        if not self._writer.is_closing():
            self._writer.write(head + data)

    async def _message(self) -> None:
        head = await self._reader.readexactly(24)
        command, arg0, arg1, length, _sum, _magic = struct.unpack("<4s5I", head)
        data = await self._reader.readexactly(length)
        if command in (b"CNXN", b"AUTH"):
            # A token that no key of the host satisfies: the question stands on the phone's screen for ever.
            banner = f"device::ro.product.name=double;ro.product.model=Double;features={self.phone.features}"
            if not self.phone.unauthorized:
                self.send(b"CNXN", _VERSION, _MAX_PAYLOAD, banner.encode())
            elif arg0 != 3:
                self.send(b"AUTH", 1, 0, _TOKEN)
        elif command == b"OPEN":
            self._open(arg0, data.rstrip(b"\0").decode())
        elif (stream := self._streams.get(arg1)) is not None:
            if command == b"WRTE":
                stream.incoming.put_nowait(data)
            elif command == b"OKAY":
                stream.taken.set()
            elif command == b"CLSE":
                stream.end()

    def _open(self, remote: int, service: str) -> None:
        stream = Stream(self, len(self._streams) + 1, remote, service)
        name, _, argument = service.partition(":")
        kind, *options = name.split(",")
        kinds: dict[str, Callable[[Stream, str], Coroutine[None, None, None]]] = {
            "shell": run_framed if "v2" in options else run_plain,
            "exec": run_plain,
            "sync": sync,
        }
        known = "shell_v2" in self.phone.features.split(",") or not options
        if kind not in kinds or not known:
            self.send(b"CLSE", 0, remote)
            return
        self._streams[stream.number] = stream
        self.send(b"OKAY", stream.number, remote)
        task = asyncio.create_task(self._serve(stream, kinds[kind], argument))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(
        self, stream: Stream, serve: Callable[[Stream, str], Coroutine[None, None, None]], argument: str
    ) -> None:
        with contextlib.suppress(ConnectionError):
            await serve(stream, argument)
            await stream.flushed()
        self.send(b"CLSE", stream.number, stream.remote)


class Stream:
    """One service that the host has opened; a write waits until the host has taken the one before."""

    def __init__(self, connection: Connection, number: int, remote: int, service: str) -> None:
        self.connection, self.number, self.remote, self.service = connection, number, remote, service
        self.incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self.taken = asyncio.Event()
        self.taken.set()
        self.ended = asyncio.Event()
        self._left = b""
        self._writing = asyncio.Lock()

    @property
    def phone(self) -> Phone:
        """Whose service this is."""
        return self.connection.phone

    def end(self) -> None:
        """The host has closed it, or is gone."""
        self.ended.set()
        self.taken.set()
        self.incoming.put_nowait(b"")

    async def read(self) -> bytes:
        """What the host sent next; b"" at the end."""
        if self.ended.is_set() and self.incoming.empty():
            return b""
        data = await self.incoming.get()
        if data:
            self.connection.send(b"OKAY", self.number, self.remote)
        return data

    async def exactly(self, count: int) -> bytes:
        """So many bytes; ConnectionError when the host ends before."""
        while len(self._left) < count:
            data = await self.read()
            if not data:
                raise ConnectionError("the host closed the stream")
            self._left += data
        data, self._left = self._left[:count], self._left[count:]
        return data

    async def write(self, data: bytes) -> None:
        """Send to the host, piece by piece; here the connection breaks where it was told to."""
        async with self._writing:
            for at in range(0, len(data), _PIECE):
                await self._piece(data[at : at + _PIECE])

    async def flushed(self) -> None:
        """Until the host has taken all."""
        await self.taken.wait()

    async def _piece(self, piece: bytes) -> None:
        await self.taken.wait()
        if self.ended.is_set():
            raise ConnectionError("the host closed the stream")
        drop = self.phone.drop
        if drop is not None and drop[1] in self.service:
            if drop[0] < len(piece):
                self.phone.drop = None
                self.connection.send(b"WRTE", self.number, self.remote, piece[: drop[0]])
                await asyncio.sleep(0.05)
                self.connection.drop()
                raise ConnectionError("dropped")
            self.phone.drop = (drop[0] - len(piece), drop[1])
        self.taken.clear()
        self.connection.send(b"WRTE", self.number, self.remote, piece)


@contextlib.asynccontextmanager
async def _process(stream: Stream, command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A command in a session of its own; hung up when the host closes the stream."""
    phone = stream.phone
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", phone.local(command)),
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        cwd=phone.root,
        env={"PATH": f"{phone.path}:{os.environ['PATH']}", "HOME": str(phone.root)},
        start_new_session=True,
    )

    async def hang_up() -> None:
        await stream.ended.wait()
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGHUP)

    watch = asyncio.create_task(hang_up())
    try:
        yield process
        await process.wait()
    finally:
        watch.cancel()


async def run_plain(stream: Stream, command: str) -> None:
    """`shell:` and `exec:`: both outputs in one stream, no exit status."""
    async with _process(stream, f"exec 2>&1; {command}") as process:
        assert process.stdin is not None and process.stdout is not None
        feed = asyncio.create_task(_pour(stream, process.stdin))
        try:
            while data := await process.stdout.read(_PIECE):
                await stream.write(data)
        finally:
            feed.cancel()


async def _pour(stream: Stream, stdin: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await stream.read():
            stdin.write(data)
            await stdin.drain()
        stdin.close()


async def run_framed(stream: Stream, command: str) -> None:
    """`shell,v2,raw:`: packets of a kind, a length and bytes, in both directions."""
    async with _process(stream, command) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None

        async def forward(kind: int, pipe: asyncio.StreamReader) -> None:
            while data := await pipe.read(_PIECE - 5):
                await stream.write(struct.pack("<BI", kind, len(data)) + data)

        feed = asyncio.create_task(_feed(stream, process.stdin))
        try:
            await asyncio.gather(forward(_STDOUT, process.stdout), forward(_STDERR, process.stderr))
            status = await process.wait()
            await stream.write(struct.pack("<BIB", _EXIT, 1, status if status >= 0 else 128 - status))
        finally:
            feed.cancel()


async def _feed(stream: Stream, stdin: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            kind, length = struct.unpack("<BI", await stream.exactly(5))
            data = await stream.exactly(length)
            if kind == _CLOSE_STDIN:
                stdin.close()
            elif kind == _STDIN:
                stdin.write(data)
                await stdin.drain()


async def sync(stream: Stream, _argument: str) -> None:
    """The file service: STAT, LIST, SEND, RECV, QUIT."""
    while True:
        request, length = struct.unpack("<4sI", await stream.exactly(8))
        path = (await stream.exactly(length)).decode()
        if request == b"QUIT":
            return
        kinds = {b"STAT": _stat, b"LIST": _list, b"SEND": _receive, b"RECV": _send}
        try:
            await kinds[request](stream, path)
        except OSError as error:
            message = f"{path}: {error.strerror}".encode()
            await stream.write(b"FAIL" + struct.pack("<I", len(message)) + message)


async def _stat(stream: Stream, path: str) -> None:
    try:
        found = os.lstat(stream.phone.local(path))
        told = (found.st_mode, found.st_size, int(found.st_mtime))
    except OSError:
        told = (0, 0, 0)
    await stream.write(struct.pack("<4s3I", b"STAT", *told))


async def _list(stream: Stream, path: str) -> None:
    with contextlib.suppress(OSError):
        for entry in os.scandir(stream.phone.local(path)):
            found, name = entry.stat(follow_symlinks=False), entry.name.encode()
            told = (found.st_mode, found.st_size, int(found.st_mtime), len(name))
            await stream.write(struct.pack("<4s4I", b"DENT", *told) + name)
    await stream.write(struct.pack("<4s4I", b"DONE", 0, 0, 0, 0))


async def _receive(stream: Stream, path_and_mode: str) -> None:
    path, _, mode = path_and_mode.rpartition(",")
    target = Path(stream.phone.local(path))
    data, fault = bytearray(), None
    while True:
        kind, length = struct.unpack("<4sI", await stream.exactly(8))
        if kind == b"DONE":
            break
        data += await stream.exactly(length)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_bytes(data)
        target.chmod(stat.S_IMODE(int(mode)))
    except OSError as error:
        fault = error
    if fault is not None:
        raise fault
    await stream.write(b"OKAY" + struct.pack("<I", 0))


async def _send(stream: Stream, path: str) -> None:
    data = Path(stream.phone.local(path)).read_bytes()
    for at in range(0, len(data), _PIECE):
        piece = data[at : at + _PIECE]
        await stream.write(b"DATA" + struct.pack("<I", len(piece)) + piece)
    await stream.write(b"DONE" + struct.pack("<I", 0))


async def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--path", default="")
    parser.add_argument("--features", default="shell_v2,cmd")
    parser.add_argument("--unauthorized", action="store_true")
    asked = parser.parse_args()
    phone = Phone(asked.root.resolve(), asked.path, asked.features, asked.unauthorized)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Connection(phone, reader, writer).serve()

    server = await asyncio.start_server(connected, "127.0.0.1", asked.port)
    port = server.sockets[0].getsockname()[1]
    print(port, flush=True)
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := (await commands.readline()).decode().strip():
        what, _, rest = line.partition(" ")
        if rest:
            count, _, text = rest.partition(" ")
            phone.drop = (int(count), text)
        elif what == "due":
            print(phone.drop is not None, flush=True)
            continue
        elif what == "return":
            server = await asyncio.start_server(connected, "127.0.0.1", port)
        else:
            if what == "leave":
                server.close()
            for connection in list(phone.connections):
                connection.drop()
        print("done", flush=True)
    for connection in list(phone.connections):
        connection.drop()
    while phone.connections:  # what they ran is hung up first
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main())
