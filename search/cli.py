"""The command line `search`: spaces, training, searches, and what follows them.

Every command imports what it needs when it runs, so that `search --help` answers at once.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from hwbench import command
from hwbench.errors import ConfigError, Finding
from search.router import ROUTERS

if TYPE_CHECKING:
    from search.engine import Engine
    from search.problem import Problem
    from search.run import Run

_F = TypeVar("_F", bound=Callable[..., Any])

# option -> metric, what one unit of the option is in the metric's unit, help
_LIMITS: dict[str, tuple[str, float, str]] = {
    "--max-latency-ms": ("latency_ms", 1.0, "at most so many ms per input, on average"),
    "--max-energy-mj": ("energy_mj", 1.0, "at most so many mJ per input, on average"),
    "--max-size-mb": ("size_bytes", 1e6, "weights of at most so many megabytes (1 MB = 1,000,000 bytes)"),
    "--max-memory-mb": ("memory_bytes", 1e6, "memory of at most so many megabytes"),
    "--min-accuracy": ("accuracy", 1.0, "accuracy on val of at least so much, from 0 to 1"),
}


def _limits(function: _F) -> _F:
    """One option a limit; each arrives under its metric's name."""
    for option, (metric, _, text) in reversed(_LIMITS.items()):
        positive = click.FloatRange(min=0, min_open=True)
        function = click.option(option, metric, type=positive, metavar="X", help=text)(function)
    return function


def _engine(function: _F) -> _F:
    """Where tasks are computed: three options, which arrive as the engine they describe."""

    @functools.wraps(function)
    def opened(*, engine: str, address: str | None, workers: int | None, **given: Any) -> Any:
        from search.launch import open_engine

        return function(engine=open_engine(engine, workers=workers, address=address), **given)

    options = [
        click.option(
            "--engine", default="local", show_default=True, help="local: processes of this machine; ray: a cluster"
        ),
        click.option("--address", help="of a running Ray cluster, such as auto  [default: start one on this machine]"),
        click.option(
            "--workers",
            type=click.IntRange(min=0),
            help="tasks at a time; 0: compute in this process  [default: one a core]",
        ),
    ]
    return cast(_F, functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), opened))


@click.group(cls=command.Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="hwbench-nas")
def group() -> None:
    """Search dynamic networks over measured tables, and check on the board what the search promised.

    With --debug, anywhere on the line, errors come with their traceback.
    """


@group.group(cls=command.Group)
def space() -> None:
    """Look at search spaces."""


@space.command("show")
@click.argument("name")
def show(name: str) -> None:
    """Genes, exact size and extremes of the space NAME, which may also be a .toml or .json file."""
    from models.space import load_space

    found = load_space(name)
    click.echo(
        f"{found.name}: {found.size():,} networks, {len(found.genes)} genes, {len(found.slots)} slots, "
        f"{len(found.positions)} exit positions, {len(found.blocks)} blocks to measure"
    )
    width = max(len(gene.name) for gene in found.genes)
    for gene in found.genes:
        click.echo(f"  {gene.name:<{width}}  {'  '.join(str(value) for value in gene.values)}")
    for end, genes in (("smallest", found.smallest()[None]), ("largest", found.largest()[None])):
        macs, params = int(found.macs(genes)[0]), int(found.params(genes)[0])
        click.echo(f"{end:<8}  {macs:>13,} MACs  {params:>11,} parameters  {found.subnet(genes[0])}")


