"""The two sides of a gate: a table on disk or at a git revision, tests in JSON, a network, or a bundle."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, replace
from glob import has_magic
from pathlib import Path

from hwbench.errors import ConfigError
from hwbench.gate_tests import Suite, read_suite
from hwbench.table import LatencyTable
from hwbench.workload import Bundle

_GIT_S = 30.0
# What git takes for a revision, less what it could take for an option or a path.
_REVISION = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_./~^{}@-]*")
_SUFFIXES = (".csv", ".parts.csv", ".toml", ".clocks.csv")
_NETWORKS = (".onnx", ".tflite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One side: a table with its rows, tests, or a bundle that must be measured first.

    name: as the user gave it.  whole: it is one network file, compared as a whole and not block by block.
    suite: tests, which only pytest can measure again.
    """

    name: str
    table: LatencyTable | None = None
    bundle: Bundle | None = None
    whole: bool = False
    suite: Suite | None = None

    @property
    def network(self) -> str:
        """Key of the whole network of a file."""
        if self.bundle is None:
            raise ConfigError(f"{self.name}: a table is no network file")
        return next(w.block_key for w in self.bundle.workloads if w.kind == "network")


def read_arm(text: str, scratch: Path) -> Arm:
    """Read `FILE.csv`, its stem, `FILE.csv@REVISION`, `FILE.json`, `FILE.onnx`, `FILE.tflite` or a bundle folder.

    FILE.json is pytest-benchmark's, or what the pytest plugin writes: tests, also a folder of such files or a pattern.

    scratch: an empty folder that outlives the arm.  Raises ConfigError naming what cannot be read.
    """
    path = Path(text)
    if path.is_dir() and (path / "bundle.json").exists():
        return Arm(name=text, bundle=Bundle.read(path))
    if path.suffix.lower() in _NETWORKS:
        from hwbench.wrap import wrap  # onnx takes 0.3 s to import; tables do not need it

        bundle = wrap(path, scratch)
        keys = [w.block_key for w in bundle.workloads if w.kind == "network"]
        return Arm(name=text, bundle=bundle.only(keys), whole=True)
    if path.is_dir() or path.suffix.lower() == ".json" or (has_magic(text) and not path.exists()):
        return Arm(name=text, suite=read_suite(text))
    file, at, revision = text.rpartition("@")
    if at and not path.exists():
        return Arm(name=text, table=table_at(Path(file), revision, scratch))
    return Arm(name=text, table=LatencyTable.read(path))


def table_at(file: Path, revision: str, scratch: Path) -> LatencyTable:
    """A table as it stood at a git revision; ConfigError where git knows no such file or revision."""
    if not _REVISION.fullmatch(revision):
        raise ConfigError(f"{file}@{revision}: {revision!r} is no git revision; write a branch, a tag or a commit")
    stem = file.with_suffix("") if file.suffix in (".csv", ".toml") else file
    scratch.mkdir(parents=True, exist_ok=True)
    for suffix in _SUFFIXES:
        data = _shown(stem.with_name(stem.name + suffix), revision, must=suffix != ".clocks.csv")
        if data is not None:
            (scratch / (stem.name + suffix)).write_bytes(data)
    return LatencyTable.read(scratch / stem.name)


def as_rows_of(table: LatencyTable, arm: Arm) -> tuple[LatencyTable, Arm]:
    """A table and a network file (or bundle), cut to what they have in common to compare.

    A file is held against the table's row of that network; one whose structure changed, against the only network there.
    Raises ConfigError when it is not clear which row is meant.
    """
    if not arm.whole or arm.bundle is None:
        return table, arm
    key, there = arm.network, sorted({c.block_key for c, r in table.row.items() if r.kind == "network"})
    meant = key if key in there else there[0] if len(there) == 1 else None
    if meant is None:
        raise ConfigError(
            f"{table.name}: which of its {len(there)} networks is {arm.name}? none has the key {key}; "
            "give the table of that network (hwbench profile --model FILE), or both networks as files"
        )
    rows = {cell: row for cell, row in table.row.items() if cell.block_key == meant}
    workload = replace(arm.bundle.workload(key), block_key=meant)
    return replace(table, row=rows), replace(arm, bundle=replace(arm.bundle, workloads=(workload,)))


def _shown(file: Path, revision: str, *, must: bool) -> bytes | None:
    """A file's bytes at a revision; None where it is not there and need not be."""
    folder = file.parent
    while not folder.is_dir():
        # The folder may have gone since.
        folder = folder.parent
    inside = file.absolute().relative_to(folder.absolute()).as_posix()
    argv = ["git", "-C", str(folder), "show", "--no-textconv", f"{revision}:./{inside}"]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=_GIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{file}@{revision}: git cannot be asked ({error}); give a file instead") from error
    if done.returncode == 0:
        return done.stdout
    if not must:
        return None
    why = done.stderr.decode(errors="replace").strip().splitlines()
    raise ConfigError(
        f"{file}@{revision}: {why[-1] if why else 'git show failed'}; "
        "give a revision that this checkout has (git fetch --unshallow brings those a shallow clone lacks)"
    )
