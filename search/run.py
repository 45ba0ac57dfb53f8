"""A run: a folder with its config, its store and its results; and the loop between strategy, engine and store.

Resume is replay: the strategy is asked again from the start, and what the store holds is not computed again. So a run
that was killed at any point ends with the same front as one that was not.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TextIO

import numpy as np
import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hwbench.errors import ConfigError
from hwbench.store import Result, Store
from search import design
from search.engine import Done, Engine
from search.front import Front
from search.problem import Problem
from search.strategy import Budget, Dialogue, Strategy
from search.task import Task

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the older interpreter
    import tomli as tomllib

SCHEMA = 1


class Watcher(Protocol):
    """Told what happens in a search, in this order for each batch."""

    def asked(self, n: int, tasks: Sequence[Task], known: int) -> None:
        """Batch n begins; the store holds the results of `known` of its tasks already."""

    def answered(self, done: Done) -> None:
        """One more result was computed and is safe."""

    def heard(self, n: int, tasks: Sequence[Task], front: Front | None) -> None:
        """The strategy has digested batch n; front = the best it knows so far."""


def drive(
    problem: Problem,
    strategy: Strategy,
    budget: Budget,
    engine: Engine,
    store: Store,
    rng: np.random.Generator,
    watchers: Sequence[Watcher] = (),
) -> Front:
    """Ask the strategy, have its tasks run, commit each result, answer in the order asked; until it returns its front.

    Raises ConfigError at the first batch that differs from the one stored, naming batch and task.
    """
    dialogue = strategy.search(problem, budget, rng)
    n, step = 0, _step(dialogue, None)
    while isinstance(step, list):
        results = _answer(n, step, engine, store, watchers)
        tasks, step = step, _step(dialogue, results)
        for watcher in watchers:
            watcher.heard(n, tasks, strategy.front if isinstance(step, list) else step)
        n += 1
    return step


def _step(dialogue: Dialogue, results: list[Result] | None) -> list[Task] | Front:
    try:
        return next(dialogue) if results is None else dialogue.send(results)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def _answer(n: int, tasks: Sequence[Task], engine: Engine, store: Store, watchers: Sequence[Watcher]) -> list[Result]:
    keys = [task.key for task in tasks]
    _check_batch(store, n, [f"{task.kind} {key}" for task, key in zip(tasks, keys, strict=True)])
    # Two candidates may ask the same; a dictionary keeps the order asked.
    missing = {key: task for key, task in zip(keys, tasks, strict=True) if not store.has(key)}
    for watcher in watchers:
        watcher.asked(n, tasks, len(tasks) - len(missing))
    # The engine stops its workers when its iterator is closed, whatever goes wrong here.
    with contextlib.closing(engine.run(list(missing.values()))) as running:
        for done in running:
            task = done.task
            store.put(
                task.key, task.kind, task.args, done.result, reads=task.reads, seconds=done.seconds, worker=done.worker
            )
            for watcher in watchers:
                watcher.answered(done)
    # Read back even what was just computed: the first run and every replay see the same bytes.
    return [_stored(store, key) for key in keys]


def _stored(store: Store, key: str) -> Result:
    result = store.get(key)
    if result is None:
        raise ConfigError(f"{store.path}: the result of task {key} is gone; did another program change the store?")
    return result


def _check_batch(store: Store, n: int, asked: list[str]) -> None:
    """Compare what is asked with what was asked the first time; the first difference is an error."""
    name, text = f"batch {n}", "\n".join(asked)
    known = store.meta(name)
    if known is None:
        store.set_meta(name, text)
    elif known != text:
        pairs = enumerate(zip_longest(known.splitlines(), asked, fillvalue="nothing"))
        place, (then, now) = next((i, pair) for i, pair in pairs if pair[0] != pair[1])
        raise ConfigError(
            f"{store.path}: the replay differs at batch {n}, task {place}: it was {then}, it is {now}; the code or a "
            "library changed since: resume with the versions that started the run, or start a new one with --out"
        )
    store.check_batch(n, hashlib.blake2b(text.encode(), digest_size=16).hexdigest())


class Pinned(BaseModel):
    """A file by its place and its content."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    path: Path
    sha256: str


