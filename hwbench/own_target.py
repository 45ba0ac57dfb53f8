"""A target of your own: the description of a board that ships, reached where yours is, or simulated as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w
import tomlkit
from tomlkit.exceptions import TOMLKitError

from hwbench.errors import ConfigError
from hwbench.setting import Setting
from hwbench.target import Simulation, Target
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


def keep_calibrated(target: Target, found: Mapping[Setting, Simulation]) -> Path:
    """Write what was fitted into `./targets/NAME.toml`, the rest of which stays as it is, comments too.

    found: by unit, precision and threads, each with its `calibrated`.  Where there is no such file yet, it extends the
    target that was found under that name.  Raises ConfigError where the file cannot be read or written.
    """
    file = FOLDER / f"{target.name}.toml"
    try:
        text = file.read_text(encoding="utf-8") if file.exists() else None
        document = tomlkit.parse(text or tomli_w.dumps({"schema": SCHEMA, "name": target.name, "extends": target.name}))
        for setting, simulation in found.items():
            _write_section(document, setting, simulation)
        FOLDER.mkdir(exist_ok=True)
        temporary = file.with_name(file.name + ".part")
        temporary.write_text(tomlkit.dumps(document).rstrip("\n") + "\n", encoding="utf-8")
        temporary.replace(file)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written ({error.strerror})") from error
    except (UnicodeDecodeError, TOMLKitError) as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
    read_target(file)
    return file


def _write_section(document: tomlkit.TOMLDocument, setting: Setting, simulation: Simulation) -> None:
    """Only what was fitted, since all else is inherited; of parameters by threads all, since they inherit nothing."""
    path = ["simulation", setting.unit, setting.precision]
    path += [] if setting.threads is None else ["threads", str(setting.threads)]
    place: Any = document
    for depth, name in enumerate(path):
        if name not in place:
            place[name] = tomlkit.table(is_super_table=depth < len(path) - 1)
        place = place[name]
    dumped = simulation.model_dump(mode="json", exclude_none=True, exclude={"threads"})
    said: dict[str, Any] = {
        name: int(v) if isinstance(v, float) and v.is_integer() else v for name, v in dumped.items()
    }
    told = said.pop("calibrated")
    whole = setting.threads is not None and not place
    place.update({name: value for name, value in said.items() if whole or name in told["fits"]})
    place["calibrated"] = tomlkit.table()
    place["calibrated"].update(told)
    place["calibrated"].add(tomlkit.nl())  # before the section that may follow
