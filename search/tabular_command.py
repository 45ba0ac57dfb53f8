"""What `search run --tabular` does: its words checked, the search told as it goes, what was found printed."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click
from click.core import ParameterSource
from rich.console import Console

from hwbench.errors import ConfigError, Finding, nearest
from hwbench.provenance import command_line, commit
from search import tabular
from search.progress import counted

_TOLD_EVERY = 10
# Words of `search run` by their names there: those that only a table has, those that mean the same without one, and
# where tasks would be computed, which a script may say of all its searches alike.
_OF_TABLE = {"tabular", "arch", "maximize", "minimize", "at_least", "family", "evaluations"}
_OF_BOTH = {"strategy", "seed", "out", "as_json", "engine", "workers", "address"}


def check_words(context: click.Context, tabular: bool) -> None:
    """Raises ConfigError naming what was said that this kind of search has no use for: it would be ignored silently."""
    given = {
        str(p.name): p.opts[0]
        for p in context.command.params
        if context.get_parameter_source(str(p.name)) is ParameterSource.COMMANDLINE
    }
    if tabular and (strange := [option for name, option in given.items() if name not in _OF_TABLE | _OF_BOTH]):
        raise ConfigError(f"--tabular searches what FILE holds and has no use for {', '.join(strange)}; leave it out")
    if not tabular and (strange := [option for name, option in given.items() if name in _OF_TABLE]):
        raise ConfigError(f"only with --tabular FILE: {', '.join(strange)}; add it, or leave them out")


def run(
    *,
    file: Path,
    arch: str | None,
    maximize: tuple[str, ...],
    minimize: tuple[str, ...],
    at_least: tuple[str, ...],
    family: str | None,
    strategy: str | None,
    evaluations: int | None,
    seed: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Search FILE; the folder is made when all words make sense. Raises ConfigError where they do not."""
    needed = {"--arch": arch, "--maximize": maximize, "--minimize": minimize, "--evaluations": evaluations}
    if missing := [option for option, value in needed.items() if not value]:
        raise ConfigError(f"--tabular also needs {', '.join(missing)}")
    for option, columns in (("--maximize", maximize), ("--minimize", minimize)):
        if len(columns) > 1:
            raise ConfigError(
                f"{option} {' and '.join(columns)}: a table is searched for one value at one cost; search once for each"
            )
    assert arch and evaluations
    value, cost = maximize[0], minimize[0]
    if len({arch, value, cost}) < 3:
        raise ConfigError(f"--arch {arch}, --maximize {value} and --minimize {cost} name three columns")
    chosen = strategy or tabular.STRATEGIES[0]
    if chosen not in tabular.STRATEGIES:
        raise ConfigError(f"unknown strategy {chosen!r} for a table{nearest(chosen, tabular.STRATEGIES)}")
    limits = tabular.limits(at_least)
    config = tabular.Config(
        family=family or tabular.family_of(file, arch),
        file=file.resolve(),
        sha256=tabular.sha256(file),
        arch=arch,
        maximize=value,
        minimize=cost,
        at_least=limits,
        strategy=chosen,
        evaluations=evaluations,
        seed=seed,
        version=commit() or "",
        command=command_line(sys.argv),
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    perform(out or Path("runs") / f"{value}-{cost}-{file.stem}-{seed}", config, as_json)


def perform(folder: Path, config: tabular.Config, as_json: bool) -> None:
    """Search and say what was found. Raises Finding where nothing keeps the limit."""
    table = tabular.read_table(config)
    try:
        with counted(Console(stderr=True), "asking") as told:

            def heard(count: int, reached: float) -> None:
                if count % _TOLD_EVERY == 0:
                    told(count, config.evaluations, f"hypervolume {reached:.6g}")

            found = tabular.perform(folder, config, table, heard)
    except KeyboardInterrupt as interruption:
        raise KeyboardInterrupt(f"continue with: search resume {folder}") from interruption
    click.echo(_json(config, found) if as_json else _text(folder, config, found))
    if not found.front:
        limit = config.at_least[config.maximize]
        raise Finding(
            f"none of {len(found.asked)} evaluations has {config.maximize} {limit:g}; allow more with --evaluations"
        )


def _json(config: tabular.Config, found: tabular.Found) -> str:
    table = found.table
    rows = [
        {"arch": table.archs[i], config.maximize: float(table.value[i]), config.minimize: float(table.cost[i])}
        for i in found.front
    ]
    return json.dumps({
        "evaluations": len(found.asked),
        "candidates": len(table.archs),
        "left_out": dict(table.left_out),
        "hypervolume": found.hypervolume,
        "reference": {config.minimize: found.corner[0], config.maximize: found.corner[1]},
        "front": rows,
    })  # fmt: skip


def _text(folder: Path, config: tabular.Config, found: tabular.Found) -> str:
    table = found.table
    rows = [f"{table.value[i]:>10.5g}  {table.cost[i]:>10.5g}  {table.archs[i]}" for i in found.front]
    left = ", ".join(f"{count} {reason}" for reason, count in table.left_out.items())
    return "\n".join([
        f"{config.maximize}, {config.minimize}, {config.arch}:",
        *rows,
        f"front     {len(rows)} of {len(found.asked)} evaluations of {len(table.archs)} candidates"
        + (f" (left out: {left})" if left else ""),
        f"reached   hypervolume {found.hypervolume:.6g} (reference: {config.minimize} {found.corner[0]:.6g}, "
        f"{config.maximize} {found.corner[1]:.6g})",
        f"files     {folder / 'evaluations.csv'}, {folder / 'front.csv'}",
    ])  # fmt: skip
