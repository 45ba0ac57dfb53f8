"""An Android device over the real adb server: shell commands with exit status, files verified by content, line pipes.

Every call opens a stream of its own, so a device that was lost and is back is simply reached again. Where its daemon
lacks the shell protocol (before Android 7), status and error stream travel behind the output.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shlex
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from hwbench.adb_device import CLOSE_STDIN, EXIT, STDERR, STDIN, STDOUT, AdbDevice, Packets, packet
from hwbench.adb_pipe import ShellPipe, start_of
from hwbench.errors import ConfigError, DeviceError, PermanentDeviceError, TransientDeviceError
from hwbench.link import Completed, LinePipe

_MOST_BYTES = 64 << 20
_SMALL_S = 20.0
_PIECE = 32 * 1024


class Options(BaseModel):
    """serial: as `adb devices` lists it; None = $ANDROID_SERIAL, or the only device.  host, port: of the adb server.

    workdir: our folder there.  python: runs the agent where one is installed.  su: become root through `su`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    serial: str | None = None
    host: str | None = None
    port: int | None = Field(default=None, ge=1, le=65535)
    workdir: str = Field(default="/data/local/tmp/hwbench", pattern=r"^/[^\x00\n]+$")
    python: str = "python3"
    su: bool = False


def open(options: Options | Mapping[str, Any]) -> AdbLink:
    """The link to one device; it is reached at the first call."""
    return AdbLink(options if isinstance(options, Options) else Options.model_validate(dict(options)))