@group.command("train")
@click.option("--space", default="digits", show_default=True, help="search space, or a file of one")
@click.option("--dataset", help="images to learn from  [default: those of the space]")
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(min=0), help="the same seed, the same weights"
)
@click.option("--out", type=click.Path(path_type=Path), help="weights  [default: runs/supernet-SPACE-SEED.safetensors]")
@click.option("--resume", "must_resume", is_flag=True, help="only go on with an interrupted training, start none")
@click.option("--exits", is_flag=True, help="train exits that all subnets of a trained supernet share, instead")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="of --exits: the supernet  [default: what ships]")
def train(
    space: str,
    dataset: str | None,
    seed: int,
    out: Path | None,
    must_resume: bool,
    exits: bool,
    checkpoint: Path | None,
) -> None:
    """Train the supernet of a space. Goes on where an equal training was interrupted.

    By several processes, or on GPUs: torchrun --nproc-per-node 2 -m search.cli train …
    """
    from search import train_command

    train_command.run(
        space=space, dataset=dataset, seed=seed, out=out, must_resume=must_resume, exits=exits, checkpoint=checkpoint
    )


def _tabular(function: _F) -> _F:
    """What a search of a table of architectures takes."""
    column: dict[str, Any] = {"metavar": "COLUMN"}
    # Repeatable only so that a second one is refused: click alone would silently take the last.
    one = column | {"multiple": True}
    for option in (
        click.option("--evaluations", type=click.IntRange(min=1), help="of --tabular: how many values may be asked"),
        click.option("--family", metavar="NAME", help="of --tabular: how ARCH is written  [default: told from FILE]"),
        click.option("--at-least", multiple=True, metavar="COLUMN=VALUE", help="of --tabular: a limit; repeatable"),
        click.option("--minimize", **one, help="of --tabular: the cost, which may be read freely"),
        click.option("--maximize", **one, help="of --tabular: the value, of which each reading is an evaluation"),
        click.option("--arch", **column, help="of --tabular: the architectures"),
        click.option(
            "--tabular",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="search a CSV or Parquet table of trained architectures instead",
        ),
    ):
        function = option(function)
    return function


@group.command("run")
@click.option("--objective", "objectives", multiple=True, metavar="NAME",
              help="latency, energy, size, memory, macs, exits or score (of HADAS), besides accuracy")  # fmt: skip
@click.option("--target", default="host", show_default=True, help="board whose table is searched")
@click.option("--space", default="digits", show_default=True, help="search space, or a file of one")
@click.option("--backend", help="runtime of the table  [default: the target's first]")
@click.option("--table", type=click.Path(path_type=Path), help="table  [default: TARGET/BACKEND-SPACE.csv]")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="supernet  [default: the one that ships]")
@click.option(
    "--exits",
    default="own",
    show_default=True,
    help="own: each backbone trains its exits; shared: those that ship for all; or a file of such",
)
@click.option("--dataset", help="images to answer  [default: those of the space]")
@click.option("--simulate", is_flag=True, help="search the target's simulated table, also where a measured one is")
@click.option("--unit", help="processor, where the table has several  [default: the target's first]")
@click.option("--precision", help="number format, where the table has several  [default: fp32 where there is]")
@click.option("--threads", type=click.IntRange(min=1), help="threads, where the table has several")
@click.option("--strategy", help="how to search: nested, evolution (once-for-all's, with a predictor of "
                                 "accuracy), random; a table: predictor, random  [default: the first]")  # fmt: skip
@click.option("--backbone", "backbones", multiple=True, metavar="GENES",
              help="search exits and clocks of this backbone alone, or of several: smallest, largest, or genes such "
                   "as 2.0.1 of evaluations.csv")  # fmt: skip
@click.option("--screen", type=click.IntRange(min=1), metavar="N",
              help="of nested: of N children one is evaluated, which a predictor picks  [default: 1]")  # fmt: skip
@click.option("--problem", default="exits", show_default=True, help="what to search: exits")
@click.option("--budget", default="small", show_default=True,
              help="small (a minute for digits), medium, paper: as HADAS' configuration, 64x7 backbones and 50x7 "
                   "choices of exits and clocks for each of the best 10, or paper-each: 50x70 choices")  # fmt: skip
@click.option("--outer", metavar="PxG", help="backbones: population x generations, such as 64x7  [default: --budget's]")
@click.option("--inner", metavar="PxG", help="exits and clocks of each survivor, the same way  [default: --budget's]")
@click.option("--survivors", type=click.IntRange(min=1), metavar="N",
              help="backbones of a generation that get an inner search  [default: --budget's]")  # fmt: skip
