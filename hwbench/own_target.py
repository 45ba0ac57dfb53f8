"""A target of your own: the description of a board that ships, reached where yours is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import tomli_w

from hwbench.errors import ConfigError
from hwbench.target_file import SCHEMA, find_target, read_target

FOLDER = Path("targets")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


def add_target(
    name: str, base: str, *, host: str | None = None, serial: str | None = None, key_file: Path | None = None
) -> Path:
    """Write `./targets/NAME.toml`, which extends `base` and is reached at `host` (ssh) or by `serial` (adb).

    host: `user@host[:port]`; the other options of the base's link stay.  key_file: shown to sshd.
    Raises ConfigError for a bad name, a file that is there already, an unknown base, and a base without such a link.
    """
    if not _NAME.fullmatch(name) or name == "uplinks":
        raise ConfigError(f"{name!r} cannot name a target: small letters, digits and dashes, as in 'pi-kitchen'")
    if (host is None) == (serial is None):
        raise ConfigError("say where the board is: --host user@host[:port] for ssh, or --serial for adb; one of them")
    if key_file is not None and host is None:
        raise ConfigError("--key-file is shown to sshd; it goes with --host")
    if key_file is not None and not key_file.expanduser().is_file():
        raise ConfigError(f"--key-file {key_file}: there is no such file")
    file = FOLDER / f"{name}.toml"
    if file.exists():
        raise ConfigError(f"{file} is there already; remove it, or choose another name")
    (link,) = find_target(base).reached_by(host=host, serial=serial).link
    options: dict[str, Any] = dict(link.options)
    if key_file is not None:
        # Whoever measures may stand in another folder than whoever added the board.
        options["key_file"] = str(key_file if str(key_file).startswith("~") else key_file.absolute())
    head = tomli_w.dumps({"schema": SCHEMA, "name": name, "extends": base})
    text = f"{head}\n[[link]]\n{tomli_w.dumps({'kind': link.kind, **options})}"
    try:
        FOLDER.mkdir(exist_ok=True)
        with file.open("x", encoding="utf-8") as out:
            out.write(text)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written ({error.strerror})") from error
    read_target(file)
    return file
