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
from hwbench.links.ssh import files, scripts
from hwbench.links.ssh.connection import Connection, connect
from hwbench.links.ssh.place import Options, Place
from hwbench.links.ssh.process import Process, SshPipe
from hwbench.links.ssh.surroundings import Surroundings, look_around, text_of

logger = logging.getLogger(__name__)

MAX_OUTPUT_BYTES = 16 << 20
# The name of a pushed file travels in a line of words.
_PLAIN_SUFFIX = re.compile(r"\.[A-Za-z0-9_]{1,16}")
_START_S = 20.0
_KILL_S = 2.0


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
        # What the present connection found: the board may have started anew before it.
        self._there = Surroundings(home="", path="", workdir="", is_root=False, has_venv=False)
        self._made = False
        self._sent: set[str] = set()
        self._keeper: LinePipe | None = None

    @property
    def python(self) -> str:
        """The interpreter that was named, else the one of `hwbench setup`, else the board's python3."""
        self._connected()
        if self._options.python is not None:
            python = self._options.python
            # A bare name is looked for in the board's PATH.
            return self._there.at(python) if "/" in python else python
        return f"{self._there.workdir}/venv/bin/python" if self._there.has_venv else "python3"

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
        return files.read(self._connected(), path, max_bytes, timeout_s)

    def write(self, path: str, data: bytes, *, root: bool = False, timeout_s: float = 10.0) -> None:
        """Replace a file's content in place; by `tee`, since sftp does not say why a file of sysfs refuses."""
        self._sent.discard(path)
        named = path if path.startswith("/") else f"./{path}"
        done = self.run(["tee", named], stdin=data, root=root, timeout_s=timeout_s)
        if done.returncode != 0:
            way_out = "; `hwbench setup` prints the sudoers line that allows it" if root else ""
            raise PermanentDeviceError(f"{self.name}: cannot write {path} ({text_of(done.stderr)}){way_out}")

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
        path = f"{self._there.workdir}/files/{name}"
        if path in self._sent:
            return path
        if not self._keeper_says(f"have {name}", end):
            part = f"{name}.{uuid.uuid4().hex[:8]}.part"
            self._send(data, f"{self._there.workdir}/files/{part}", end, file)
            if not self._keeper_says(f"keep {name} {part}", end):
                raise TransientDeviceError(f"{self.name}: {file} arrived damaged, or the board has no sha256sum")
        self._sent.add(path)
        return path

    def pull(self, path: str, file: Path, *, timeout_s: float = 60.0) -> None:
        """Copy a file of the board to `file`."""
        files.pull(self._connected(), path, file, timeout_s)

    def workdir(self) -> str:
        """Our folder, made when it is absent."""
        self._make_workdir(_START_S)
        return self._there.workdir

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
            there = look_around(connection, self._options.workdir, self._options.connect_timeout_s)
            for process in self._left_running():
                logger.debug("%s: ending process %d, which a lost connection left", self.name, process.pid)
                self._end_group(connection, process)
        except BaseException:
            connection.close()
            raise
        self._sent.clear()
        self._made, self._keeper = False, None
        self._connection, self._there = connection, there
        return connection

    def _start(
        self, argv: Sequence[str], env: Mapping[str, str], *, root: bool, timeout_s: float, most_errors: int = 1 << 14
    ) -> Process:
        """Start a program and learn its number, 0 where it is absent."""
        connection = self._connected()
        sudo = root and self._options.root == "sudo" and not self._there.is_root
        command = ["sudo", "-n", "--", *argv] if sudo else list(argv)
        variables = [f"PATH={self._there.path}", self._token, *(f"{name}={value}" for name, value in env.items())]
        line = shlex.join(["exec", "env", *variables, "sh", "-c", scripts.START, "sh", *command])
        process = Process(connection.execute(line, timeout_s), most_errors=most_errors)
        end = time.monotonic() + timeout_s
        while (at := process.output.find(scripts.MARK)) < 0 or (stop := process.output.find(b"\n", at)) < 0:
            if process.ended:
                process.close()
                if process.lost:
                    raise TransientDeviceError(f"{self.name}: the connection was lost while {argv[0]} was started")
                said = text_of(process.output + process.errors)[:200]
                raise PermanentDeviceError(f"{self.name}: cannot start {argv[0]} (it says: {said!r})")
            if not process.take(max(0.0, end - time.monotonic())) and time.monotonic() >= end:
                connection.close()  # sshd itself does not answer
                raise TransientDeviceError(f"{self.name}: {argv[0]} did not start within {timeout_s:g} s")
        told = bytes(process.output[at + len(scripts.MARK) : stop])
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
        done = self.run(
            ["mkdir", "-p", "-m", "700", self._there.workdir, f"{self._there.workdir}/files"], timeout_s=timeout_s
        )
        if done.returncode != 0:
            raise PermanentDeviceError(f"{self.name}: cannot make {self._there.workdir} ({text_of(done.stderr)})")
        self._made = True

    def _keeper_says(self, line: str, end: float) -> bool:
        """Ask the process that looks after pushed files; one for each connection, so that a question costs no login."""
        if self._keeper is None:
            keep = ["sh", "-c", scripts.KEEPER, "sh", f"{self._there.workdir}/files"]
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
                f"{self.name}: {self._there.workdir}/files cannot be used ({self._keeper.stderr_tail()[-200:]})"
            )
        return said == b"yes"

    def _send(self, data: bytes, path: str, end: float, file: Path) -> None:
        """Write a new file on the board."""
        try:
            files.send(self._connected(), data, path, max(0.01, end - time.monotonic()))
        except OSError as error:
            free_kb = self._free_kb()
            why = "its disk is full" if free_kb < len(data) / 1024 else error.strerror or str(error)
            raise PermanentDeviceError(
                f"{self.name}: cannot copy {file} to {self._there.workdir}/files: {why} ({free_kb:.0f} kB free, "
                f"{len(data) / 1024:.0f} kB needed); what lies there may be removed"
            ) from error

    def _free_kb(self) -> float:
        """Room below our folder; NaN where the board does not say."""
        done = self.run(["df", "-Pk", self._there.workdir], timeout_s=_START_S)
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
        kill = ["sh", "-c", scripts.KILL, "sh", str(process.pid), self._token, "TERM" if sudo else "KILL"]
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