@click.option("--router", type=click.Choice(ROUTERS),
              help="the score by which an input leaves at an exit; learned: what a gate says that is trained for each "
                   "exit; patience: at the first where enough in a row agree  [default: max_softmax]")  # fmt: skip
@click.option("--exits-from", type=click.IntRange(min=1), metavar="N",
              help="exits stand behind the Nth layer at the earliest, as HADAS: 5  [default: 1]")  # fmt: skip
@click.option("--max-exits", type=click.IntRange(min=0), metavar="N", help="at most so many exits")
@click.option("--clocks", type=click.Choice(["searched", "default"]),
              help="default: no clock is searched, all runs at the fastest point  [default: searched]")  # fmt: skip
@click.option("--gamma", type=click.FloatRange(min=0), metavar="X",
              help="weight of dissimilar exits in --objective score  [default: 1]")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="the same seed, the same front")
@_engine
@click.option("--from", "warm", metavar="RUN", type=click.Path(path_type=Path),
              help="finished run whose front's backbones are the first population, whatever its target")  # fmt: skip
@click.option("--reuse", multiple=True, metavar="RUN", type=click.Path(path_type=Path),
              help="run folder; what it holds is not computed again where this search asks it, too")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="folder  [default: runs/OBJECTIVE-SPACE-TARGET-SEED]")
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
@_limits
@_tabular
def run(
    objectives: tuple[str, ...],
    strategy: str | None,
    seed: int,
    tabular: Path | None,
    arch: str | None,
    maximize: tuple[str, ...],
    minimize: tuple[str, ...],
    at_least: tuple[str, ...],
    family: str | None,
    evaluations: int | None,
    unit: str | None,
    precision: str | None,
    threads: int | None,
    simulate: bool,
    budget: str,
    outer: str | None,
    inner: str | None,
    survivors: int | None,
    router: str | None,
    exits_from: int | None,
    max_exits: int | None,
    gamma: float | None,
    clocks: str | None,
    backbones: tuple[str, ...],
    engine: Engine,
    warm: Path | None,
    reuse: tuple[Path, ...],
    out: Path | None,
    as_json: bool,
    latency_ms: float | None,
    energy_mj: float | None,
    size_bytes: float | None,
    memory_bytes: float | None,
    accuracy: float | None,
    **asked: Any,
) -> None:
    """Search the trade-off of accuracy and each OBJECTIVE. Goes on where an equal search was interrupted."""
    from search import tabular_command

    tabular_command.check_words(click.get_current_context(), tabular is not None)
    if tabular is not None:
        tabular_command.run(
            file=tabular, arch=arch, maximize=maximize, minimize=minimize, at_least=at_least, family=family,
            strategy=strategy, evaluations=evaluations, seed=seed, out=out, as_json=as_json,
        )  # fmt: skip
        return
    if not objectives:
        raise ConfigError("what to search? give --objective latency or energy, or --tabular FILE")
    from hwbench.target import SIMULATOR
    from search import budgets
    from search.launch import configure, open_problem
    from search.reuse import check as check_reuse
    from search.run import Run

    if simulate and asked["backend"] not in (None, SIMULATOR):
        raise ConfigError(f"--simulate searches the table of {SIMULATOR}, not of {asked['backend']}; give one")
    if simulate:
        asked["backend"] = SIMULATOR
    if backbones and (strategy or outer or survivors):
        raise ConfigError("with --backbone no backbones are searched; leave --strategy, --outer and --survivors out")
    given = {"latency_ms": latency_ms, "energy_mj": energy_mj, "size_bytes": size_bytes, "memory_bytes": memory_bytes}
    given |= {"accuracy": accuracy}
    if gamma is not None and "score" not in objectives:
        raise ConfigError("--gamma weighs exits in the score; say --objective score with it")
    limits = {m: x * factor for m, factor, _ in _LIMITS.values() if (x := given[m]) is not None}
    limits |= {} if max_exits is None else {"exits": float(max_exits)}
    options: dict[str, Any] = {"unit": unit, "precision": precision, "threads": threads, "router": router}
    options |= {"first_layer": exits_from, "gamma": gamma, "clocks": clocks}
    config = configure(
        objectives=objectives,
        limits=limits,
        budget=budgets.budget(budget, outer=outer, inner=inner, survivors=survivors),
        options={name: value for name, value in options.items() if value is not None},
        command=sys.argv,
        strategy="fixed" if backbones else strategy or "nested",
        backbones=backbones,
        warm=warm,
        seed=seed,
        **asked,
    )
    name = f"{'-'.join(objectives)}-{Path(config.space).stem}-{config.target}-{config.seed}"
    name += "-simulated" if config.backend == SIMULATOR else ""
    # Opened before the folder is made: what cannot be searched leaves nothing behind.
    problem = open_problem(config)
    check_reuse(reuse)
    with Run.start(out or Path("runs") / name, config) as opened:
        _search(opened, problem, engine, as_json, reuse)