class AdbLink:
    """Commands, files and processes of one device."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._device = AdbDevice(host=options.host, port=options.port, serial=options.serial)
        self._su: list[str] | None = None
        self._spawned: list[ShellPipe] = []
        self.python = options.python

    @property
    def name(self) -> str:
        """`adb` and the serial number."""
        return self._device.where

    def __enter__(self) -> AdbLink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(DeviceError):
            self._end_left()

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", root: bool = False, timeout_s: float) -> Completed:
        """Run a command to its end; 127 when there is no such program."""
        words = [*self._root(), shlex.join(argv)] if root and self._root() else list(argv)
        with self._device.talking(argv[0], timeout_s) as end:
            if "shell_v2" in self._device.features(end):
                return self._run(f"exec {shlex.join(words)}", stdin, end)
            return self._run_plain(shlex.join(words), stdin, end)

    def read(self, path: str, *, max_bytes: int = 1 << 20, timeout_s: float = 10.0) -> bytes:
        """A file's content over the sync protocol."""
        data = bytearray()
        with self._device.talking(f"reading {path}", timeout_s) as end:
            for piece in self._device.receive_file(path, end):
                data += piece
                if len(data) > max_bytes:
                    raise PermanentDeviceError(f"{self.name}: {path} holds more than {max_bytes} bytes")
        return bytes(data)

    def write(self, path: str, data: bytes, *, root: bool = False, timeout_s: float = 10.0) -> None:
        """Replace a file's content in place: sync would put a new file there, which /sys does not allow."""
        done = self.run(["sh", "-c", 'cat > "$1"', "sh", path], stdin=data, root=root, timeout_s=timeout_s)
        if done.returncode != 0:
            raise PermanentDeviceError(f"{self.name}: cannot write {path} ({_text(done.stderr)})")

    def push(self, file: Path, *, timeout_s: float = 60.0) -> str:
        """Send a file under the name of its content, and have the device say that this is what it holds."""
        end = time.monotonic() + timeout_s
        try:
            data = file.read_bytes()
        except OSError as error:
            raise PermanentDeviceError(f"cannot read {file} ({error.strerror})") from error
        digest = hashlib.sha256(data).hexdigest()
        target = f"{self.workdir()}/files/{digest}{file.suffix}"
        if self._sha256(target, end) == digest:
            return target
        part = f"{target}.{os.getpid()}.part"
        with self._device.talking(f"sending {file.name}", end - time.monotonic()) as until, file.open("rb") as content:
            self._device.send_file(content, part, until)
        if self._sha256(part, end) != digest:
            raise TransientDeviceError(f"{self.name}: {file.name} did not arrive as it was sent")
        done = self.run(["mv", "-f", part, target], timeout_s=max(end - time.monotonic(), 1.0))
        if done.returncode != 0:
            raise PermanentDeviceError(f"{self.name}: cannot write {target} ({_text(done.stderr)})")
        return target

    def pull(self, path: str, file: Path, *, timeout_s: float = 60.0) -> None:
        """Copy a file of the device to `file`."""
        with self._device.talking(f"fetching {path}", timeout_s) as end:
            pieces = self._device.receive_file(path, end)
            first = next(pieces, b"")
            try:
                with file.open("wb") as stream:
                    stream.write(first)
                    for piece in pieces:
                        stream.write(piece)
            except FileNotFoundError as error:
                raise PermanentDeviceError(f"cannot write {file} ({error.strerror})") from error

    def workdir(self) -> str:
        """Our folder, made when it is absent."""
        path = self._options.workdir.rstrip("/")
        done = self.run(["mkdir", "-p", f"{path}/files"], timeout_s=_SMALL_S)
        if done.returncode != 0:
            raise PermanentDeviceError(f"{self.name}: cannot make {path} ({_text(done.stderr)})")
        return path

    def spawn(self, argv: Sequence[str], *, env: Mapping[str, str]) -> LinePipe:
        """Start a process in a group of its own."""
        for name in env:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ConfigError(f"{name!r} is no name of an environment variable")
        program = shlex.quote(argv[0])
        assigned = "".join(f"{name}={shlex.quote(value)} " for name, value in env.items())
        # adbd gives every service a session of its own, so this number is that of the process's group. When it
        # started tells it later from a stranger of the same number.
        begin = f'command -v {program} >/dev/null || exit 127; read -r s </proc/$$/stat || s=$$; echo "$s"; '
        command = f"{assigned}exec {shlex.join(argv)}"
        self._end_left()
        with self._device.talking(f"starting {argv[0]}", _SMALL_S) as end:
            if "shell_v2" in self._device.features(end):
                pipe = ShellPipe(self._device, self._device.open(f"shell,v2,raw:{begin}{command}", end))
            else:
                mark = uuid.uuid4().hex
                errors = shlex.quote(f"{self._beside()}.{mark}.err")
                told = f"( {command} ) 2>{errors}; echo {mark} $?; cat {errors}; rm -f {errors}"
                pipe = ShellPipe(self._device, self._device.open(f"exec:{begin}{told}", end), mark)
        try:
            number, _, stat = pipe.receive(_SMALL_S).partition(b" ")
        except TransientDeviceError:
            pipe.close(0.0)
            # A plain stream has no status before its mark, so it ends as one that is lost; ask again.
            if self.run(["sh", "-c", 'command -v "$1"', "sh", argv[0]], timeout_s=_SMALL_S).returncode == 0:
                raise
            number = stat = b""
        if not number.isdigit():
            pipe.close(0.0)
            raise PermanentDeviceError(f"{self.name}: there is no program {argv[0]} on the device")
        pipe.pid, pipe.started = int(number), start_of(stat)
        self._spawned.append(pipe)
        return pipe

    def _end_left(self) -> None:
        """End what a lost link left running: it would be measured beside whatever is started next."""
        for pipe in self._spawned:
            pipe.end_left()
        self._spawned = [pipe for pipe in self._spawned if not pipe.gone]

    def _run(self, command: str, stdin: bytes, end: float) -> Completed:
        stream = self._device.open(f"shell,v2,raw:{command}", end)
        pieces = (packet(STDIN, stdin[at : at + _PIECE]) for at in range(0, len(stdin), _PIECE))
        out = memoryview(b"".join([*pieces, packet(CLOSE_STDIN)]))
        packets, parts = Packets(), {STDOUT: bytearray(), STDERR: bytearray()}
        try:
            while True:
                data, out = stream.exchange(out)
                if data == b"":
                    raise ConnectionError("the device closed the stream")
                for kind, payload in packets.feed(data or b""):
                    if kind == EXIT and payload:
                        return Completed(
                            returncode=payload[0], stdout=bytes(parts[STDOUT]), stderr=bytes(parts[STDERR])
                        )
                    if kind in parts:
                        parts[kind] += payload
                self._check_size(sum(map(len, parts.values())))
        finally:
            stream.close()

    def _run_plain(self, command: str, stdin: bytes, end: float) -> Completed:
        """Without the shell protocol: input and error stream lie in files, a mark nobody can guess tells the status."""
        mark = uuid.uuid4().hex
        file = f"{self._beside()}.{mark}"
        given, errors = shlex.quote(f"{file}.in"), shlex.quote(f"{file}.err")
        if stdin:
            self._device.send_file(io.BytesIO(stdin), f"{file}.in", end)
        run = f"( exec {command} ) <{given if stdin else '/dev/null'} 2>{errors}; s=$?; echo; echo {mark} $s"
        stream = self._device.open(f"exec:{run}; cat {errors}; rm -f {given} {errors}", end)
        data = bytearray()
        try:
            while piece := stream.exchange(memoryview(b""))[0]:
                data += piece
                self._check_size(len(data))
        finally:
            stream.close()
        found = re.search(rb"\n%s ([0-9]{1,3})\n" % mark.encode(), data)
        if found is None:
            raise ConnectionError("the device closed the stream")
        return Completed(
            returncode=int(found[1]), stdout=bytes(data[: found.start()]), stderr=bytes(data[found.end() :])
        )

    def _beside(self) -> str:
        """Where files of one command begin: beside our folder, as the command that makes it needs them too."""
        return self._options.workdir.rstrip("/")

    def _check_size(self, count: int) -> None:
        if count > _MOST_BYTES:
            raise PermanentDeviceError(f"{self.name}: a command printed more than {_MOST_BYTES >> 20} MiB")

    def _root(self) -> list[str]:
        """What makes a command line root's: nothing where we are root, else the form of `su` that this device has."""
        if self._su is None:
            self._su = self._found_root()
        return self._su

    def _found_root(self) -> list[str]:
        if self._is_root([]):
            return []
        if not self._options.su:
            raise PermanentDeviceError(
                f"{self.name}: this needs root; on a rooted device write su = true in [[link]], "
                "on a userdebug build call `adb root`"
            )
        # Of rooted phones, and of Android's own debug builds.
        for form in (["su", "-c"], ["su", "0", "sh", "-c"]):
            if self._is_root(form):
                return form
        raise PermanentDeviceError(f"{self.name}: su does not make us root; allow it for the shell on the device")

    def _is_root(self, form: list[str]) -> bool:
        done = self.run([*form, "id -u"] if form else ["id", "-u"], timeout_s=_SMALL_S)
        return done.returncode == 0 and done.stdout.strip() == b"0"

    def _sha256(self, path: str, end: float) -> str | None:
        """Of a file there; None where it is absent. A device without the program has the file fetched again."""
        timeout_s = max(end - time.monotonic(), 1.0)
        done = self.run(["sha256sum", path], timeout_s=timeout_s)
        if done.returncode == 0:
            return done.stdout[:64].decode("ascii", "replace")
        if done.returncode != 127:
            return None
        digest = hashlib.sha256()
        with suppress(FileNotFoundError), self._device.talking(f"fetching {path}", timeout_s) as until:
            for piece in self._device.receive_file(path, until):
                digest.update(piece)
        return digest.hexdigest()


def _text(data: bytes) -> str:
    return " ".join(data.decode("utf-8", "replace").split())[-300:]