class Config(BaseModel):
    """config.toml: all that a search depends on, so that a resume asks the same.

    constraints: limit by metric.  options, strategy_options: of the problem and the strategy.
    space, dataset: a name and its content.
    table, checkpoint: pinned by content; exits, too, where backbones do not train their own.
    budget: the numbers, not only a name that may come to mean something else.
    version, command, created: how the run came about; not compared.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_: int = Field(alias="schema", default=SCHEMA)
    version: str
    command: str
    created: str
    seed: int
    objectives: tuple[str, ...]
    constraints: dict[str, float] = {}
    problem: str
    strategy: str
    options: dict[str, str | int | float] = {}
    strategy_options: dict[str, Any] = {}
    space: str
    space_sha256: str
    target: str
    backend: str
    dataset: str
    dataset_sha256: str
    budget: Budget
    table: Pinned
    checkpoint: Pinned
    exits: Pinned | None = None

    def differences(self, other: Config) -> list[str]:
        """`what: this one's, the other's` for everything that the results depend on."""
        mine, theirs = _content(self), _content(other)
        return [f"{k}: {mine.get(k)} → {theirs.get(k)}" for k in sorted(mine | theirs) if mine.get(k) != theirs.get(k)]


def _content(config: Config) -> dict[str, Any]:
    """What counts, flat; a pinned file counts by its content, wherever it lies."""
    flat: dict[str, Any] = {}
    for name, value in config.model_dump(mode="json", exclude={"version", "command", "created"}).items():
        flat |= {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
    return {name: value for name, value in flat.items() if not name.endswith(".path")}


class Run:
    """An opened run folder, held by one process at a time; a context manager.

    config.toml, store.sqlite, evaluations.csv (each evaluation in the order asked), front.csv and, once the search is
    through, designs.json.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder = folder
        self.config = config
        self.store = Store(folder / "store.sqlite")
        try:
            self._check_config()
        except ConfigError:
            self.store.close()
            raise

    @classmethod
    def start(cls, folder: Path, config: Config) -> Run:
        """A new run, or the one that was started here with an equal config; ConfigError shows what differs."""
        if (folder / "config.toml").is_file():
            there = read_config(folder)
            if differences := there.differences(config):
                raise ConfigError(
                    f"{folder} holds another run, which is not overwritten; choose another --out "
                    f"(there → now: {'; '.join(differences)})"
                )
            return cls(folder, there)
        if folder.exists() and (not folder.is_dir() or any(p.suffix != ".part" for p in folder.iterdir())):
            raise ConfigError(f"{folder} exists and is no run folder; choose another --out")
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder, config)
        return cls(folder, config)

    @property
    def finished(self) -> bool:
        """Whether the search is through; designs.json is written last."""
        return (self.folder / "designs.json").is_file()

    def replan(self, config: Config) -> None:
        """Go on by another config, under which the search begins as it did; until then the run is not finished."""
        (self.folder / "designs.json").unlink(missing_ok=True)
        _write(self.folder, config)
        self.config = config

    def _check_config(self) -> None:
        """The store knows the config that its results were asked by; raises ConfigError showing what was changed."""
        kept = self.store.meta("config")
        if kept is None:
            self.store.set_meta("config", self.config.model_dump_json(by_alias=True))
            return
        try:
            began = Config.model_validate_json(kept)
        except ValidationError:  # of a version that knew other keys; the replay itself still finds what differs
            return
        # No generation knows how many follow, and `replan` changes how many they are.
        now = self.config.budget.outer_generations
        began = began.model_copy(update={"budget": replace(began.budget, outer_generations=now)})
        if differences := began.differences(self.config):
            raise ConfigError(
                f"{self.folder / 'config.toml'} was changed since the run began ({'; '.join(differences)}); "
                "put it back, or start a new run with another --out"
            )

    def finish(self, front: Front) -> None:
        """Write front.csv and designs.json, each in one step."""
        write_whole(self.folder / "front.csv", front.to_csv())
        said = [{"key": d.key, **design.ADAPTER.dump_python(d, mode="json")} for d in front.designs]
        text = json.dumps({"schema": SCHEMA, "designs": said}, indent=1)
        write_whole(self.folder / "designs.json", text + "\n")

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.store.close()


def _write(folder: Path, config: Config) -> None:
    write_whole(folder / "config.toml", tomli_w.dumps(config.model_dump(mode="json", by_alias=True, exclude_none=True)))


def read_config(folder: Path) -> Config:
    """The config of a run folder; ConfigError naming the file, and the key that is wrong."""
    file = folder / "config.toml"
    try:
        said = tomllib.loads(file.read_text(encoding="utf-8"))
        if said.get("problem") == "tabular":
            raise ConfigError(
                f"{folder} searched the architectures of a file (--tabular): that can be resumed and compared, and "
                "searched longer with more --evaluations and another --out"
            )
        return Config.model_validate(said)
    except FileNotFoundError as error:
        raise ConfigError(f"{folder} is no run folder (no config.toml); start one with: search run") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error})") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{file}: {'.'.join(str(p) for p in first['loc'])}: {first['msg']}") from error


def read_designs(folder: Path) -> tuple[design.Design, ...]:
    """What a finished run found, in the order of front.csv; ConfigError when it is not finished or damaged."""
    file = folder / "designs.json"
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        return tuple(
            design.ADAPTER.validate_python({k: v for k, v in entry.items() if k != "key"}) for entry in said["designs"]
        )
    except FileNotFoundError as error:
        raise ConfigError(f"{folder}: its search is not through; run: search resume {folder}") from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error}); remove it and run: search resume {folder}") from error


def write_whole(file: Path, text: str) -> None:
    """Write a file in one step: a reader, or a crash, sees the old one or the new one."""
    temporary = file.with_name(file.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


class Journal:
    """evaluations.csv: every evaluation in the order asked, and the hypervolume once its batch was digested.

    Written anew by each replay, so the file is the same whether or not the run was interrupted.
    """

    COLUMNS = ("evaluation", "batch", "kind", "key", "subnet", "hypervolume")

    def __init__(self, file: Path) -> None:
        self._file: TextIO = file.open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(self.COLUMNS)
        self._count = 0

    def asked(self, n: int, tasks: Sequence[Task], known: int) -> None:
        """Nothing to note yet."""

    def answered(self, done: Done) -> None:
        """Results come in any order; the file keeps the order asked."""

    def heard(self, n: int, tasks: Sequence[Task], front: Front | None) -> None:
        """Note the batch."""
        hypervolume = "" if front is None else repr(front.hypervolume())
        for task in tasks:
            genes = task.args.get("genes")
            subnet = "" if genes is None else f"{task.args['space']}:{'.'.join(map(str, genes))}"
            self._rows.writerow((self._count, n, task.kind, task.key, subnet, hypervolume))
            self._count += 1
        self._file.flush()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
