"""Where targets stand and how they are read: one TOML file a board, which may extend another's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from platformdirs import user_config_path
from pydantic import ValidationError

from hwbench import plugin
from hwbench.errors import ConfigError, nearest
from hwbench.fault import explain
from hwbench.resources import targets_dir
from hwbench.target import Target, sections

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the older interpreter
    import tomli as tomllib

SCHEMA = 1


def read_target(path: Path) -> Target:
    """Read one target file; raises ConfigError naming the file, the key and the nearest known key.

    `extends = "rpi4"` takes everything from that target but what this file says: a table is merged key by key, a list
    (`[[link]]` …) replaces the other's. Where this file changes a `[simulation.…]` section, the other's calibration and
    parameters by threads do not hold for it.
    """
    raw = _merged(path, ())
    try:
        target = Target.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error, Target)}") from error
    if target.name != path.stem:
        raise ConfigError(f"{path}: name is {target.name!r}, but the file is {path.stem!r}; make both equal")
    _check_kinds(target, path)
    return target


def find_target(name: str, *, host: str | None = None, serial: str | None = None) -> Target:
    """The target of that name, or the file when `name` ends in .toml; raises ConfigError with the nearest known name.

    Looked for in `./targets`, then in the user's configuration folder, then among those that ship with the project.
    host, serial: reach it there instead of where its file says.
    """
    known = known_targets()
    if not name.endswith(".toml") and name not in known:
        raise ConfigError(f"unknown target {name!r}{nearest(name, known)}; `hwbench targets` lists them")
    return read_target(known.get(name, Path(name))).reached_by(host=host, serial=serial)


def known_targets() -> dict[str, Path]:
    """File of every target by name, sorted; a file in an earlier folder hides one of the same name in a later."""
    found = {name: next(files) for name, files in _all_targets().items()}
    return dict(sorted(found.items()))


def _all_targets() -> dict[str, Iterator[Path]]:
    """Files of every target by name, those that hide others first."""
    folders = (Path("targets"), user_config_path("hwbench") / "targets", targets_dir())
    files: dict[str, list[Path]] = {}
    for file in (file for folder in folders for file in sorted(folder.glob("*.toml"))):
        files.setdefault(file.stem, []).append(file)
    # The one file of the folder that describes networks, not boards.
    files.pop("uplinks", None)
    return {name: iter(found) for name, found in files.items()}


def _merged(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """The file's content over that of the target it extends.  above: the files that led here."""
    raw = _read(path)
    base = raw.pop("extends", None)
    if base is None:
        return raw
    visited = (*above, path.resolve())
    known = _all_targets()
    # A file may extend the one that it hides, but not itself.
    file = next((f for f in known.get(str(base), ()) if f.resolve() not in visited), None)
    if file is None:
        circle = " (they extend each other)" if base in known else nearest(str(base), known)
        raise ConfigError(f"{path}: extends {base!r}, which is no other target{circle}")
    return _over(_uncalibrated(_merged(file, visited), raw), raw)


def _uncalibrated(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """The base without what it claims of parameters that `own` changes."""
    changed = _tables(own.get("simulation"))
    simulation = {
        unit: {
            precision: _still_true(v, changed.get(unit, {}).get(precision)) for precision, v in _tables(each).items()
        }
        for unit, each in _tables(base.get("simulation")).items()
    }
    return {**base, "simulation": simulation} if changed else base


def _still_true(section: dict[str, Any], own: Any) -> dict[str, Any]:
    """Other parameters were calibrated, and belong to other parameters by threads, than those of `own`."""
    if not isinstance(own, dict):
        return section
    if set(own) - {"threads"}:
        return {k: v for k, v in section.items() if k not in ("calibrated", "threads")}
    threads = {
        n: _still_true(v, _tables(own.get("threads")).get(n)) for n, v in _tables(section.get("threads")).items()
    }
    return {**section, "threads": threads}


def _tables(value: Any) -> dict[str, dict[str, Any]]:
    """Of a table of tables those that are; what is malformed is refused when the whole is validated."""
    return {k: v for k, v in value.items() if isinstance(v, dict)} if isinstance(value, dict) else {}


def _over(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    both = {k: _over(base[k], v) for k, v in own.items() if isinstance(v, dict) and isinstance(base.get(k), dict)}
    return {**base, **own, **both}


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text at byte {error.start}; a target is a TOML file") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    if raw.get("schema") != SCHEMA:
        raise ConfigError(
            f"{path}: schema is {raw.get('schema')!r}, this version reads {SCHEMA}; write `schema = {SCHEMA}`"
        )
    return raw


def _check_kinds(target: Target, path: Path) -> None:
    """Names of plugins are checked when the file is read; their options when they are opened."""
    for group, section in sections(target):
        package = f"hwbench.{group}s"
        if not plugin.exists(package, section.kind):
            known = plugin.names(package)
            raise ConfigError(f"{path}: [[{group}]] kind {section.kind!r} is unknown{nearest(section.kind, known)}")
    clocks = [c.name for c in target.clock]
    if len(set(clocks)) != len(clocks):
        raise ConfigError(f"{path}: two [[clock]] sections are named {max(clocks, key=clocks.count)!r}")
