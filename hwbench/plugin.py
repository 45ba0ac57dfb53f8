"""Finds plugins: a module with `Options` and `open()`; its name in the folder is its name in TOML and in commands.

There is no registry. `hwbench.backends` holds ours; the entry-point group of the same name adds modules from outside.
"""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from hwbench.errors import ConfigError, nearest


def names(package: str) -> tuple[str, ...]:
    """Names of all plugins of one kind, e.g. `names("hwbench.meters")`; nothing but the package itself is imported."""
    outside = {e.name for e in entry_points(group=package)}
    return tuple(sorted(_inside(package) | outside))


def exists(package: str, name: str) -> bool:
    """Whether there is such a plugin; what is installed is asked only for one that is not ours, as that takes long."""
    return name in _inside(package) or bool(entry_points(group=package, name=name))


def _inside(package: str) -> set[str]:
    folder = importlib.import_module(package)
    return {m.name for m in pkgutil.iter_modules(folder.__path__) if not m.name.startswith("_")}


def load(package: str, name: str) -> ModuleType:
    """Import one plugin; raises ConfigError naming the nearest known one, or the package that is not installed."""
    folder = package.rpartition(".")[2]
    kind = folder[:-3] + "y" if folder.endswith("ies") else folder.removesuffix("s")
    if name not in names(package):
        raise ConfigError(f"unknown {kind} {name!r}{nearest(name, names(package))}")
    for entry in entry_points(group=package, name=name):
        module: Any = entry.load()
        if not isinstance(module, ModuleType):
            raise ConfigError(
                f"entry point {package}:{name} is not a module; a plugin is a module with Options and open()"
            )
        return module
    try:
        return importlib.import_module(f"{package}.{name}")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{kind} {name!r} needs the Python package {error.name!r}, which is not installed here; "
            f"see the extras in the README (pip install 'hwbench-nas[...]')"
        ) from error
