"""From the words of a command line to a run: names checked, files found and pinned, plugins opened."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
from pydantic import ValidationError

import models
from hwbench import plugin
from hwbench.errors import ConfigError, MissingRows
from hwbench.fault import explain
from hwbench.provenance import command_line, commit
from hwbench.resources import find_table
from hwbench.table import LatencyTable
from hwbench.target import SIMULATOR, Target
from hwbench.target_file import find_target
from models.space import Space, load_space
from search.budgets import extended
from search.engine import Done, Engine
from search.front import Front
from search.objective import objectives as named
from search.predictor import Learned
from search.problem import Problem
from search.run import Config, Journal, Pinned, Run, Watcher, drive, read_config, write_whole
from search.strategy import Budget, Strategy
from search.task import File, Task, array_sha256
from search.warm import first_backbones

logger = logging.getLogger(__name__)

# How backbones come by their exits; else a file.
OWN, SHARED = "own", "shared"


def configure(
    *,
    objectives: Sequence[str],
    limits: Mapping[str, float],
    target: str,
    space: str,
    backend: str | None,
    table: Path | None,
    checkpoint: Path | None,
    exits: str,
    dataset: str | None,
    problem: str,
    options: Mapping[str, Any],
    strategy: str,
    budget: Budget,
    seed: int,
    command: Sequence[str],
    backbones: Sequence[str] = (),
    warm: Path | None = None,
    screen: int | None = None,
) -> Config:
    """The config of a new run; backbones: of strategy `fixed`, as on the command line; warm: a run to begin from.

    screen: of strategy `nested`, as on the command line.

    Raises ConfigError naming the nearest known name, or the command that makes a file.
    """
    named(objectives)
    plugin.load("search.problems", problem)
    takes = plugin.load("search.strategies", strategy).Options.model_fields
    board = find_target(target)
    found = load_space(space)
    file = table or choose_table(board, found.name, backend, space)
    read = LatencyTable.read(file)
    if table is not None and backend not in (None, read.origin.backend):
        raise ConfigError(f"{table} is of {read.origin.backend}, not of {backend}; leave --backend out")
    dataset = dataset or default_dataset(found.name)
    given = dict.fromkeys(backbone(found, text) for text in backbones)
    if (strategy == "fixed") != bool(given):
        raise ConfigError("--strategy fixed and --backbone need each other: say which backbones get exits")
    if screen is not None and "screen" not in takes:
        raise ConfigError(f"--screen is for strategy nested; {strategy} breeds no children that could be screened")
    if given:
        budget = replace(budget, outer_generations=1, outer_population=len(given), survivors=len(given))
    started: dict[str, Any] = {"backbones": [list(genes) for genes in given]} if given else {}
    if warm is not None:
        if "first" not in takes:
            raise ConfigError(
                f"--from gives strategy nested or evolution its first backbones; {strategy} has no use for them"
            )
        started = {"first": [list(genes) for genes in first_backbones(warm, found)]}
    if screen is not None:
        started["screen"] = screen
    return Config(
        version=commit() or "",
        command=command_line(command),
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        seed=seed,
        objectives=tuple(objectives),
        constraints=dict(limits),
        problem=problem,
        options=completed(options, board, read),
        strategy=strategy,
        strategy_options=started,
        space=str(Path(space).resolve()) if space.endswith((".toml", ".json")) else found.name,
        space_sha256=found.digest(),
        target=board.name,
        backend=read.origin.backend,
        dataset=dataset,
        dataset_sha256=dataset_sha256(dataset),
        budget=budget,
        table=Pinned(path=file.resolve(), sha256=read.sha256),
        checkpoint=pin(checkpoint or default_checkpoint(found.name, space), space),
        exits=None if exits == OWN else pin(shared_exits(exits, found.name), f"{space} --exits"),
    )


def backbone(space: Space, text: str) -> tuple[int, ...]:
    """Canonical genes of `smallest`, `largest`, or of genes as evaluations.csv has them: `digits:2.0.1` or `2.0.1`."""
    if text in ("smallest", "largest"):
        return space.subnet(getattr(space, text)()).genes
    try:
        genes = [int(value) for value in text.removeprefix(f"{space.name}:").split(".")]
    except ValueError:
        raise ConfigError(
            f"{text!r} is no backbone; give smallest, largest, or genes as evaluations.csv has them: "
            f"{'.'.join(map(str, space.largest()))}"
        ) from None
    return space.subnet(genes).genes


def choose_table(board: Target, space: str, backend: str | None, named: str | None = None) -> Path:
    """The table of a board and space: of that backend, else of the board's first, else the simulated one.

    named: how commands name the space, where that is a file.

    Raises ConfigError with the command that makes it.
    """
    if backend == SIMULATOR:
        return find_table(board.name, SIMULATOR, space, named)
    section = board.backend_section(backend)
    try:
        return find_table(board.name, section.kind, space, named)
    except ConfigError as missing:
        if backend is not None or not board.simulation:
            raise
        try:
            file = find_table(board.name, SIMULATOR, space, named)
        except ConfigError:
            raise ConfigError(f"{missing}, or without a board with --simulate") from None
        logger.warning(
            "nobody measured %s with %s yet: searching the simulated table %s", board.name, section.kind, file
        )
        return file


def completed(options: Mapping[str, Any], board: Target, table: LatencyTable) -> dict[str, Any]:
    """The options with what the board decides where they are silent.

    Of several processors the board's first, in fp32 where it has that. With models between clocks the whole grid.
    """
    told = dict(options)
    units = {s.unit for s in table.settings}
    if "unit" not in told and len(units) > 1:
        order = [unit for section in board.backend for unit in section.units]
        told["unit"] = min(units, key=lambda unit: (order.index(unit) if unit in order else len(order), unit))
    precisions = [s.precision for s in table.settings if s.unit == told.get("unit", s.unit)]
    if "precision" not in told and precisions and "fp32" not in precisions:
        told["precision"] = precisions[0]
    unit = told.get("unit", next(iter(units), ""))
    if table.clock_models and board.grid(unit):
        told["grid"] = board.grid(unit)
    return told


def check_unchanged(config: Config) -> None:
    """Raises ConfigError showing what differs between what the run was started with and what is there now."""
    found = load_space(config.space)
    now = config.model_copy(
        update={
            "space_sha256": found.digest(),
            "dataset_sha256": dataset_sha256(config.dataset),
            "table": Pinned(path=config.table.path, sha256=LatencyTable.read(config.table.path).sha256),
            "checkpoint": pin(config.checkpoint.path, config.space),
            "exits": config.exits and pin(config.exits.path, f"{config.space} --exits"),
        }
    )
    if differences := config.differences(now):
        raise ConfigError(
            f"what the run was started with has changed since ({'; '.join(differences)}); "
            f"put {config.table.path}, {config.checkpoint.path} and the data back as they were, or start a new run"
        )


def extend(folder: Path, outer: str) -> Config:
    """Give a run more outer generations; what it has asked so far stays, as its first generations do not change."""
    config = read_config(folder)
    check_unchanged(config)
    longer = config.model_copy(update={"budget": extended(config.budget, outer)})
    if longer != config:
        with Run.start(folder, config) as run:
            run.replan(longer)
    return longer


def perform(
    run: Run,
    problem: Problem,
    engine: Engine,
    watchers: Sequence[Watcher] = (),
    remark: Callable[[str], None] = lambda _: None,
) -> Front:
    """Search, or go on with the search, and write its files. remark: told what a predictor was worth."""
    config = run.config
    strategy_module = plugin.load("search.strategies", config.strategy)
    strategy = cast(
        Strategy,
        strategy_module.open(_options(strategy_module, config.strategy_options, f"strategy {config.strategy}")),
    )
    rng = np.random.default_rng(config.seed)
    learning = Learning(strategy, run.folder / "predictor.csv", remark)
    with Journal(run.folder / "evaluations.csv") as journal:
        front = drive(problem, strategy, config.budget, engine, run.store, rng, [journal, learning, *watchers])
    run.finish(front)
    return front


def open_engine(name: str, *, workers: int | None, address: str | None) -> Engine:
    """What computes the tasks; raises ConfigError for an engine that is unknown, or an option that it does not have."""
    module = plugin.load("search.engines", name)
    asked = {"workers": workers, "address": address}
    try:
        options = module.Options.model_validate({key: value for key, value in asked.items() if value is not None})
    except ValidationError as error:
        raise ConfigError(f"engine {name}: {explain(error, module.Options)}") from error
    return cast(Engine, module.open(options))


class Learning:
    """predictor.csv: what a strategy's predictor was worth in each generation, where it has one; a watcher.

    rank_correlation: Spearman's, of what was predicted before an evaluation and what was then measured.
    """

    def __init__(self, strategy: Strategy, file: Path, remark: Callable[[str], None]) -> None:
        self._strategy = strategy
        self._file = file
        self._remark = remark
        self._told = 0

    def asked(self, n: int, tasks: Sequence[Task], known: int) -> None:
        """Nothing to note yet."""

    def answered(self, done: Done) -> None:
        """Nothing to note: the strategy learns whole batches."""

    def heard(self, n: int, tasks: Sequence[Task], front: Front | None) -> None:
        """Note what the strategy has learned since."""
        # Most strategies have no predictor, so it is no part of their contract.
        learned: Sequence[Learned] = getattr(self._strategy, "learned", ())
        if len(learned) == self._told:
            return
        for one in learned[self._told :]:
            told = "unknown" if one.rank_correlation is None else f"{one.rank_correlation:.3f}"
            self._remark(f"predictor of {one.trained_on} backbones: rank correlation {told} on the next {one.asked}")
        self._told = len(learned)
        rows = [
            f"{one.trained_on},{one.asked},{'' if one.rank_correlation is None else repr(one.rank_correlation)}"
            for one in learned
        ]
        write_whole(self._file, "\n".join(["trained_on,asked,rank_correlation", *rows]) + "\n")


def open_problem(config: Config) -> Problem:
    """The problem that a run searches."""
    module = plugin.load("search.problems", config.problem)
    asked = {
        **{name: getattr(config, name) for name in ("objectives", "constraints", "space", "target", "backend")},
        **{name: getattr(config, name) for name in ("dataset", "seed")},
        **{name: getattr(config, name).path for name in ("table", "checkpoint")},
        **({"exits": config.exits.path} if config.exits else {}),
        **config.options,
    }
    options = _options(module, asked, f"problem {config.problem}")
    try:
        return cast(Problem, module.open(options))
    except MissingRows as missing:
        # A table knows the name of its space, not the file that it is in.
        name = load_space(config.space).name
        raise MissingRows(
            str(missing).replace(f"--space {name} ", f"--space {config.space} "), missing.keys
        ) from missing


def _options(module: ModuleType, given: Mapping[str, Any], what: str) -> Any:
    try:
        return module.Options.model_validate(given)
    except ValidationError as error:
        raise ConfigError(f"{what}: {explain(error, module.Options)}") from error


def pin(checkpoint: Path, space: str) -> Pinned:
    """The supernet's weights, known by their bytes."""
    try:
        file = File.of(checkpoint.resolve())
    except OSError as error:
        raise ConfigError(
            f"{checkpoint}: the supernet cannot be read ({error.strerror}); make it with: search train --space {space}"
        ) from error
    return Pinned(path=file.path, sha256=file.sha256)


