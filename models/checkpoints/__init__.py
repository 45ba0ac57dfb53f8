"""Trained supernets that ship with the package: NAME.safetensors for the space NAME, made by `search train`."""

from __future__ import annotations

from pathlib import Path

from hwbench.errors import ConfigError

_FOLDER = Path(__file__).parent


def names() -> tuple[str, ...]:
    """The spaces whose trained supernet ships."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.safetensors")))


def shipped(space: str) -> Path:
    """The weights that ship for a space; raises ConfigError where there are none."""
    if space not in names():
        raise ConfigError(
            f"no trained supernet ships for space {space!r} (there is one for: {', '.join(names()) or 'none'}); "
            f"train it first: search train --space {space}"
        )
    return _FOLDER / f"{space}.safetensors"
