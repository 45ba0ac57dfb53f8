"""A target of your own: the description of a board that ships, reached where yours is, or simulated as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w
import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import InlineTable, Table

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
        before = file.read_text(encoding="utf-8") if file.exists() else None
        head = tomli_w.dumps({"schema": SCHEMA, "name": target.name, "extends": target.name})
        document = tomlkit.parse(head if before is None else before)
        for setting, simulation in found.items():
            _write_section(document, setting, simulation)
        FOLDER.mkdir(exist_ok=True)
        _replace(file, tomlkit.dumps(document).rstrip("\n") + "\n")
        if not _says(file, found):
            file.unlink() if before is None else _replace(file, before)
            raise ConfigError(
                f"{file}: written in a way that nothing can be added to; give its parameters in sections of their own, "
                "like [simulation.cpu.fp32]"
            )
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written ({error.strerror})") from error
    except (UnicodeDecodeError, TOMLKitError) as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
    return file


def _replace(file: Path, text: str) -> None:
    temporary = file.with_name(file.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


def _says(file: Path, found: Mapping[Setting, Simulation]) -> bool:
    """Whether the file reads as what was to be written."""
    try:
        written = read_target(file)
    except ConfigError:
        return False
    without: dict[str, Any] = {"threads": {}}
    return all(
        (read := written.parameters(setting)) is not None
        and read.model_copy(update=without) == simulation.model_copy(update=without)
        for setting, simulation in found.items()
    )


def _write_section(document: tomlkit.TOMLDocument, setting: Setting, simulation: Simulation) -> None:
    """Only what was fitted, since all else is inherited; of parameters by threads all, since they inherit nothing."""
    path = ["simulation", setting.unit, setting.precision]
    path += [] if setting.threads is None else ["threads", str(setting.threads)]
    place: Any = document
    for depth, name in enumerate(path):
        place = _table_in(place, name, of_tables=depth < len(path) - 1)
    dumped = simulation.model_dump(mode="json", exclude_none=True, exclude={"threads"})
    said: dict[str, Any] = {
        name: int(v) if isinstance(v, float) and v.is_integer() else v for name, v in dumped.items()
    }
    told = said.pop("calibrated")
    whole = setting.threads is not None and not place
    place.pop("calibrated", None)
    calibrated = _table_in(place, "calibrated")
    calibrated.update(told)
    place.update({name: value for name, value in said.items() if whole or name in told["fits"]})
    if isinstance(calibrated, Table):
        calibrated.add(tomlkit.nl())  # before the section that may follow


def _table_in(place: Any, name: str, *, of_tables: bool = False) -> Any:
    """The table of that name, made where there is none, in the style of the one around it."""
    if name not in place:
        inline = isinstance(place, InlineTable)
        place[name] = tomlkit.inline_table() if inline else tomlkit.table(is_super_table=of_tables)
    return place[name]
