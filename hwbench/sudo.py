"""What only root may do on a board, and the line of sudoers that allows just that; no password is ever asked for.

Commands are named whole: a `*` of sudoers would also match spaces, and so further files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from hwbench.errors import PermanentDeviceError
from hwbench.link import Completed, Link

# What the kernel answers to root; all else means that we were not root.
_KERNEL = ("invalid argument", "resource busy", "no such", "out of range", "not permitted by", "input/output error")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_MOST_BYTES = 4096
_TIMEOUT_S = 10.0


def reading(path: str) -> str:
    """The command of `read`, as sudoers has it."""
    return f"/usr/bin/head -c {_MOST_BYTES} {path}"


def writing(path: str) -> str:
    """The command of `write`, as sudoers has it."""
    return f"/usr/bin/tee {path}"


def read(link: Link, path: str, what: str, commands: Sequence[str]) -> str:
    """Text of a file that root alone may read.

    what: begins the message of an error.  commands: all that it needs root for, for the line of sudoers in it.
    Raises FileNotFoundError, PermanentDeviceError.
    """
    done = run(link, ["head", "-c", str(_MOST_BYTES), path], what, commands)
    if done.returncode != 0:
        text = _text(done.stderr)
        if "no such file" in text.lower():
            raise FileNotFoundError(path)
        raise PermanentDeviceError(f"{what}: cannot read {path} ({text})")
    return done.stdout.decode("utf-8", "replace").strip("\0\n ")


def write(link: Link, path: str, text: str, what: str, commands: Sequence[str]) -> None:
    """Write a file that root alone may write; PermanentDeviceError says why not, and the way out."""
    try:
        link.write(path, f"{text}\n".encode(), root=True)
    except PermanentDeviceError as error:
        if _kernel_refused(str(error)):
            raise PermanentDeviceError(f"{what}: the board does not take {text} for {path} ({error})") from error
        raise PermanentDeviceError(missing(link, what, commands)) from error


def run(
    link: Link,
    argv: Sequence[str],
    what: str,
    commands: Sequence[str],
    *,
    stdin: bytes = b"",
    timeout_s: float = _TIMEOUT_S,
) -> Completed:
    """Run a command as root; PermanentDeviceError with the way out where we may not."""
    done = link.run(argv, stdin=stdin, root=True, timeout_s=timeout_s)
    text = _text(done.stderr).lower()
    if done.returncode != 0 and ("sudo" in text or "permission denied" in text or "not permitted" in text):
        raise PermanentDeviceError(missing(link, what, commands))
    return done


def missing(link: Link, what: str, commands: Sequence[str]) -> str:
    """One line: root is needed, and what to add to sudoers."""
    return f"{what}: needs root; allow it on the board with one line in sudoers (visudo): {line(link, commands)}"


def line(link: Link, commands: Sequence[str]) -> str:
    """The line of sudoers that allows just these commands to the user whom the link is."""
    done = link.run(["id", "-un"], timeout_s=_TIMEOUT_S)
    told = _text(done.stdout) if done.returncode == 0 else ""
    user = told if _USER.fullmatch(told) else "USER"
    # What sudoers takes as its own is quoted; the board named the paths.
    quoted = (re.sub(r"([,:=\\])", r"\\\1", command) for command in commands)
    return f"{user} ALL=(root) NOPASSWD: {', '.join(quoted)}"


def _kernel_refused(text: str) -> bool:
    return any(answer in text.lower() for answer in _KERNEL)


def _text(data: bytes) -> str:
    return " ".join(data.decode("utf-8", "replace").split())
