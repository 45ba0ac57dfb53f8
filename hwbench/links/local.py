"""This machine as a board: files are copied and processes spawned as over a network, so nothing is special about it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from platformdirs import user_cache_path
from pydantic import BaseModel, ConfigDict

from hwbench.agent.protocol import MAX_LINE_BYTES
from hwbench.errors import PermanentDeviceError, TransientDeviceError
from hwbench.link import Completed, LinePipe

# What a program needs to run at all; the rest of our environment (PYTHON*, OMP_*, …) must not reach a measurement.
_PASSED_ON = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
_SEND_TIMEOUT_S = 20.0


class Options(BaseModel):
    """workdir: where our files lie; None = the user's cache.  python: runs the agent; None = the one that runs us."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    workdir: Path | None = None
    python: str | None = None


def open(options: Options | Mapping[str, Any]) -> LocalLink:
    """The link to this machine."""
    return LocalLink(options if isinstance(options, Options) else Options.model_validate(dict(options)))


class LocalLink:
    """Commands, files and processes of this machine."""

    name = "local"

    def __init__(self, options: Options) -> None:
        self.python = options.python or sys.executable
        self._workdir = (options.workdir or user_cache_path("hwbench") / "board").absolute()

    def __enter__(self) -> LocalLink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", root: bool = False, timeout_s: float) -> Completed:
        """Run a command to its end; 127 when there is no such program, as a shell says."""
        command = _as_root(argv) if root else list(argv)
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment({}),
                start_new_session=True,
            )
        except (FileNotFoundError, PermissionError) as error:
            return Completed(returncode=127, stdout=b"", stderr=f"{command[0]}: {error.strerror}".encode())
        try:
            stdout, stderr = process.communicate(stdin, timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise TransientDeviceError(f"local: {argv[0]} did not end within {timeout_s:g} s") from error
        finally:
            _kill_group(process)
        return Completed(returncode=process.returncode, stdout=stdout, stderr=stderr)

    def read(self, path: str, *, max_bytes: int = 1 << 20, timeout_s: float = 10.0) -> bytes:
        """A file's content; files of this machine answer at once, so the deadline has nothing to do."""
        try:
            with Path(path).open("rb") as stream:
                data = stream.read(max_bytes + 1)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise PermanentDeviceError(f"local: cannot read {path} ({error.strerror})") from error
        if len(data) > max_bytes:
            raise PermanentDeviceError(f"local: {path} holds more than {max_bytes} bytes")
        return data

    def write(self, path: str, data: bytes, *, root: bool = False, timeout_s: float = 10.0) -> None:
        """Replace a file's content in place."""
        if root and os.geteuid() != 0:
            done = self.run(["tee", path], stdin=data, root=True, timeout_s=timeout_s)
            if done.returncode != 0:
                raise PermanentDeviceError(
                    f"local: cannot write {path} as root ({_text(done.stderr)}); allow sudo without a password"
                )
            return
        try:
            with Path(path).open("wb") as stream:
                stream.write(data)
        except OSError as error:
            raise PermanentDeviceError(f"local: cannot write {path} ({error.strerror})") from error

    def push(self, file: Path, *, timeout_s: float = 60.0) -> str:
        """Copy a file under the name of its content; a copy that is there but was damaged is made again."""
        try:
            digest = _sha256(file)
            target = self._workdir / "files" / f"{digest}{file.suffix}"
            if not (target.is_file() and target.stat().st_size == file.stat().st_size and _sha256(target) == digest):
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                part = target.with_name(f"{target.name}.{os.getpid()}.part")
                shutil.copyfile(file, part)
                part.replace(target)
        except OSError as error:
            raise PermanentDeviceError(
                f"local: cannot copy {file} to {self._workdir} ({error.strerror or error}); is there room? is it ours?"
            ) from error
        return str(target)

    def pull(self, path: str, file: Path, *, timeout_s: float = 60.0) -> None:
        """Copy a file of the board to `file`."""
        try:
            shutil.copyfile(path, file)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise PermanentDeviceError(f"local: cannot copy {path} to {file} ({error.strerror or error})") from error

    def workdir(self) -> str:
        """Our folder, made when it is absent."""
        try:
            self._workdir.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise PermanentDeviceError(f"local: cannot make {self._workdir} ({error.strerror})") from error
        return str(self._workdir)

    def spawn(self, argv: Sequence[str], *, env: Mapping[str, str]) -> LinePipe:
        """Start a process in a group of its own, so that all of it can be killed and Ctrl-C stays ours."""
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(env),
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            raise PermanentDeviceError(f"local: cannot start {argv[0]} ({error.strerror})") from error
        return ProcessPipe(process)


class ProcessPipe:
    """Lines to and from a child process; to wait is to sleep in `poll`, and the end of the error stream is kept."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        self._process = process
        self._in, self._out, self._err = process.stdin, process.stdout, process.stderr
        for stream in (self._in, self._out, self._err):
            os.set_blocking(stream.fileno(), False)
        self._read = bytearray()
        self._errors: deque[bytes] = deque(maxlen=64)
        self._out_fd, self._err_fd = self._out.fileno(), self._err.fileno()
        self._open = {self._out_fd, self._err_fd}

    @property
    def pid(self) -> int:
        """The process's id, which is its group's too."""
        return self._process.pid

    def send(self, line: bytes) -> None:
        """Write one line."""
        left = memoryview(line + b"\n")
        poller = select.poll()
        poller.register(self._in, select.POLLOUT)
        end = time.monotonic() + _SEND_TIMEOUT_S
        try:
            while left:
                if not poller.poll(max(0, int(1000 * (end - time.monotonic())))):
                    raise TransientDeviceError(f"the process does not read what it is sent ({_SEND_TIMEOUT_S:g} s)")
                left = left[os.write(self._in.fileno(), left) :]
        except (BrokenPipeError, ValueError) as error:
            raise TransientDeviceError("the process is gone") from error

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
            if self._out_fd not in self._open:
                if self._read:
                    raise TransientDeviceError("the process ended in the middle of a line")
                return b""
            left_s = end - time.monotonic()
            if left_s <= 0 or not self._take(left_s):
                raise TransientDeviceError(f"no answer within {timeout_s:g} s")

    def stderr_tail(self) -> str:
        """The last lines of the error stream."""
        while self._err_fd in self._open and self._take(0.0, only_errors=True):
            pass
        return b"".join(self._errors)[-4000:].decode("utf-8", "replace").strip()

    def close(self, timeout_s: float = 5.0) -> int | None:
        """End the input, wait, kill the whole group."""
        if self._in.closed:
            return self._process.returncode
        self._in.close()
        with contextlib.suppress(subprocess.TimeoutExpired):  # killed below
            self._process.wait(timeout_s)
        _kill_group(self._process)
        self.stderr_tail()
        self._open.clear()
        self._out.close()
        self._err.close()
        return self._process.returncode

    def _take(self, timeout_s: float, *, only_errors: bool = False) -> bool:
        """Read what is there, waiting for it; False when nothing came in time."""
        poller = select.poll()
        for descriptor in self._open:
            if not only_errors or descriptor == self._err_fd:
                poller.register(descriptor, select.POLLIN)
        ready = poller.poll(max(0, int(1000 * timeout_s + 0.999)))
        for descriptor, _event in ready:
            data = os.read(descriptor, 1 << 16)
            if not data:
                self._open.discard(descriptor)
            elif descriptor == self._out_fd:
                self._read += data
            else:
                self._errors.append(data)
        return bool(ready)


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | dict(extra)


def _as_root(argv: Sequence[str]) -> list[str]:
    return list(argv) if os.geteuid() == 0 else ["sudo", "-n", "--", *argv]


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return  # its number may be another's by now
    with contextlib.suppress(ProcessLookupError, PermissionError):  # all of it has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _text(data: bytes) -> str:
    return " ".join(data.decode("utf-8", "replace").split())
