"""Tasks: pure, repeatable pieces of work. Whatever takes over a second is one.

A task's key is what was asked; its randomness comes from that key; its result is in the Store.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from hwbench import plugin
from hwbench.store import Json, Result


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that a task reads, known by its bytes and not by its place."""

    path: Path
    sha256: str

    @classmethod
    def of(cls, path: Path) -> File:
        """Hash a file that exists; OSError otherwise."""
        return cls(path=path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One piece of work.

    kind: a module in search/tasks.  args: JSON, all that was asked (a stochastic kind carries `seed` here).
    arrays, files: what it reads; only their content enters the key.
    needs: resources of an engine, e.g. {"cpu": 1, "board:coral": 1}.
    """

    kind: str
    args: Json
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    files: Mapping[str, File] = field(default_factory=dict)
    needs: Mapping[str, float] = field(default_factory=lambda: {"cpu": 1.0})

    @property
    def reads(self) -> dict[str, str]:
        """sha256 by name of everything it reads."""
        hashes = {name: array_sha256(array) for name, array in self.arrays.items()}
        return hashes | {name: file.sha256 for name, file in self.files.items()}

    @property
    def key(self) -> str:
        """blake2b of kind, version, args and reads: equal keys mean equal results."""
        asked = [self.kind, module(self.kind).version, self.args, self.reads]
        text = json.dumps(asked, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def rng(self) -> np.random.Generator:
        """The generator that this task's randomness comes from."""
        return np.random.default_rng(int(self.key, 16))


class TaskModule(Protocol):
    """What a module in search/tasks offers."""

    version: int

    def run(self, task: Task, rng: np.random.Generator) -> Result:
        """Do the work; never sees the Store."""


@functools.cache  # a key asks for the version, and looking plugins up walks over all installed packages
def module(kind: str) -> TaskModule:
    """The module of a kind; raises ConfigError for an unknown one."""
    return cast(TaskModule, plugin.load("search.tasks", kind))


def run(task: Task) -> Result:
    """Run a task here and now."""
    return module(task.kind).run(task, task.rng())


def array_sha256(array: np.ndarray) -> str:
    """sha256 over dtype, shape and bytes."""
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(array.tobytes())
    return digest.hexdigest()
