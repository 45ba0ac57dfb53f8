"""Search a table of architectures that others trained: which ones to ask for, when a cost is known and a value is dear.

An evaluation is one architecture whose value is asked; it is a look-up here, so that ways to search can be compared. As
nothing is computed and the seed decides all, a search that was interrupted simply begins again and ends the same.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from threadpoolctl import threadpool_limits

from hwbench.decoder import Decoded, decoder, families
from hwbench.errors import ConfigError, nearest
from hwbench.rows_file import read_rows
from search.guided import Asking, blind, guided
from search.improvement import Floats, front, hypervolume
from search.run import write_whole

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the older interpreter
    import tomli as tomllib

SCHEMA = 1
STRATEGIES = ("predictor", "random")
_TRIED = 20  # names that tell a family


class Config(BaseModel):
    """config.toml of such a run. Columns by name; at_least: limit by column; sha256: of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_: int = Field(alias="schema", default=SCHEMA)
    problem: Literal["tabular"] = "tabular"
    file: Path
    sha256: str
    family: str
    arch: str
    maximize: str
    minimize: str
    at_least: dict[str, float] = {}
    strategy: str
    evaluations: int
    seed: int
    version: str = ""
    command: str = ""
    created: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """n architectures of known cost that keep the other limits: archs, cost, value (n,). left_out: count by reason."""

    archs: tuple[str, ...]
    cost: Floats
    value: Floats
    decoded: Decoded
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What a search asked, in order: indices into the table; and the front of it, cheapest first."""

    table: Table
    asked: tuple[int, ...]
    front: tuple[int, ...]
    hypervolume: float
    corner: tuple[float, float]


def family_of(file: Path, arch: str) -> str:
    """The family whose decoder reads the file's architectures; ConfigError where none or several do."""
    names, rows = read_rows(file, {arch}, f"a column {arch!r} of architectures")
    _has(file, names, arch)
    some = [row[arch] for _, row in islice(rows, _TRIED)]
    if not some:
        raise ConfigError(f"{file}: the file has no rows to search")
    found = [family for family in families() if _reads(family, some)]
    if len(found) != 1:
        known = ", ".join(families())
        said = f"several read it: {', '.join(found)}" if found else f"none of {known} reads {some[:1]}"
        raise ConfigError(f"{file}: the family of column {arch!r} cannot be told ({said}); name it with --family")
    return found[0]


def read_table(config: Config) -> Table:
    """The candidates of a file.

    Left out, and counted: architectures without a cost or a value (empty, NaN, −1) or that miss a limit on another
    column than the value. Raises ConfigError for unknown columns, text instead of numbers, architectures that the
    family does not know or that stand there twice with other numbers, and where nothing is left.
    """
    columns = {config.maximize, config.minimize, *config.at_least}
    names, rows = read_rows(
        config.file, {config.arch, *columns}, f"columns {config.arch}, {', '.join(sorted(columns))}"
    )
    for name in (config.arch, *sorted(columns)):
        _has(config.file, names, name)
    known: dict[str, dict[str, float]] = {}
    left_out = {"twice the same": 0, "no cost": 0, "no value": 0, "a limit missed": 0}
    for number, row in rows:
        where = f"{config.file}:{number}"
        arch, numbers = row[config.arch].strip(), {name: _number(row[name], f"{where}: {name}") for name in columns}
        if arch in known:
            if any(not _same(known[arch][n], numbers[n]) for n in columns):
                raise ConfigError(f"{where}: {arch} stands there twice with other numbers; keep one")
            left_out["twice the same"] += 1
            continue
        known[arch] = numbers
    kept = []
    for arch, numbers in known.items():
        missed = any(not numbers[name] >= limit for name, limit in config.at_least.items() if name != config.maximize)
        if not math.isfinite(numbers[config.minimize]) or numbers[config.minimize] == -1:
            left_out["no cost"] += 1
        elif not math.isfinite(numbers[config.maximize]) or numbers[config.maximize] == -1:
            left_out["no value"] += 1
        elif missed:
            left_out["a limit missed"] += 1
        else:
            kept.append(arch)
    if not kept:
        why = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
        raise ConfigError(f"{config.file}: no architecture is left to search ({why or 'the file has no rows'})")
    return Table(
        archs=tuple(kept),
        cost=np.array([known[a][config.minimize] for a in kept]),
        value=np.array([known[a][config.maximize] for a in kept]),
        decoded=decoder(config.family)(kept),
        left_out={reason: count for reason, count in left_out.items() if count},
    )


def search(config: Config, table: Table, heard: Callable[[int, float], None] | None = None) -> Found:
    """Ask for as many evaluations as the config allows. heard: told each candidate and the hypervolume after it."""
    limit = config.at_least.get(config.maximize)
    # Without a limit every value counts from the smallest one of the table on; that only scales what is reported.
    floor = float(table.value.min()) if limit is None else limit
    rng = np.random.default_rng(config.seed)
    dearest = float(table.cost.max()) * 1.1
    asking: Asking = (
        guided(table.cost, table.decoded.function, limit, rng)
        if config.strategy == "predictor"
        else blind(table.cost, rng)
    )
    asked: list[int] = []
    # One thread, so that the same seed asks the same wherever it runs.
    with threadpool_limits(1):
        one = next(asking, None)
        while one is not None and len(asked) < config.evaluations:
            asked.append(one)
            if heard is not None:
                heard(one, _reached(table, asked, limit, (dearest, floor)))
            try:
                one = asking.send(float(table.value[one])) if len(asked) < config.evaluations else None
            except StopIteration:
                one = None
    good = _allowed(table, asked, limit)
    return Found(
        table=table,
        asked=tuple(asked),
        front=tuple(good[i] for i in front(table.cost[good], table.value[good])) if good else (),
        hypervolume=_reached(table, asked, limit, (dearest, floor)),
        corner=(dearest, floor),
    )


