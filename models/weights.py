"""Files of trained weights: safetensors, with the space they are for and a digest that tells damage."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from hwbench.errors import ConfigError
from models.space import Space


class _Filled(Protocol):
    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> object: ...


def write(path: Path, state: Mapping[str, Tensor], space: Space, metadata: Mapping[str, str] | None = None) -> None:
    """Write weights, replacing the file in one step. The space's name and digest and a digest of the weights go along.

    metadata: how they came to be.
    """
    state = {name: tensor.detach().contiguous() for name, tensor in state.items()}
    known = {"space": space.name, "space_sha256": space.digest(), "weights_sha256": digest(state)}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(to_bytes(state, {**(metadata or {}), **known}))
    temporary.replace(path)


def read(path: Path, *, hint: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights by name, and metadata. ConfigError when it is missing (then with the hint), cut short or changed."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path}: no such weights file; {hint}")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = dict(file.metadata() or {})
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise ConfigError(f"{path}: not a whole safetensors file ({error}); copy or train it again") from error
    if "space" not in metadata:
        raise ConfigError(f"{path}: it does not say which space it is for; write it with models.supernet.save")
    if metadata.get("weights_sha256") != digest(state):
        raise ConfigError(f"{path}: the weights differ from their digest; the file was damaged, copy or train it again")
    return state, metadata


def fill(module: _Filled, state: Mapping[str, Tensor], metadata: Mapping[str, str], path: Path, space: Space) -> None:
    """Load the weights into a module of that space; ConfigError where they are another space's or do not fit."""
    if metadata.get("space_sha256") != space.digest():
        raise ConfigError(
            f"{path}: written for another space {metadata['space']!r} than {space.name!r} as it is now; train it again"
        )
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise ConfigError(
            f"{path}: the weights do not fit what the supernet of {space.name!r} needs ({first})"
        ) from error


def digest(state: Mapping[str, Tensor]) -> str:
    """sha256 over names, dtypes, shapes and bytes."""
    found = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name]
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
