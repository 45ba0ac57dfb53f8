"""The command line of hwbench. Heavy imports wait inside the commands, so that `hwbench targets` answers at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwbench import command
from hwbench.errors import ConfigError, Finding

if TYPE_CHECKING:
    from hwbench.gate import Gate
    from hwbench.profiling import Job
    from hwbench.session import WindowSpec
    from hwbench.table import LatencyTable


@click.group(cls=command.Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hwbench-nas", prog_name="hwbench")
def hwbench() -> None:
    """Measure neural networks on real boards, block by block, and keep every number with its evidence.

    Exit codes: 0 ok, 1 a finding, 2 usage or configuration, 3 inconclusive, 4 device or runtime failure.
    Add --debug to any command for tracebacks and the dialogue with the board.
    """


def _way(function: Any) -> Any:
    """Reach the board elsewhere than its target says."""
    function = click.option("--serial", help="Reach the Android device of this serial number instead.")(function)
    return click.option("--host", help="Reach it at user@host[:port] instead.")(function)


def _job_options(function: Any) -> Any:
    """What to measure, where and how: shared by `profile` and `table validate`."""
    for option in (
        click.option("--seed", default=0, show_default=True, help="Seed of orders and random networks."),
        click.option("--window", "window_s", type=float, help="Seconds a window lasts at least. [default: 0.2]"),
        click.option("--report-mode", is_flag=True, help="100 warm-ups and 1000 runs a window, as the papers do."),
        click.option(
            "--allow-cpu-fallback", is_flag=True, help="Run on the processor what an accelerator cannot; flags the row."
        ),
        click.option(
            "--batch", default=1, show_default=True, type=click.IntRange(1), help="Inputs that a run takes at once."
        ),
        click.option("--threads", type=click.IntRange(1), multiple=True, help="Threads of the runtime (repeatable)."),
        click.option("--precision", multiple=True, help="Only these precisions of the backend (repeatable)."),
        click.option("--unit", multiple=True, help="Only these processors of the backend (repeatable)."),
        click.option(
            "--noise", type=click.FloatRange(0, 50), help="With --simulate: sessions stray by so many percent."
        ),
        click.option(
            "--simulate", is_flag=True, help="An analytic board from the target's [simulation]; no board is touched."
        ),
        click.option("--model", help="timm:NAME, FILE.onnx, FILE.tflite or a bundle folder."),
        click.option("--space", help="A search space by name, or a file of your own. [default: digits]"),
        click.option("--backend", help="A runtime of the target. [default: its first]"),
        _way,
        click.option(
            "--target", "target_name", default="host", show_default=True, help="A board; see hwbench targets."
        ),
    ):
        function = option(function)
    return function


def _campaign_options(function: Any) -> Any:
    """How a campaign goes, and where it leaves what: shared by `profile` and `sweep`."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the table as JSON."),
        click.option(
            "--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Working folder."
        ),
        click.option(
            "--out", type=click.Path(path_type=Path), help="Table to write (stem). [default: latency_tables/…]"
        ),
        click.option(
            "--link", type=click.IntRange(0), help="Only the board behind this [[link]], from 0. [default: all]"
        ),
        click.option("--wait", is_flag=True, help="Wait for a board that somebody else uses."),
        click.option("--fresh", is_flag=True, help="Throw an unfinished campaign away."),
        click.option("--resume", is_flag=True, help="Go on where an interrupted campaign stopped."),
        click.option("--plan", "plan_only", is_flag=True, help="Print cells and estimated time, measure nothing."),
    ):
        function = option(function)
    return function