def perform(folder: Path, config: Config, table: Table, told: Callable[[int, float], None]) -> Found:
    """Search and write evaluations.csv as it goes, front.csv at the end; config.toml stands first.

    Raises ConfigError where the folder holds something else. A run that was finished or killed is made again, the same.
    """
    _claim(folder, config)
    (folder / "front.csv").unlink(missing_ok=True)
    with (folder / "evaluations.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("evaluation", "arch", config.maximize, config.minimize, "hypervolume"))
        count = 0

        def heard(one: int, reached: float) -> None:
            nonlocal count
            rows.writerow(
                (count, table.archs[one], repr(float(table.value[one])), repr(float(table.cost[one])), repr(reached))
            )
            file.flush()
            count += 1
            told(count, reached)

        found = search(config, table, heard)
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("arch", config.maximize, config.minimize, "evidence"))
    for one in found.front:
        lines.writerow((table.archs[one], repr(float(table.value[one])), repr(float(table.cost[one])), "published"))
    write_whole(folder / "front.csv", text.getvalue())
    return found


def read_front(folder: Path, config: Config) -> Floats:
    """(n, 2) value and cost of the front that such a run found; ConfigError where it is not through, or damaged."""
    file = folder / "front.csv"
    if not file.is_file():
        raise ConfigError(f"{folder}: its search is not through; run: search resume {folder}")
    wanted = (config.maximize, config.minimize)
    names, rows = read_rows(file, set(wanted), f"columns {', '.join(wanted)}")
    for name in wanted:
        _has(file, names, name)
    found = [[_number(row[name], f"{file}:{number}: {name}") for name in wanted] for number, row in rows]
    return np.array(found).reshape(-1, 2)


def is_tabular(folder: Path) -> bool:
    """Whether the folder holds such a run."""
    try:
        return tomllib.loads((folder / "config.toml").read_text(encoding="utf-8")).get("problem") == "tabular"
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return False


def read_config(folder: Path) -> Config:
    """The config of such a run; ConfigError where it is damaged or its file is not what it was."""
    try:
        config = Config.model_validate(tomllib.loads((folder / "config.toml").read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise ConfigError(f"{folder / 'config.toml'}: cannot be read ({str(error).splitlines()[0]})") from error
    if sha256(config.file) != config.sha256:
        raise ConfigError(f"{config.file} has changed since the run began; put it back, or start a new run")
    return config


def sha256(file: Path) -> str:
    """Of a file's bytes; ConfigError where it cannot be read."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from error


def limits(texts: tuple[str, ...]) -> dict[str, float]:
    """`COLUMN=VALUE` as numbers by column; ConfigError otherwise, or where a column has two limits."""
    found: dict[str, float] = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        try:
            limit = float(value)
        except ValueError:
            limit = math.nan
        if not equals or not name or not math.isfinite(limit):
            raise ConfigError(f"--at-least {text!r}: give COLUMN=VALUE, such as accuracy=60")
        if found.get(name, limit) != limit:
            raise ConfigError(f"--at-least {name}={found[name]:g} and {name}={limit:g}: give one limit a column")
        found[name] = limit
    return found


def _claim(folder: Path, config: Config) -> None:
    file = folder / "config.toml"
    if file.is_file() and is_tabular(folder):
        there, now = (c.model_dump(mode="json", exclude={"version", "command", "created", "file"}) for c in
                      (read_config(folder), config))  # fmt: skip
        if differences := [f"{k}: {there[k]} → {now[k]}" for k in there if there[k] != now[k]]:
            raise ConfigError(
                f"{folder} holds another run, which is not overwritten; choose another --out "
                f"(there → now: {'; '.join(differences)})"
            )
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists and is no such run; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(file, tomli_w.dumps(config.model_dump(mode="json", by_alias=True)))


def _allowed(table: Table, asked: list[int], limit: float | None) -> list[int]:
    return [one for one in asked if limit is None or table.value[one] >= limit]


def _reached(table: Table, asked: list[int], limit: float | None, corner: tuple[float, float]) -> float:
    good = _allowed(table, asked, limit)
    return hypervolume(table.cost[good], table.value[good], corner)


def _has(file: Path, names: list[str], name: str) -> None:
    if name not in names:
        raise ConfigError(f"{file}: no column {name!r}{nearest(name, names)}")


def _reads(family: str, archs: list[str]) -> bool:
    try:
        decoder(family)(archs)
    except ConfigError:
        return False
    return True


def _number(text: str, where: str) -> float:
    try:
        return float(text) if text.strip() else math.nan
    except ValueError as error:
        raise ConfigError(f"{where} is {text[:40]!r}, not a number") from error


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))
