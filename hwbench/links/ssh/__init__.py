"""A board behind sshd: one connection, opened when it is needed and again when it was lost.

Commands are argv lists, quoted here for the user's shell on the board; files go by sftp, and those that were pushed are
verified there.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
import shlex
import time
import uuid
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from hwbench.errors import PermanentDeviceError, TransientDeviceError
from hwbench.link import Completed, LinePipe
from hwbench.links.ssh.connection import Connection, Options, Place, connect
from hwbench.links.ssh.process import Process, SshPipe

logger = logging.getLogger(__name__)

MAX_OUTPUT_BYTES = 16 << 20
_START_S = 20.0
_KILL_S = 2.0
_CHUNK = 1 << 15
# Programs that set clocks stand where a user's PATH does not lead.
_MORE_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
_MARK = b"hwbench:"
# The name travels in a line of words.
_PLAIN_SUFFIX = re.compile(r"\.[A-Za-z0-9_]{1,16}")

# Tells its number before it becomes the program; a login shell may have printed whatever it likes before that.
_START = (
    'command -v "$1" >/dev/null 2>&1 || { echo hwbench:absent; echo "$1: not found" >&2; exit 127; }; '
    'echo "hwbench:$$"; exec "$@"'
)
# Only a process of ours is killed: its number may be another's by now.
_KILL = 'grep -qF "$2" "/proc/$1/environ" || exit 0; kill "-$3" "-$1" || kill "-$3" "$1"'
_LOOK = (
    'cd || exit; echo hwbench:; pwd; echo "$PATH"; id -u; cd -- "$1" 2>/dev/null || exit 0; '
    "[ ! -x venv/bin/python ] || echo venv"
)
# Runs as long as the connection: a line asks whether a file is there whole, or gives the right content its name.
_KEEPER = (
    'umask 077; cd -- "$1" || exit; same() { [ "$(sha256sum <"$1" | cut -c1-64)" = "$2" ]; }; '
    "while read -r what name part; do sum=${name%%.*}; case $what in "
    'have) [ -f "$name" ] && same "$name" "$sum" && echo yes || echo no;; '
    'keep) same "$part" "$sum" && mv -f "$part" "$name" && echo yes || { rm -f "$part"; echo no; };; esac; done'
)


def open(options: Options | Mapping[str, Any]) -> SshLink:
    """The link to a board; nothing is sent before it is used."""
    return SshLink(options if isinstance(options, Options) else Options.model_validate(dict(options)))


class SshLink:
    """Commands, files and processes of a board behind sshd."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._place = Place(options)
        self.name = str(self._place)
        self._connection: Connection | None = None
        # In the environment of all that this link starts, so that it can be told from a stranger of the same number.
        self._token = f"HWBENCH_LINK={uuid.uuid4().hex}"
        # Started and not known to have ended; those of them that sudo started.
        self._running: set[Process] = set()
        self._as_root: weakref.WeakSet[Process] = weakref.WeakSet()
        self._home = self._path = self._workdir = ""
        self._is_root = self._has_venv = self._made = False
        self._sent: set[str] = set()
        self._keeper: LinePipe | None = None

    @property
    def python(self) -> str:
        """The interpreter that was named, else the one of `hwbench setup`, else the board's python3."""
        self._connected()
        if self._options.python is not None:
            return self._expanded(self._options.python)
        return f"{self._workdir}/venv/bin/python" if self._has_venv else "python3"

    def __enter__(self) -> SshLink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            for process in self._left_running():
                self._kill(process)
            self._connection.close()
            self._connection = None

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", root: bool = False, timeout_s: float) -> Completed:
        """Run a command to its end; 127 when there is no such program, as a shell says."""
        end = time.monotonic() + timeout_s
        with self._started(argv, root=root, timeout_s=timeout_s) as process:
            process.feed(stdin, end)
            while not process.ended:
                if not process.take(max(0.0, end - time.monotonic())) and time.monotonic() >= end:
                    raise TransientDeviceError(f"{self.name}: {argv[0]} did not end within {timeout_s:g} s")
                if len(process.output) + len(process.errors) > MAX_OUTPUT_BYTES:
                    raise PermanentDeviceError(f"{self.name}: {argv[0]} printed more than {MAX_OUTPUT_BYTES >> 20} MiB")
            return Completed(
                returncode=self._status(process, argv[0], end),
                stdout=bytes(process.output),
                stderr=bytes(process.errors),
            )

    def read(self, path: str, *, max_bytes: int = 1 << 20, timeout_s: float = 10.0) -> bytes:
        """A file's content."""
        connection = self._connected()
        try:
            with connection.talking(timeout_s), connection.sftp().open(path, "rb") as stream:
                data = bytes(stream.read(max_bytes + 1))
        except FileNotFoundError as error:
            raise FileNotFoundError(error.errno, error.strerror, path) from error
        except OSError as error:
            raise PermanentDeviceError(f"{self.name}: cannot read {path} ({error.strerror or error})") from error
        if len(data) > max_bytes:
            raise PermanentDeviceError(f"{self.name}: {path} holds more than {max_bytes} bytes")
        return data

    def write(self, path: str, data: bytes, *, root: bool = False, timeout_s: float = 10.0) -> None:
        """Replace a file's content in place; by `tee`, since sftp does not say why a file of sysfs refuses."""
        self._sent.discard(path)
        named = path if path.startswith("/") else f"./{path}"
        done = self.run(["tee", named], stdin=data, root=root, timeout_s=timeout_s)
        if done.returncode != 0:
            way_out = "; `hwbench setup` prints the sudoers line that allows it" if root else ""
            raise PermanentDeviceError(f"{self.name}: cannot write {path} ({_text(done.stderr)}){way_out}")

    def push(self, file: Path, *, timeout_s: float = 60.0) -> str:
        """Copy a file under the name of its content; the board is asked once a connection whether it has it whole."""
        end = time.monotonic() + timeout_s
        try:
            data = file.read_bytes()
        except OSError as error:
            raise PermanentDeviceError(f"{self.name}: cannot read {file} ({error.strerror})") from error
        digest = hashlib.sha256(data).hexdigest()
        name = digest + (file.suffix if _PLAIN_SUFFIX.fullmatch(file.suffix) else "")
        self._make_workdir(timeout_s)
        path = f"{self._workdir}/files/{name}"
        if path in self._sent:
            return path
        if not self._keeper_says(f"have {name}", end):
            part = f"{name}.{uuid.uuid4().hex[:8]}.part"
            self._send(data, f"{self._workdir}/files/{part}", end, file)
            if not self._keeper_says(f"keep {name} {part}", end):
                raise TransientDeviceError(f"{self.name}: {file} arrived damaged, or the board has no sha256sum")
        self._sent.add(path)
        return path

    def pull(self, path: str, file: Path, *, timeout_s: float = 60.0) -> None:
        """Copy a file of the board to `file`."""
        connection = self._connected()
        try:
            with file.open("wb") as out:
                try:
                    with connection.talking(timeout_s), connection.sftp().open(path, "rb") as stream:
                        first = stream.read(_CHUNK)
                        out.write(first)
                        if len(first) == _CHUNK:
                            stream.prefetch(stream.stat().st_size)
                            while chunk := stream.read(_CHUNK):
                                out.write(chunk)
                except FileNotFoundError as error:
                    raise FileNotFoundError(error.errno, error.strerror, path) from error
        except FileNotFoundError:
            raise
        except OSError as error:
            raise PermanentDeviceError(
                f"{self.name}: cannot copy {path} to {file} ({error.strerror or error})"
            ) from error

    def workdir(self) -> str:
        """Our folder, made when it is absent."""
        self._make_workdir(_START_S)
        return self._workdir

    def spawn(self, argv: Sequence[str], *, env: Mapping[str, str]) -> LinePipe:
        """Start a process; its group is the session that sshd made for it."""
        process = self._start(argv, env, root=False, timeout_s=_START_S)
        if not process.pid:
            process.close()
            raise PermanentDeviceError(f"{self.name}: cannot start {argv[0]}, there is no such program")
        return SshPipe(process, self._kill)

    def _connected(self) -> Connection:
        """The connection that stands, or a new one; what an old one left running is ended first."""
        if self._connection is not None and self._connection.alive:
            return self._connection
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        logger.debug("%s: connecting", self.name)
        connection = connect(self._place, self._options.connect_timeout_s)
        try:
            self._look_around(connection)
            for process in self._left_running():
                logger.debug("%s: ending process %d, which a lost connection left", self.name, process.pid)
                self._end_group(connection, process)
        except BaseException:
            connection.close()
            raise
        self._sent.clear()
        self._made, self._keeper = False, None
        self._connection = connection
        return connection

    def _look_around(self, connection: Connection) -> None:
        """Ask what every call needs to know: home, PATH, who we are there, whether `setup` was here."""
        command = ["exec", "sh", "-c", _LOOK, "sh", self._options.workdir.removeprefix("~/")]
        timeout_s = self._options.connect_timeout_s
        process = Process(connection.execute(shlex.join(command), timeout_s))
        end = time.monotonic() + timeout_s
        while process.take(max(0.0, end - time.monotonic())):
            pass
        if process.lost or not process.ended:
            raise TransientDeviceError(f"{self.name}: the connection was lost before its first answer")
        process.close()
        told = bytes(process.output).partition(_MARK + b"\n")[2].decode("utf-8", "surrogateescape").splitlines()
        if len(told) < 3:
            raise PermanentDeviceError(
                f"{self.name}: commands cannot be run there (it says: {_text(process.output + process.errors)[:200]!r})"
            )
        self._home, path, user = told[:3]
        self._path = f"{path}:{_MORE_PATH}"
        self._is_root = user == "0"
        self._has_venv = told[3:] == ["venv"]
        self._workdir = self._expanded(self._options.workdir)

    def _start(
        self, argv: Sequence[str], env: Mapping[str, str], *, root: bool, timeout_s: float, most_errors: int = 1 << 14
    ) -> Process:
        """Start a program and learn its number, 0 where it is absent."""
        connection = self._connected()
        sudo = root and self._options.root == "sudo" and not self._is_root
        command = ["sudo", "-n", "--", *argv] if sudo else list(argv)
        variables = [f"PATH={self._path}", self._token, *(f"{name}={value}" for name, value in env.items())]
        line = shlex.join(["exec", "env", *variables, "sh", "-c", _START, "sh", *command])
        process = Process(connection.execute(line, timeout_s), most_errors=most_errors)
        end = time.monotonic() + timeout_s
        while (at := process.output.find(_MARK)) < 0 or (stop := process.output.find(b"\n", at)) < 0:
            if process.ended:
                process.close()
                if process.lost:
                    raise TransientDeviceError(f"{self.name}: the connection was lost while {argv[0]} was started")
                said = _text(process.output + process.errors)[:200]
                raise PermanentDeviceError(f"{self.name}: cannot start {argv[0]} (it says: {said!r})")
            if not process.take(max(0.0, end - time.monotonic())) and time.monotonic() >= end:
                connection.close()  # sshd itself does not answer
                raise TransientDeviceError(f"{self.name}: {argv[0]} did not start within {timeout_s:g} s")
        told = bytes(process.output[at + len(_MARK) : stop])
        del process.output[: stop + 1]
        if told.isdigit():
            process.pid = int(told)
            self._running = {*self._left_running(), process}
            if sudo:
                self._as_root.add(process)
        return process

    def _left_running(self) -> list[Process]:
        return [process for process in self._running if not process.exited]

    @contextmanager
    def _started(self, argv: Sequence[str], *, root: bool = False, timeout_s: float) -> Iterator[Process]:
        """A process that does not outlive the block."""
        process = self._start(argv, {}, root=root, timeout_s=timeout_s, most_errors=MAX_OUTPUT_BYTES + 1)
        try:
            yield process
        except BaseException:
            self._kill(process)
            raise
        finally:
            process.close()

    def _status(self, process: Process, what: str, end: float) -> int:
        """How a process ended that has ended its output."""
        status = None if process.lost else process.status(max(0.0, end - time.monotonic()))
        if status is None:
            raise TransientDeviceError(f"{self.name}: {what}: the connection was lost before its end")
        return status

    def _make_workdir(self, timeout_s: float) -> None:
        """Once a connection."""
        self._connected()
        if self._made:
            return
        done = self.run(["mkdir", "-p", "-m", "700", self._workdir, f"{self._workdir}/files"], timeout_s=timeout_s)
        if done.returncode != 0:
            raise PermanentDeviceError(f"{self.name}: cannot make {self._workdir} ({_text(done.stderr)})")
        self._made = True

    def _keeper_says(self, line: str, end: float) -> bool:
        """Ask the process that looks after pushed files; one for each connection, so that a question costs no login."""
        if self._keeper is None:
            keep = ["sh", "-c", _KEEPER, "sh", f"{self._workdir}/files"]
            process = self._start(keep, {}, root=False, timeout_s=max(0.01, end - time.monotonic()))
            self._keeper = SshPipe(process, self._kill)
        try:
            self._keeper.send(line.encode())
            said = self._keeper.receive(max(0.0, end - time.monotonic()))
        except TransientDeviceError as error:
            keeper, self._keeper = self._keeper, None
            keeper.close(0.0)
            raise TransientDeviceError(f"{self.name}: {error} while it was asked for a pushed file") from error
        if said not in (b"yes", b"no"):
            raise PermanentDeviceError(
                f"{self.name}: {self._workdir}/files cannot be used ({self._keeper.stderr_tail()[-200:]})"
            )
        return said == b"yes"

    def _send(self, data: bytes, path: str, end: float, file: Path) -> None:
        """Write a new file on the board."""
        connection = self._connected()
        try:
            with (
                connection.talking(max(0.01, end - time.monotonic())),
                connection.sftp().open(path, "wb") as stream,
            ):
                stream.set_pipelined(True)
                for at in range(0, len(data), _CHUNK):
                    stream.write(data[at : at + _CHUNK])
        except OSError as error:
            free_kb = self._free_kb()
            why = "its disk is full" if free_kb < len(data) / 1024 else error.strerror or str(error)
            raise PermanentDeviceError(
                f"{self.name}: cannot copy {file} to {self._workdir}/files: {why} ({free_kb:.0f} kB free, "
                f"{len(data) / 1024:.0f} kB needed); what lies there may be removed"
            ) from error

    def _free_kb(self) -> float:
        """Room below our folder; NaN where the board does not say."""
        done = self.run(["df", "-Pk", self._workdir], timeout_s=_START_S)
        told = done.stdout.decode("utf-8", "replace").splitlines()[-1:]
        fields = told[0].split() if told else []
        return float(fields[3]) if len(fields) > 3 and fields[3].isdigit() else math.nan

    def _kill(self, process: Process) -> bool:
        """End a process and its group; False when the board cannot be asked, then the next connection does it."""
        connection = self._connection
        if connection is None or not connection.alive:
            return False
        return self._end_group(connection, process)

    def _end_group(self, connection: Connection, process: Process) -> bool:
        # sudo hands SIGTERM on to what it runs, and cannot hand on a SIGKILL.
        sudo = ["sudo", "-n", "--"] if process in self._as_root else []
        kill = ["sh", "-c", _KILL, "sh", str(process.pid), self._token, "TERM" if sudo else "KILL"]
        try:
            killer = Process(connection.execute(shlex.join(["exec", *sudo, *kill]), _KILL_S))
        except TransientDeviceError:
            return False
        status = killer.status(_KILL_S)
        killer.close()
        if status is None:
            connection.close()  # sshd takes orders and does not follow them
            return False
        self._running.discard(process)
        return True

    def _expanded(self, path: str) -> str:
        """A path of the options as the board's user means it."""
        return path if path.startswith("/") else f"{self._home}/{path.removeprefix('~/')}"


def _text(data: bytes | bytearray) -> str:
    return " ".join(data.decode("utf-8", "replace").split())