@group.command("resume")
@click.argument("folder", type=click.Path(path_type=Path))
@_engine
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
def resume(folder: Path, engine: Engine, as_json: bool) -> None:
    """Go on with the search in FOLDER; its front will be as if it had not been interrupted."""
    from search import tabular, tabular_command
    from search.launch import check_unchanged, open_problem
    from search.run import Run, read_config

    if tabular.is_tabular(folder):
        tabular_command.perform(folder, tabular.read_config(folder), as_json)
        return
    config = read_config(folder)
    check_unchanged(config)
    problem = open_problem(config)
    with Run.start(folder, config) as opened:
        _search(opened, problem, engine, as_json)


@group.command("extend")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--outer", required=True, metavar="PxG", help="backbones as the search now shall have, such as 64x14")
@_engine
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
def extend(folder: Path, outer: str, engine: Engine, as_json: bool) -> None:
    """Give the search in FOLDER more generations; its front will be as if it had been asked for so many at once."""
    from search.launch import extend as lengthen
    from search.launch import open_problem
    from search.run import Run

    config = lengthen(folder, outer)
    problem = open_problem(config)
    with Run.start(folder, config) as opened:
        _search(opened, problem, engine, as_json)


@group.command("verify")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--designs", default=10, show_default=True, type=click.IntRange(min=1), help="how many, over the front")
@click.option("--sessions", default=3, show_default=True, type=click.IntRange(min=1), help="fresh processes a design")
@click.option(
    "--repeats", default=3, show_default=True, type=click.IntRange(min=1), help="runs of each sample in a row"
)
@click.option("--allow-cpu-fallback", is_flag=True, help="run on the processor what an accelerator cannot")
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
def verify(folder: Path, designs: int, sessions: int, repeats: int, allow_cpu_fallback: bool, as_json: bool) -> None:
    """Run designs of FOLDER on their board and hold them against the promise.

    Exit 1 when fewer than 9 in 10 keep it, 3 when the machine drifted too far to tell.
    """
    from rich.console import Console

    from search import verify as verification
    from search.launch import check_unchanged
    from search.progress import counted
    from search.run import Run, read_config

    config = read_config(folder)
    check_unchanged(config)
    try:
        with Run.start(folder, config) as opened, counted(Console(stderr=True), "verifying") as told:
            done = verification.verify(
                opened,
                count=designs,
                sessions=sessions,
                repeats=repeats,
                allow_cpu_fallback=allow_cpu_fallback,
                told=told,
            )
    except KeyboardInterrupt as interruption:
        raise KeyboardInterrupt(f"continue with: search verify {folder} --designs {designs}") from interruption
    click.echo(verification.to_json(done) if as_json else verification.to_text(done))
    verification.judge(done, folder)


