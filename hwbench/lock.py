"""One holder at a time, and a message that names him: for files of this machine, like stores.

The lock is the operating system's (it falls when its process dies, however it dies); beside it lies a small file that
says who holds it, for the message only.
"""

from __future__ import annotations

import getpass
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from hwbench.errors import ConfigError


class Lock:
    """An exclusive hold on something that a file stands for; a context manager, also usable by `acquire`/`release`.

    what: how the message names the thing, e.g. `store runs/x/store.sqlite`.
    """

    def __init__(self, file: Path, what: str) -> None:
        self._lock = FileLock(file)
        self._holder = file.with_name(file.name + ".holder")
        self._what = what

    def acquire(self, *, wait: bool = False) -> None:
        """Take it, or wait for it; raises ConfigError that names the holder when it is taken and `wait` is false."""
        try:
            Path(self._lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=-1 if wait else 0)
        except Timeout as error:
            raise ConfigError(
                f"{self._what} is in use{self._held_by()}; wait until it is done, or end that process"
            ) from error
        except OSError as error:
            raise ConfigError(f"{self._what}: cannot lock {self._lock.lock_file} ({error.strerror})") from error
        holder = {"pid": os.getpid(), "user": user_name(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        # Only a help for whoever waits: a full disk must not stop the work itself.
        with suppress(OSError):
            self._holder.write_text(json.dumps(holder), encoding="utf-8")

    def release(self) -> None:
        """Let go; harmless when not held."""
        if self._lock.is_locked:
            with suppress(OSError):
                self._holder.unlink()
            self._lock.release()

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _held_by(self) -> str:
        try:
            holder = json.loads(self._holder.read_text(encoding="utf-8"))
            return f" by process {holder['pid']} of {holder['user']} since {holder['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return " by another process"


def user_name() -> str:
    """Who runs this, for messages."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user number without a name
        return f"user {os.getuid()}"
