"""One campaign at a time on a board, however it is reached: the lock lies on the board itself.

A small shell there holds the operating system's lock for as long as its input stays open, so the lock falls with
whoever took it: when the program ends or is killed, when the link is cut, when the board restarts. Beside it lies a
note that says who holds it, for the message only.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from hwbench.errors import ConfigError, DeviceError, PermanentDeviceError, TransientDeviceError
from hwbench.link import LinePipe, Link
from hwbench.lock import user_name
from hwbench.target import Plugin

logger = logging.getLogger(__name__)

# Where all users of a board meet.
_SHARED_FOLDERS = ("/run/lock", "/tmp")
# A folder on the board in their place.
_FOLDER_VARIABLE = "HWBENCH_LOCKS"
_NAME = "hwbench-board.lock"
_ANSWER_S = 20.0
# A holder that was killed is noticed by the board a moment later, when its input ends.
_GRACE_S = 1.5
_LOOK_AGAIN_S = (0.1, 1.0)

# For dash, bash, mksh (Android) and busybox alike. The folder is one where anybody may write and nobody may remove
# another's files (sticky), or the last. What another user put there is never written through: a file is only made where
# nothing stands (noclobber), and the lock is taken on a descriptor that only reads. mksh hides descriptors above 2 from
# programs unless they are named again (9<&9). The shell itself answers: a child would go on when the shell is killed.
_HOLD = """
umask 022
IFS= read -r who || exit 3
for folder do [ -k "$folder" ] && [ -w "$folder" ] && break; done
file=$folder/$0
note=$file.$(id -u)
command -v flock >/dev/null || { echo "absent"; exit 3; }
[ -e "$file" ] || (set -C; : >"$file") 2>/dev/null
if [ -h "$file" ] || [ ! -f "$file" ]; then echo "odd $file"; exit 3; fi
exec 9<"$file" || exit 3
if flock -n 9 9<&9 && [ "$file" -ef "/proc/$$/fd/9" ]; then
  rm -f "$note"
  (set -C; printf '%s %s\\n' "$$" "$who" >"$note") 2>/dev/null
  echo "held"
  while IFS= read -r line; do printf '%s\\n' "$line"; done
  rm -f "$note"
else
  newest=$(ls -t "$file".* 2>/dev/null | head -n 1)
  who=
  if [ -f "$newest" ] && [ ! -h "$newest" ]; then IFS= read -r who <"$newest"; fi
  whose=busy
  [ -O "$newest" ] && whose=own
  printf '%s %s\\n' "$whose" "$who"
fi
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Holder:
    """Who holds a board, as the note says; all unknown where there is none or an odd one.

    shell: the process on the board that holds the lock.  text: ` by process 12 of ann on desk since …`.
    """

    token: str | None = None
    shell: int | None = None
    text: str = " by another process"


class BoardLock:
    """An exclusive hold on the board at the other end of a link.

    folders: where the lock may lie there; the last is taken where none before it is shared by all users.
    what: how messages name the board.
    """

    def __init__(
        self, link: Link, folders: Sequence[str], what: str, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._link, self._folders, self._what, self._sleep = link, tuple(folders), what, sleep
        # Tells a holder that our own lost link left behind from anybody else.
        self._token = uuid.uuid4().hex
        self._pipe: LinePipe | None = None

    def acquire(self, *, wait: bool = False) -> None:
        """Take it, or wait for it.

        Raises ConfigError that names the holder when it is taken and `wait` is false, PermanentDeviceError when the
        board cannot lock.
        """
        end = time.monotonic() + _GRACE_S
        told = False
        while True:
            holder = self._try()
            if holder is None:
                return
            if holder.token == self._token and holder.shell is not None:
                # Ours, from before the link was lost: the board has not noticed yet that nobody is there.
                self._link.run(["kill", "-9", str(holder.shell)], timeout_s=_ANSWER_S)
                continue
            if time.monotonic() >= end:
                if not wait:
                    raise ConfigError(
                        f"{self._what} is in use{holder.text}; wait until it is done (--wait), or end that process"
                    )
                if not told:
                    logger.warning("%s is in use%s; waiting", self._what, holder.text)
                    told = True
            self._sleep(_LOOK_AGAIN_S[told])

    def held(self) -> bool:
        """Whether the shell that holds it still answers: not after the link was lost, nor after a restart."""
        if self._pipe is None:
            return False
        try:
            self._pipe.send(b"there?")
            return self._pipe.receive(_ANSWER_S) == b"there?"
        except DeviceError:
            return False

    def renew(self) -> None:
        """Take it again after the link was lost; raises ConfigError when somebody else was quicker."""
        self.release()
        self.acquire()

    def release(self) -> None:
        """Let go; harmless when not held, and when the board is gone."""
        pipe, self._pipe = self._pipe, None
        if pipe is not None:
            with suppress(DeviceError):
                pipe.close(5.0)

    def _try(self) -> _Holder | None:
        """Take it at once (None), or say who has it."""
        note = {
            "token": self._token,
            "pid": os.getpid(),
            "user": user_name(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        pipe = self._link.spawn(["sh", "-c", _HOLD, _NAME, *self._folders], env={})
        try:
            pipe.send(json.dumps(note).encode())
            answer, _, rest = pipe.receive(_ANSWER_S).decode("utf-8", "replace").partition(" ")
        except BaseException:
            pipe.close(0.0)
            raise
        if answer == "held":
            self._pipe = pipe
            return None
        said = pipe.stderr_tail()
        pipe.close(1.0)
        if answer in ("own", "busy"):
            # Only a note in a file of our own user can be ours; what anybody else wrote is shown, never acted upon.
            holder = _holder(rest)
            return holder if answer == "own" else replace(holder, token=None, shell=None)
        if answer == "absent":
            raise PermanentDeviceError(f"{self._what} has no `flock`, so it cannot be locked; install util-linux there")
        if answer == "odd":
            raise PermanentDeviceError(
                f"{self._what}: {rest!r} is not a plain file, so it cannot be the lock; remove it"
            )
        if not answer and not said:
            raise TransientDeviceError(f"{self._what}: the link was lost while it was being locked")
        raise PermanentDeviceError(f"{self._what} cannot be locked: {(said or answer)[-300:]!r}")


def lock_folders(section: Plugin, link: Link) -> tuple[str, ...]:
    """Where the lock of a board may lie, given its [[link]] section.

    All users of a machine meet in a folder that they share. A link that names a `workdir` is a board of its own, of
    which one machine may have several (two accelerators): its lock lies in that folder.
    """
    if section.options.get("workdir") is not None:
        return (link.workdir(),)
    if os.environ.get(_FOLDER_VARIABLE):
        return (os.environ[_FOLDER_VARIABLE],)
    return (*_SHARED_FOLDERS, link.workdir())


def _holder(note: str) -> _Holder:
    """Read a note. Anybody may have written it: it is only shown, as printable text of bounded length."""
    shell, _, told = note.partition(" ")
    try:
        values = json.loads(told)
        shown = {key: _printable(values[key]) for key in ("pid", "user", "host", "since")}
        return _Holder(
            token=str(values["token"]),
            shell=int(shell),
            text=" by process {pid} of {user} on {host} since {since}".format(**shown),
        )
    except (ValueError, KeyError, TypeError):
        return _Holder()


def _printable(value: object) -> str:
    return "".join(c if c.isprintable() else "?" for c in str(value))[:64]