def default_checkpoint(space: str, named: str | None = None) -> Path:
    """The trained supernet that ships with the project; named: how commands name the space, where that is a file."""
    folder = Path(models.__file__).parent / "checkpoints"
    known = {file.stem: file for file in folder.glob("*.safetensors")}
    if space not in known:
        raise ConfigError(
            f"no trained supernet of space {space!r} ships here (known: {', '.join(sorted(known)) or 'none'}); "
            f"train one with: search train --space {named or space}, then name it with --checkpoint"
        )
    return known[space]


def shared_exits(exits: str, space: str) -> Path:
    """The file of exits shared by all backbones: the one that ships where `shared` is said, else the one named."""
    if exits != SHARED:
        return Path(exits)
    file = Path(models.__file__).parent / "checkpoints" / "exits" / f"{space}.safetensors"
    if not file.is_file():
        raise ConfigError(
            f"no shared exits of space {space!r} ship here; train some with: search train --space {space} --exits, "
            "then name the file with --exits"
        )
    return file


def default_dataset(space: str) -> str:
    """The images that a shipped space is made for."""
    known = {"digits": "digits32", "sdu": "cifar10"}
    if space not in known:
        there = ", ".join(plugin.names("models.datasets"))
        raise ConfigError(f"space {space!r} has no data set of its own; name one with --dataset (known: {there})")
    return known[space]


def dataset_sha256(name: str) -> str:
    """Content of what a search sees of a data set: `train` and `val`."""
    from models import datasets  # reads images, so only when a run begins

    digest = hashlib.sha256()
    for split in ("train", "val"):
        found = datasets.load(name, split)
        digest.update(f"{array_sha256(found.images)}{array_sha256(found.labels)}".encode())
    return digest.hexdigest()
