"""The commands of `hwbench table`. Heavy imports wait inside them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwbench import cli_options, command
from hwbench.errors import ConfigError, Finding

if TYPE_CHECKING:
    from hwbench.table import LatencyTable


@click.group(cls=command.Group)
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
        click.echo(json.dumps(as_json_of(read), indent=1))
        return
    screen = view.console()
    origin = read.origin
    screen.print(
        f"{read.name}: {len(read.row)} rows on {', '.join(origin.boards)}, {read.runtime.name} {read.runtime.version}"
    )
    screen.print(f"made {origin.created} by: {origin.command} (commit {origin.commit or 'unknown'})")
    if noise := view.noise_line(read):
        screen.print(noise)
    screen.print(view.rows_table(read.row.values(), limit=limit or None, throughput=True))
    print_networks(read)


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
@click.option(
    "--from",
    "boards",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="What `table fit` wrote of another board (repeatable): then 10 networks are enough.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Where to write (stem). [default: beside --networks]")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def table_fit(networks: Path, validate: Path | None, boards: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Fit what operations cost to measurements of whole networks alone.

    The file has columns family, arch, and latency_ms and/or energy_mj (-1 or empty: could not be measured):

    \b
      family,arch,latency_ms
      nas-bench-201,|none~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|avg_pool_3x3~2|,5.2

    \b
      hwbench table fit --networks coral.csv --validate other.csv --out latency_tables/coral/cells
      hwbench table fit --networks new.csv --from latency_tables/coral/cells.networks.json
    """
    from hwbench import fit_command

    written, found = fit_command.fit(networks, validate, out, boards)
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
            click.echo(f"{one['arch']}  {one['metric']}  {value}{'  ' + one['evidence'] if 'value' in one else ''}")
    bad = [one for one in told if one["verdict"] != "ok"]
    if bad:
        raise Finding(f"{len(bad)} of {len(told)} are not predicted: {bad[0]['verdict']}")


@table.command("import")
@click.argument("format_", metavar="FORMAT")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--target", required=True, help="The board that the numbers are of.")
@click.option("--source", help="Published numbers: who published them (evidence `published`).")
@click.option("--measured", is_flag=True, help="You measured them yourself; what the file does not tell is flagged.")
@click.option("--licence", help="Licence of published numbers.")
@click.option("--url", help="Where published numbers are found.")
@click.option("--column", multiple=True, help="generic: ROLE=COLUMN[:UNIT], like latency_ms=lat:us (repeatable).")
@click.option("--set", "settings", multiple=True, help="NAME=VALUE, an option of the format (repeatable).")
@click.option("--name", help="Key of a network that its file does not name. [default: the file's name]")
@click.option("--backend", help="The runtime. [default: what the file says]")
@click.option("--space", help="What the rows are of. [default: the file's name]")
@click.option("--unit", default="cpu", show_default=True, help="Processor that ran them.")
@click.option("--precision", default="fp32", show_default=True, help="Precision they ran in.")
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1), help="Inputs a run.")
@click.option("--threads", type=click.IntRange(1), help="Threads of the runtime.")
@click.option("--clocks", default="", help="Operating point, like `emc=1331.2 gpu=727`.")
@click.option("--bundle", type=click.Path(path_type=Path), help="What rows compute: checked against the board's peaks.")
@click.option("--trust-units", is_flag=True, help="Import also what looks like a wrong unit.")
@click.option("--out", type=click.Path(path_type=Path), help="Where to write (stem). [default: latency_tables/…]")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def table_import(format_: str, file: Path, source: str | None, measured: bool, as_json: bool, **options: Any) -> None:
    """Read another tool's measurements into a table, or into a networks file for `table fit`.

    FORMAT: generic, hwnasbench, trtexec, benchmark-model, onnxruntime-profile, pytest-benchmark.

    \b
      hwbench table import generic lat.csv --column block_key=op --column latency_ms=time:us \\
        --target rpi4 --source "Some et al. 2024" --licence MIT
      hwbench table import hwnasbench HW-NAS-Bench-v1_0.pickle --set device=edgetpu --target coral \\
        --source "HW-NAS-Bench v1.0" --licence MIT --out coral-cells
      hwbench table import onnxruntime-profile trace.json --target host --measured
    """
    from hwbench import import_command

    if measured == (source is not None):
        raise ConfigError("say where the numbers come from: either --source WHO (published) or --measured (by you)")
    if measured and (options["licence"] or options["url"]):
        raise ConfigError("--licence and --url are of published numbers; give --source with them")
    written = import_command.import_file(import_command.question(format_, file, source=source, **options))
    if as_json:
        click.echo(json.dumps(asdict(written) | {"file": str(written.file)}, indent=1))
        return
    click.echo(f"{written.rows} {written.kind} rows, {written.evidence}: {written.file}")
    if written.repeated:
        click.echo(f"{written.repeated} rows stood there again with the same values")
    if written.left_out:
        click.echo(f"{written.left_out} rows without a measurement")
    if written.missing:
        click.echo(f"not told, and flagged: {', '.join(written.missing)}")


@table.command()
@cli_options.job_options
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

    job = cli_options.job(sessions=sessions, networks=networks, **options)
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


def print_networks(table: LatencyTable) -> None:
    """How the table's rows compose, and how well points between those measured are known."""
    from hwbench import sweep, view

    screen = view.console()
    for line in view.calibration_lines(table):
        screen.print(line)
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


def as_json_of(table: LatencyTable) -> dict[str, Any]:
    """A table as JSON."""
    from hwbench.noise import grade_of

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
        "calibration": [calibration.model_dump() for calibration in table.calibrations],
        "grade": grade_of([s.grade for s in table.sessions if s.grade]),
        "sessions": [s.model_dump() for s in table.sessions],
    }


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
