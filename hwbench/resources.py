"""Finds the data that ships with the project: target descriptions and measured tables.

In a checkout both folders stand at its top, where people read and commit them. An installed wheel carries copies inside
this package, which may be read-only, so what an installed hwbench measures goes to the user's data folder.
"""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_data_path

from hwbench.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent
# Only the wheel has it (pyproject.toml, force-include).
_SHIPPED = _PACKAGE / "_data"


def targets_dir() -> Path:
    """Folder of the shipped `<target>.toml` files."""
    return (_SHIPPED if _SHIPPED.is_dir() else _CHECKOUT) / "targets"


def tables_dir() -> Path:
    """Folder new tables are written to; it may not exist yet.

    `HWBENCH_TABLES` if set; in a checkout its `latency_tables`; installed, `latency_tables` in the user's data folder.
    """
    chosen = os.environ.get("HWBENCH_TABLES")
    if chosen:
        return Path(chosen).expanduser()
    if _SHIPPED.is_dir():
        return user_data_path("hwbench") / "latency_tables"
    return _CHECKOUT / "latency_tables"


def table_folders() -> tuple[Path, ...]:
    """Where tables are looked for, first match wins: one's own measurements, then those that ship with the project."""
    shipped = (_SHIPPED if _SHIPPED.is_dir() else _CHECKOUT) / "latency_tables"
    own = tables_dir()
    return (own,) if own == shipped else (own, shipped)


def find_table(target: str, backend: str, space: str, named: str | None = None) -> Path:
    """The table of that name among one's own, the shipped and those of this folder; first match wins.

    named: how commands name the space, where that is a file.

    Raises ConfigError naming the folders and the command that makes it.
    """
    name = Path(target) / f"{backend}-{space}.csv"
    folders = (*table_folders(), Path("latency_tables"))
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise ConfigError(
        f"no table {name} in {', '.join(dict.fromkeys(map(str, folders)))}; make it with: "
        f"hwbench profile --target {target} --backend {backend} --space {named or space}"
    )