@hwbench.command()
@_job_options
@click.option("--sessions", default=5, show_default=True, type=click.IntRange(1), help="Fresh processes per cell.")
@click.option("--networks", default=64, show_default=True, help="Whole networks of a space, to fit the composition on.")
@click.option("--slowest", default=15, show_default=True, help="How many blocks to show.")
@_campaign_options
def profile(
    sessions: int,
    networks: int,
    plan_only: bool,
    resume: bool,
    fresh: bool,
    wait: bool,
    link: int | None,
    out: Path | None,
    runs: Path,
    slowest: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure a space, a model or a file block by block and whole, and write its latency table."""
    from hwbench import profiling, sweep, view
    from hwbench.campaign import CellsFailed
    from hwbench.progress import Bar
    from hwbench.resources import tables_dir

    failed: list[CellsFailed] = []
    job = _job(sessions=sessions, networks=networks, **options)
    folder = job.folder(runs)
    if plan_only:
        _print_plan(job, profiling.describe(job, folder), as_json=as_json)
        return
    with Bar(quiet=as_json) as bar:
        table = profiling.profile(
            job,
            folder,
            resume=resume,
            fresh=fresh,
            wait=wait,
            link=link,
            progress=bar.advance,
            phase=bar.phase,
            failed=failed.append,
        )
    stem = out or tables_dir() / table.origin.target / f"{table.origin.backend}-{job.name}"
    table = sweep.with_points(table, stem, tell=lambda text: click.echo(text, err=True))
    table.write(stem)
    if as_json:
        click.echo(json.dumps(_table_json(table), indent=1))
    else:
        screen = view.console()
        screen.print(view.rows_table((r for r in table.row.values() if r.kind == "block"), limit=slowest))
        _print_networks(table)
        screen.print(f"{len(table.row)} rows, evidence: {', '.join(f'{m} {e}' for m, e in table.source.items())}")
        screen.print(f"table: {stem}.csv")
    if failed:
        raise failed[0]


@hwbench.command()
@_job_options
@click.option("--clocks", help="all, sample:N, or points gpu=727,emc=1331.2;gpu=1300,emc=1866. [default: sample:12]")
@click.option("--sample", type=click.IntRange(1), help="So many points that fill the grid, its corners first.")
@click.option("--sessions", default=3, show_default=True, type=click.IntRange(1), help="Fresh processes per cell.")
@click.option("--networks", default=16, show_default=True, help="Whole networks of a space, measured at each point.")
@_campaign_options
def sweep(
    clocks: str | None,
    sample: int | None,
    sessions: int,
    networks: int,
    plan_only: bool,
    out: Path | None,
    runs: Path,
    as_json: bool,
    resume: bool,
    fresh: bool,
    wait: bool,
    link: int | None,
    **options: Any,
) -> None:
    """Measure at some operating points of the clocks (DVFS), and model all points between them."""
    from hwbench import profiling, sweep, view
    from hwbench.campaign import CellsFailed
    from hwbench.progress import Bar
    from hwbench.resources import tables_dir

    failed: list[CellsFailed] = []
    job = replace(_job(sessions=sessions, networks=networks, **options), clocks=sweep.spec(clocks, sample))
    folder = job.folder(runs)
    if plan_only:
        _print_plan(job, profiling.describe(job, folder), as_json=as_json)
        return
    with Bar(quiet=as_json) as bar:
        table = profiling.profile(
            job,
            folder,
            resume=resume,
            fresh=fresh,
            wait=wait,
            link=link,
            progress=bar.advance,
            phase=bar.phase,
            failed=failed.append,
        )
    stem = out or tables_dir() / table.origin.target / f"{table.origin.backend}-{job.name}"
    table = sweep.joined(table, stem, tell=lambda text: click.echo(text, err=True))
    table.write(stem)
    if as_json:
        click.echo(json.dumps(_table_json(table) | sweep.as_json(table), indent=1))
    else:
        screen = view.console()
        for line in sweep.lines(table):
            screen.print(line)
        screen.print(f"table: {stem}.csv")
    if failed:
        raise failed[0]


@hwbench.group(cls=command.Group, invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_context
def targets(context: click.Context, as_json: bool) -> None:
    """List the boards that can be named as --target; `add` one of your own."""
    if context.invoked_subcommand is None:
        _list_targets(as_json)


@targets.command()
@click.argument("name")
@click.option("--from", "base", required=True, help="A target that describes such a board; see hwbench targets.")
@click.option("--host", help="Where its sshd is: user@host[:port].")
@click.option("--key-file", type=click.Path(path_type=Path), help="Private key to show. [default: the ssh agent's]")
@click.option("--serial", help="Serial number of an Android device, as `adb devices` prints it.")
def add(name: str, base: str, host: str | None, key_file: Path | None, serial: str | None) -> None:
    """Describe a board of your own, in ./targets, by one that it is like."""
    from hwbench.own_target import add_target

    file = add_target(name, base, host=host, serial=serial, key_file=key_file)
    click.echo(f"{file} written; next: hwbench doctor --target {name}")


@hwbench.command()
@click.option("--target", "target_name", required=True, help="A board; see hwbench targets.")
@_way
@click.option("--offline", is_flag=True, help="Fetch wheels here and send them: the board has no internet.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def setup(target_name: str, host: str | None, serial: str | None, offline: bool, as_json: bool) -> None:
    """Put the pinned runtimes and the agent on a board, and say what its owner must allow; nothing is done as root."""
    from hwbench.progress import Bar
    from hwbench.setup import set_up
    from hwbench.target_file import find_target

    with Bar(quiet=as_json) as bar:
        boards = set_up(find_target(target_name, host=host, serial=serial), offline=offline, phase=bar.phase)
    if as_json:
        click.echo(json.dumps([asdict(board) for board in boards], indent=1))
        return
    for board in boards:
        for step in board.steps:
            click.echo(f"{step.state}  {step.name}: {step.found}")
        for line in board.by_hand:
            click.echo(f"todo  {line}")
    click.echo(f"next: hwbench doctor --target {target_name}")


def _list_targets(as_json: bool) -> None:
    from hwbench.target_file import known_targets, read_target

    found = []
    for name, file in known_targets().items():
        try:
            target = read_target(file)
        except ConfigError as error:
            found.append({"name": name, "error": str(error)})
            continue
        runtimes = [f"{b.kind} ({', '.join(b.precisions)})" for b in target.backend]
        found.append({"name": name, "title": target.title, "backends": ", ".join(runtimes)})
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    width = max((len(t["name"]) for t in found), default=0)
    for entry in found:
        text = entry.get("error") or f"{entry['title']}; {entry['backends']}"
        click.echo(f"{entry['name']:<{width}}  {text}")


@hwbench.command()
@click.option("--target", "target_name", default="host", show_default=True, help="A board; see hwbench targets.")
@_way
@click.option("--restore", is_flag=True, help="Only put back the clocks that a crash left set, and say what they were.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def doctor(target_name: str, host: str | None, serial: str | None, restore: bool, as_json: bool) -> None:
    """Check that a board can be reached and measured; say what to do where it cannot."""
    from hwbench.doctor import examine
    from hwbench.target_file import find_target

    target = find_target(target_name, host=host, serial=serial)
    if restore:
        from hwbench.farm import put_back

        for line in put_back(target):
            click.echo(line)
        return
    checks = examine(target)
    if as_json:
        click.echo(json.dumps([asdict(c) for c in checks], indent=1))
    else:
        for check in checks:
            mark = {"ok": "ok  ", "missing": "none", "failed": "FAIL"}[check.state]
            click.echo(f"{mark}  {check.name}: {check.found}" + (f"\n      {check.advice}" if check.advice else ""))
    failed = [c.name for c in checks if c.state == "failed"]
    if failed:
        checks_failed = "1 check" if len(failed) == 1 else f"{len(failed)} checks"
        raise Finding(f"{target_name}: {checks_failed} failed ({', '.join(failed)})")


@hwbench.command()
@click.argument("base")
@click.argument("new")
@click.option("--target", "target_name", help="Where to measure. [default: host, or the table's]")
@_way
@click.option("--backend", help="A runtime of the target. [default: its first, or the table's]")
@click.option("--precision", multiple=True, help="Only these precisions of the backend (repeatable).")
@click.option("--threads", type=click.IntRange(1), multiple=True, help="Threads of the runtime (repeatable).")
@click.option("--metric", type=click.Choice(["latency_ms", "energy_mj"]), default="latency_ms", show_default=True)
@click.option("--sessions", default=8, show_default=True, type=click.IntRange(3), help="Fresh processes at first.")
@click.option("--max-sessions", default=128, show_default=True, help="For rows that these do not decide.")
@click.option("--window", "window_s", type=float, help="Seconds a window lasts at least. [default: 0.2]")
@click.option("--threshold", default=1.0, show_default=True, type=click.FloatRange(0), help="Percent to be exceeded.")
@click.option(
    "--max-slowdown", default=3.0, show_default=True, type=click.FloatRange(0), help="Percent that ok must exclude."
)
@click.option("--wait", is_flag=True, help="Wait for a board that somebody else uses.")
@click.option("--markdown", type=click.Path(path_type=Path), help="Write a summary for a pull request there.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def gate(base: str, new: str, markdown: Path | None, as_json: bool, **options: Any) -> None:
    """Is NEW slower than BASE? Exit 0 no, 1 yes (or rows are missing or renamed), 3 this machine cannot tell.

    BASE and NEW: FILE.onnx, FILE.tflite, a bundle folder, a table, or a table at a git revision (FILE.csv@main).
    Files are measured side by side in fresh sessions; tables are compared by their intervals.
    """
    from hwbench import view
    from hwbench.gate import check
    from hwbench.gate import gate as decide
    from hwbench.progress import Bar

    with Bar(quiet=as_json) as bar:
        report = decide(_gate(base, new, **options), progress=bar.advance, phase=bar.phase)
    if markdown is not None:
        markdown.write_text(report.markdown(), encoding="utf-8")
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=1))
    else:
        told = [row for row in report.rows if row.verdict != "ok"]
        if told:
            view.console().print(view.gate_table(told))
        if report.verdict == "ok":
            click.echo(report.line)
    check(report)


@hwbench.group(cls=command.Group)
def table() -> None:
    """Look at latency tables, compare and check them."""


@table.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--limit", default=30, show_default=True, help="How many rows; 0 = all.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def show(file: Path | None, limit: int, as_json: bool) -> None:
    """Show a table's rows, slowest first, and how they compose; without FILE list the tables there are."""
    from hwbench import view

    if file is None:
        _list_tables()
        return
    read = _read_table(file)
    if as_json:
        click.echo(json.dumps(_table_json(read), indent=1))
        return
    screen = view.console()
    origin = read.origin
    screen.print(
        f"{read.name}: {len(read.row)} rows on {', '.join(origin.boards)}, {read.runtime.name} {read.runtime.version}"
    )
    screen.print(f"made {origin.created} by: {origin.command} (commit {origin.commit or 'unknown'})")
    screen.print(view.rows_table(read.row.values(), limit=limit or None, throughput=True))
    _print_networks(read)


@table.command()
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--metric", type=click.Choice(["latency_ms", "energy_mj"]), default="latency_ms", show_default=True)
@click.option("--all", "show_all", is_flag=True, help="Also rows whose intervals overlap.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def diff(base: Path, new: Path, metric: str, show_all: bool, as_json: bool) -> None:
    """Compare two tables of one board row by row; exit 1 when rows are slower or missing, 3 when not comparable."""
    from hwbench import view
    from hwbench.diff import diff as compare

    changes = compare(_read_table(base), _read_table(new), metric)
    shown = [c for c in changes if show_all or c.verdict != "same"]
    if as_json:
        click.echo(json.dumps([asdict(c) | {"ratio": c.ratio} for c in shown], indent=1))
    elif shown:
        view.console().print(view.changes_table(shown))
    worse = [c for c in changes if c.verdict in ("slower", "missing")]
    if worse:
        raise Finding(f"{len(worse)} of {len(changes)} rows are slower or missing")
    if not as_json:
        click.echo(f"{len(changes)} rows, none slower, none missing")


@table.command()
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--max-mape", default=5.0, show_default=True, help="Largest acceptable composition error, percent.")
def check(files: tuple[Path, ...], max_mape: float) -> None:
    """Check that tables are whole and plausible; exit 1 when something is wrong."""
    from hwbench.check import problems

    found = [(file, line) for file in files for line in problems(_read_table(file), max_mape_percent=max_mape)]
    for file, line in found:
        click.echo(f"{file}: {line}")
    if found:
        raise Finding(f"{len(found)} problems in {len({file for file, _ in found})} of {len(files)} tables")
    click.echo(f"{len(files)} tables, no problems")


@table.command("fit")
@click.option("--networks", type=click.Path(path_type=Path), required=True, help="CSV or Parquet of whole networks.")
@click.option("--validate", type=click.Path(path_type=Path), help="The same of other networks, to judge the fit by.")
@click.option("--out", type=click.Path(path_type=Path), help="Where to write (stem). [default: beside --networks]")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def table_fit(networks: Path, validate: Path | None, out: Path | None, as_json: bool) -> None:
    """Fit what operations cost to measurements of whole networks alone.

    The file has columns family, arch, and latency_ms and/or energy_mj (-1 or empty: could not be measured):

    \b
      family,arch,latency_ms
      nas-bench-201,|none~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|avg_pool_3x3~2|,5.2

    \b
      hwbench table fit --networks coral.csv --validate other.csv --out latency_tables/coral/cells
    """
    from hwbench import fit_command

    written, found = fit_command.fit(networks, validate, out)
    if as_json:
        click.echo(json.dumps(fit_command.as_json(written, found), indent=1))
    else:
        for line in fit_command.lines(written, found):
            click.echo(line)


@table.command("predict")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("archs", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def table_predict(file: Path, archs: tuple[str, ...], as_json: bool) -> None:
    """Predict architectures from what `table fit` wrote (.networks.json); exit 1 when one is refused or cannot run."""
    from hwbench import fit_command

    told = fit_command.predicted(file, archs)
    if as_json:
        click.echo(json.dumps(told, indent=1))
    else:
        for one in told:
            value = f"{one['value']:.4g} [{one['low']:.4g}, {one['high']:.4g}]" if "value" in one else one["verdict"]
            click.echo(f"{one['arch']}  {one['metric']}  {value}")
    bad = [one for one in told if one["verdict"] != "ok"]
    if bad:
        raise Finding(f"{len(bad)} of {len(told)} are not predicted: {bad[0]['verdict']}")


@table.command()
@_job_options
@click.option("--networks", default=50, show_default=True, type=click.IntRange(2), help="How many unseen networks.")
@click.option("--sessions", default=3, show_default=True, type=click.IntRange(1), help="Fresh processes per network.")
@click.option("--table", "file", type=click.Path(path_type=Path), help="The table to validate. [default: by names]")
@click.option(
    "--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Working folder."
)
@click.option("--wait", is_flag=True, help="Wait for a board that somebody else uses.")
@click.option("--max-mape", type=float, help="Exit 1 when an error is larger than this, percent.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def validate(
    networks: int,
    sessions: int,
    file: Path | None,
    runs: Path,
    wait: bool,
    max_mape: float | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure random networks that the table never saw, whole, and say how well its rows predict them."""
    from hwbench import validation
    from hwbench.progress import Bar
    from hwbench.resources import find_table

    job = _job(sessions=sessions, networks=networks, **options)
    stem = file or find_table(job.target.name, job.runtime, job.name)
    with Bar(quiet=as_json) as bar:
        results = validation.validate(
            _read_table(stem),
            job,
            runs / f"validate-{job.seed}",
            wait=wait,
            progress=bar.advance,
            phase=bar.phase,
        )
    if as_json:
        click.echo(json.dumps([r.as_json() for r in results], indent=1))
    else:
        for result in results:
            click.echo(result.line())
    worst = max(r.error.mape_percent for r in results)
    if max_mape is not None and worst > max_mape:
        raise Finding(f"mape {worst:.2f} % is more than {max_mape:g} %")


def main() -> None:
    """Entry point of the console script."""
    sys.exit(command.run(hwbench, "hwbench"))


def _job(
    *,
    target_name: str,
    host: str | None,
    serial: str | None,
    backend: str | None,
    space: str | None,
    model: str | None,
    precision: tuple[str, ...],
    threads: tuple[int, ...],
    batch: int,
    window_s: float | None,
    report_mode: bool,
    allow_cpu_fallback: bool,
    simulate: bool,
    noise: float | None,
    unit: tuple[str, ...],
    seed: int,
    sessions: int,
    networks: int,
) -> Job:
    from hwbench.profiling import Job
    from hwbench.source import Source
    from hwbench.target import SIMULATOR
    from hwbench.target_file import find_target

    how = _window(window_s, report_mode)
    target = find_target(target_name, host=host, serial=serial)
    if allow_cpu_fallback:
        target = target.with_options(backend, allow_cpu_fallback=True)
    if simulate or backend == SIMULATOR:
        if backend not in (None, SIMULATOR):
            raise ConfigError(f"--simulate runs on {SIMULATOR}, not on {backend}; leave --backend out")
        target = target.simulated(noise_percent=noise or 0.0, seed=seed)
        # Without noise one session is as good as many.
        sessions = sessions if noise else 1
    elif noise:
        raise ConfigError("--noise is for --simulate; a real board has its own")
    return Job(
        target=target,
        backend=backend,
        source=Source.of(space=space, model=model),
        units=unit,
        precisions=precision,
        threads=threads,
        batch=batch,
        sessions=sessions,
        networks=networks,
        seed=seed,
        how=how,
    )


def _gate(
    base: str,
    new: str,
    *,
    target_name: str | None,
    host: str | None,
    serial: str | None,
    backend: str | None,
    precision: tuple[str, ...],
    threads: tuple[int, ...],
    metric: str,
    sessions: int,
    max_sessions: int,
    window_s: float | None,
    threshold: float,
    max_slowdown: float,
    wait: bool,
) -> Gate:
    from hwbench.gate import Gate
    from hwbench.gate_measure import Place
    from hwbench.gate_rule import Rule
    from hwbench.target_file import find_target

    if threshold >= max_slowdown:
        raise ConfigError(f"--threshold {threshold:g} must be less than --max-slowdown {max_slowdown:g}")
    if target_name is None and (host or serial):
        raise ConfigError("--host and --serial say where a target is; name it with --target")
    return Gate(
        base=base,
        new=new,
        target=find_target(target_name, host=host, serial=serial) if target_name else None,
        place=Place(
            backend=backend,
            precisions=precision,
            threads=threads,
            sessions=sessions,
            most_sessions=max(sessions, max_sessions),
            how=_window(window_s),
            wait=wait,
        ),
        metric=metric,
        rule=Rule(threshold=threshold / 100, max_slowdown=max_slowdown / 100),
    )


def _window(window_s: float | None, report_mode: bool = False) -> WindowSpec:
    from hwbench.session import REPORT_WINDOW, WindowSpec

    how = REPORT_WINDOW if report_mode else WindowSpec()
    if window_s is None:
        return how
    if window_s <= 0:
        raise ConfigError(f"--window {window_s:g}: a window lasts more than 0 seconds")
    return replace(how, min_time_s=window_s, max_time_s=max(how.max_time_s, 10 * window_s))


def _read_table(file: Path) -> LatencyTable:
    from hwbench.table import LatencyTable

    return LatencyTable.read(file)


def _list_tables() -> None:
    from hwbench.resources import table_folders

    beside = (".parts.csv", ".clocks.csv")
    files = (file for folder in table_folders() for file in sorted(folder.glob("*/*.csv")))
    found = [file for file in files if not file.name.endswith(beside)]
    for file in found:
        click.echo(str(file))
    if not found:
        click.echo("no tables yet; make one with: hwbench profile", err=True)


def _print_plan(job: Job, plan: Any, *, as_json: bool) -> None:
    if as_json:
        cells = [{"block_key": c.block_key, "setting": str(c.setting)} for c in plan.cells]
        click.echo(json.dumps({"cells": cells, "sessions": plan.sessions, "seconds": plan.seconds}, indent=1))
        return
    for cell in plan.cells:
        click.echo(f"{cell.block_key} [{cell.setting}]")
    click.echo(
        f"{len(plan.cells)} cells x {plan.sessions} sessions = {plan.windows} windows on {job.target.name} "
        f"with {job.runtime}, about {plan.seconds / 60:.1f} min"
    )


def _print_networks(table: LatencyTable) -> None:
    from hwbench import sweep, view

    screen = view.console()
    residuals = view.residuals_table(table)
    if residuals is not None:
        screen.print(residuals)
    for composition in table.compositions:
        # Of operating points there are too many; what matters of them is how well those between are predicted.
        if not composition.setting.clocks:
            screen.print(view.composition_line(composition))
    if any(setting.clocks for setting in table.settings):
        for line in sweep.lines(table):
            screen.print(line)


def _table_json(table: LatencyTable) -> dict[str, Any]:
    def rows() -> Iterable[dict[str, Any]]:
        for row in table.row.values():
            yield {
                "block_key": row.cell.block_key,
                "kind": row.kind,
                "setting": str(row.cell.setting),
                "latency_ms": asdict(row.latency_ms),
                "latency_evidence": str(row.latency_evidence),
                "inputs_per_s": row.inputs_per_s,
                "energy_mj": asdict(row.energy_mj) if row.energy_mj else None,
                "energy_evidence": str(row.energy_evidence) if row.energy_evidence else None,
                "peak_memory_mb": row.peak_memory_mb,
                "flags": list(row.flags),
            }

    return {
        "table": table.origin.model_dump(by_alias=True),
        "runtime": table.runtime.model_dump(),
        "rows": list(rows()),
        "composition": [asdict(c) for c in table.compositions],
    }


if __name__ == "__main__":
    main()
