"""The command line of hwbench. Heavy imports wait inside the commands, so that `hwbench targets` answers at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwbench import cli_options, command
from hwbench.cli_options import Campaign, way
from hwbench.cli_table import as_json_of, print_networks, table
from hwbench.cli_targets import calibrate, targets
from hwbench.errors import ConfigError, Finding

if TYPE_CHECKING:
    from hwbench.gate import Gate
    from hwbench.profiling import Job
    from hwbench.table import LatencyTable


@click.group(cls=command.Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hwbench-nas", prog_name="hwbench")
def hwbench() -> None:
    """Measure neural networks on real boards, block by block, and keep every number with its evidence.

    Exit codes: 0 ok, 1 a finding, 2 usage or configuration, 3 inconclusive, 4 device or runtime failure.
    Add --debug to any command for tracebacks and the dialogue with the board.
    """


@hwbench.command()
@cli_options.job_options
@click.option("--sessions", default=5, show_default=True, type=click.IntRange(1), help="Fresh processes per cell.")
@click.option("--networks", default=64, show_default=True, help="Whole networks of a space, to fit the composition on.")
@click.option("--slowest", default=15, show_default=True, help="How many blocks to show.")
@click.option("--pause", "pause_s", default=0.0, type=click.FloatRange(0), help="Seconds to rest between sessions.")
@cli_options.campaign_options
def profile(slowest: int, pause_s: float, campaign: Campaign, **options: Any) -> None:
    """Measure a space, a model or a file block by block and whole, and write its latency table."""
    from hwbench import sweep, view

    def show(table: LatencyTable) -> None:
        screen = view.console()
        screen.print(view.rows_table((r for r in table.row.values() if r.kind == "block"), limit=slowest))
        print_networks(table)
        screen.print(f"{len(table.row)} rows, evidence: {', '.join(f'{m} {e}' for m, e in table.source.items())}")

    job = replace(cli_options.job(**options), pause_s=pause_s)
    _measure(job, campaign, join=sweep.with_points, show=show, as_json=as_json_of)


@hwbench.command()
@cli_options.job_options
@click.option("--clocks", help="all, sample:N, or points gpu=727,emc=1331.2;gpu=1300,emc=1866. [default: sample:12]")
@click.option("--sample", type=click.IntRange(1), help="So many points that fill the grid, its corners first.")
@click.option("--sessions", default=3, show_default=True, type=click.IntRange(1), help="Fresh processes per cell.")
@click.option("--networks", default=16, show_default=True, help="Whole networks of a space, measured at each point.")
@cli_options.campaign_options
def sweep(clocks: str | None, sample: int | None, campaign: Campaign, **options: Any) -> None:
    """Measure at some operating points of the clocks (DVFS), and model all points between them."""
    from hwbench import sweep, view

    def show(table: LatencyTable) -> None:
        screen = view.console()
        for line in (*sweep.lines(table), *view.calibration_lines(table)):
            screen.print(line)

    job = replace(cli_options.job(**options), clocks=sweep.spec(clocks, sample))
    _measure(
        job, campaign, join=sweep.joined, show=show, as_json=lambda table: as_json_of(table) | sweep.as_json(table)
    )


def _measure(
    job: Job,
    campaign: Campaign,
    *,
    join: Callable[..., LatencyTable],
    show: Callable[[LatencyTable], None],
    as_json: Callable[[LatencyTable], dict[str, Any]],
) -> None:
    """Measure a job, or print its plan; join the table with the one that is there, write and show it."""
    from hwbench import profiling, view
    from hwbench.campaign import CellsFailed
    from hwbench.progress import Bar
    from hwbench.resources import tables_dir

    failed: list[CellsFailed] = []
    folder = job.folder(campaign.runs)
    if campaign.plan_only:
        _print_plan(job, profiling.describe(job, folder), as_json=campaign.as_json)
        return
    with Bar(quiet=campaign.as_json) as bar:
        table = profiling.profile(
            job,
            folder,
            resume=campaign.resume,
            fresh=campaign.fresh,
            wait=campaign.wait,
            link=campaign.link,
            progress=bar.advance,
            phase=bar.phase,
            failed=failed.append,
        )
    stem = campaign.out or tables_dir() / table.origin.target / f"{table.origin.backend}-{job.name}"
    table = join(table, stem, tell=lambda text: click.echo(text, err=True))
    table.write(stem)
    if campaign.as_json:
        click.echo(json.dumps(as_json(table), indent=1))
    else:
        show(table)
        view.console().print(f"table: {stem}.csv")
    if failed:
        raise failed[0]


@hwbench.command()
@click.option("--target", "target_name", required=True, help="A board; see hwbench targets.")
@way
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


@hwbench.command()
@click.option("--target", "target_name", default="host", show_default=True, help="A board; see hwbench targets.")
@way
@click.option("--restore", is_flag=True, help="Only put back the clocks that a crash left set, and say what they were.")
@click.option(
    "--noise", is_flag=True, help="Only say which slowdowns a gate could tell there, and how long that takes."
)
@click.option("--seconds", default=60.0, show_default=True, type=click.FloatRange(1), help="Of measuring for --noise.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def doctor(
    target_name: str,
    host: str | None,
    serial: str | None,
    restore: bool,
    noise: bool,
    seconds: float,
    as_json: bool,
) -> None:
    """Check that a board can be reached and measured; say what to do where it cannot."""
    from hwbench.doctor import examine
    from hwbench.target_file import find_target

    target = find_target(target_name, host=host, serial=serial)
    if restore:
        from hwbench.farm import put_back

        for line in put_back(target):
            click.echo(line)
        return
    if noise:
        from hwbench import resolution
        from hwbench.progress import Bar

        with Bar(quiet=as_json) as bar:
            found = resolution.resolve(target, seconds=seconds, told=bar.phase)
        if as_json:
            click.echo(json.dumps(asdict(found), indent=1))
        else:
            for line in resolution.lines(target_name, found):
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
@way
@click.option("--backend", help="A runtime of the target. [default: its first, or the table's]")
@click.option("--precision", multiple=True, help="Only these precisions of the backend (repeatable).")
@click.option("--threads", type=click.IntRange(1), multiple=True, help="Threads of the runtime (repeatable).")
@click.option("--metric", type=click.Choice(["latency_ms", "energy_mj"]), default="latency_ms", show_default=True)
@click.option(
    "--sessions", default=8, show_default=True, type=click.IntRange(3), help="Fresh processes at first, tests at least."
)
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

    BASE and NEW: FILE.onnx, FILE.tflite, a bundle folder, a table, a table at a git revision (FILE.csv@main), or tests:
    pytest-benchmark's FILE.json, a folder of them or a pattern ('runs/*_abc123*.json'), each file a session.
    Files are measured side by side in fresh sessions; tables are compared by their intervals, tests pair by pair where
    runs of both arms went by turns.
    """
    from hwbench import view
    from hwbench.gate import check
    from hwbench.gate import gate as decide
    from hwbench.progress import Bar

    if markdown is not None and not markdown.parent.is_dir():
        # Said before an hour of measuring, not after it.
        raise ConfigError(f"--markdown {markdown}: there is no folder {markdown.parent}; make it first")
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


for added in (table, targets, calibrate):
    hwbench.add_command(added)


@hwbench.command()
@click.argument("tables", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True, help="The page."
)
def report(tables: tuple[Path, ...], out: Path) -> None:
    """Put TABLES side by side on one self-contained HTML page."""
    from hwbench.errors import ConfigError
    from hwbench.table import LatencyTable

    read = [LatencyTable.read(file) for file in tables]
    try:
        from hwbench.report import page
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"a report draws with the Python package {error.name}: pip install 'hwbench-nas[report]'"
        ) from error
    text = page(read).html()
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(out.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(out)
    click.echo(str(out))


def main() -> None:
    """Entry point of the console script."""
    sys.exit(command.run(hwbench, "hwbench"))


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
            how=cli_options.window(window_s),
            wait=wait,
        ),
        metric=metric,
        rule=Rule(threshold=threshold / 100, max_slowdown=max_slowdown / 100),
    )


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


if __name__ == "__main__":
    main()