@group.command("test")
@click.argument("folder", type=click.Path(path_type=Path))
@_engine
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
def test(folder: Path, engine: Engine, as_json: bool) -> None:
    """What the designs of FOLDER do on `test`, which no search sees; writes FOLDER/test.csv. Needs no board."""
    from rich.console import Console

    from search import unseen
    from search.launch import check_unchanged
    from search.progress import counted
    from search.run import Run, read_config

    config = read_config(folder)
    check_unchanged(config)
    with (
        Run.start(folder, config) as opened,
        engine as computing,
        counted(Console(stderr=True), "answering") as told,
    ):
        rows = unseen.unseen(opened, computing, told)
        unseen.write(opened, rows)
    click.echo(unseen.to_json(rows) if as_json else unseen.to_text(rows))


@group.command("report")
@click.argument("folder", type=click.Path(path_type=Path))
def report(folder: Path) -> None:
    """Write FOLDER/report.html, one self-contained page."""
    from search import report as reporting
    from search.run import Run, read_config

    with Run.start(folder, read_config(folder)) as opened:
        reporting.write(opened)
    click.echo(str(folder / "report.html"))


@group.command("compare")
@click.argument("run_a", type=click.Path(path_type=Path))
@click.argument("run_b", type=click.Path(path_type=Path))
@click.option("--reference", default=1.1, show_default=True, type=click.FloatRange(min=1), metavar="X",
              help="corner of the hypervolume, where the best of both fronts is 0 and their worst 1")  # fmt: skip
@click.option("--at", multiple=True, type=float, metavar="X",
              help="accuracy at which costs are compared; repeatable  [default: six that both reach]")  # fmt: skip
@click.option("--designs", default=4, show_default=True, type=click.IntRange(min=1),
              help="how many of each front are shown step by step, over the front")  # fmt: skip
@click.option("--split", type=click.Choice(["val", "test"]), default="val", show_default=True,
              help="samples that accuracy and costs are told on; test needs `search test` of both runs")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
def compare(
    run_a: Path, run_b: Path, reference: float, at: tuple[float, ...], designs: int, split: str, as_json: bool
) -> None:
    """Say which of two finished runs found the better front: hypervolume, ratio of dominance, gain at equal accuracy.

    Runs whose objectives, target, evidence or data differ are refused.
    """
    from search import compare as comparing

    found = comparing.compare(*comparing.open_sides(run_a, run_b, designs, split), reference=reference, at=at)
    click.echo(found.to_json() if as_json else found.to_text())


def _search(opened: Run, problem: Problem, engine: Engine, as_json: bool, reuse: Sequence[Path] = ()) -> None:
    """Search in an opened run folder, show how it gets on, say what was found."""
    from rich.console import Console

    from search.launch import perform
    from search.progress import Shown
    from search.reuse import Reusing
    from search.summary import Summary

    if opened.finished:
        click.echo(f"{opened.folder}: finished before; nothing is overwritten, the store is only read again", err=True)
    try:
        with (
            engine as computing,
            Reusing(computing, reuse) as reusing,
            Shown(Console(stderr=True), opened.config.budget, reusing.workers) as shown,
        ):
            front = perform(opened, problem, reusing, [shown], shown.remark)
    except KeyboardInterrupt as interruption:
        # hwbench.command prints the text: what was finished is in the store.
        raise KeyboardInterrupt(f"continue with: search resume {opened.folder}") from interruption
    summary = Summary.of(opened, front)
    click.echo(summary.to_json() if as_json else summary.to_text())
    if not front.designs:
        limits = ", ".join(f"{metric} {limit:g}" for metric, limit in opened.config.constraints.items())
        apart = summary.contradiction()
        raise Finding(
            f"no design keeps the limits ({limits}), the nearest misses them by {summary.least_violation:.1%} in sum"
            f"{apart and f' ({apart})'}; loosen them, or search longer: search extend"
        )


def main() -> None:
    """Entry point of the console script."""
    sys.exit(command.run(group, "search"))


if __name__ == "__main__":
    main()
