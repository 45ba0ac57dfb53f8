"""The commands that look at targets and write them. Heavy imports wait inside them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwbench import command
from hwbench.errors import ConfigError

if TYPE_CHECKING:
    from hwbench.target import Target


@click.group(cls=command.Group, invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_context
def targets(context: click.Context, as_json: bool) -> None:
    """List the boards that can be named as --target; `show` one, `add` one of your own."""
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


@targets.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def show(name: str, as_json: bool) -> None:
    """Show what a board offers, and how far its simulation is to be trusted."""
    from hwbench.target_file import find_target

    target = find_target(name)
    if as_json:
        click.echo(target.model_dump_json(by_alias=True, indent=1))
        return
    for line in _lines(target):
        click.echo(line)


def _lines(target: Target) -> Iterator[str]:
    yield f"{target.name}: {target.title}"
    yield f"reached by {', '.join(link.kind for link in target.link)}"
    for backend in target.backend:
        runs = [f"{u} {p}" for u in backend.units for p in backend.precisions if backend.runs(u, p)]
        threads = f"; threads {', '.join(map(str, backend.threads))}" if backend.threads else ""
        yield f"backend {backend.kind}: {', '.join(runs)}{threads}"
    for clock in target.clock:
        values = [f"{v:g}" if isinstance(v, float) else v for v in clock.values]
        yield f"clock {clock.name} ({clock.kind}): {', '.join(values) or 'only recorded'}"
    for meter in target.meter:
        yield f"meter {meter.kind}{' where there is one' if meter.optional else ''}"
    for setting, simulation in target.simulations():
        told = simulation.calibrated.line if simulation.calibrated else f"not calibrated; {simulation.source}"
        yield f"simulated {setting}: {told}"


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


@click.command()
@click.option("--target", "target_name", required=True, help="A board; see hwbench targets.")
@click.option("--networks", "file", type=click.Path(path_type=Path), required=True, help="CSV or Parquet of networks.")
@click.option("--unit", help="Processor that ran them. [default: what the file says]")
@click.option("--precision", help="Precision they ran in. [default: what the file says]")
@click.option("--threads", type=click.IntRange(1), help="Threads of the runtime: gives these parameters of their own.")
@click.option("--batch", type=click.IntRange(1), help="Inputs a run. [default: what the file says, or 1]")
@click.option("--clocks", help="Operating point, like cpu=1500. [default: the highest of each grid]")
@click.option("--source", help="Published numbers: who published them. [default: what stands beside the file]")
@click.option("--net", is_flag=True, help="Energies are above what the board draws doing nothing.")
@click.option("--trust-units", is_flag=True, help="Fit also what looks like a wrong unit.")
@click.option("--seed", default=0, show_default=True, help="Of the split into networks fitted on and held out.")
@click.option("--dry-run", is_flag=True, help="Only say what comes out; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def calibrate(
    target_name: str,
    file: Path,
    unit: str | None,
    precision: str | None,
    threads: int | None,
    batch: int | None,
    clocks: str | None,
    source: str | None,
    net: bool,
    trust_units: bool,
    seed: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Fit a board's simulation to measurements of whole networks, and write it with its error on others.

    FILE has columns family, arch, latency_ms and/or energy_mj, and where they differ unit, precision, threads, batch
    and clocks. The result goes to ./targets/TARGET.toml; tables of --simulate carry its error.

    \b
      hwbench calibrate --target rpi4 --networks cells.csv --precision fp32 --clocks cpu=1500
    """
    from hwbench import calibrate_command
    from hwbench.networks_file import Ran
    from hwbench.target_file import find_target

    target = find_target(target_name)
    found = calibrate_command.calibrate_target(
        target,
        file,
        said=Ran(unit=unit, precision=precision, threads=threads, batch=batch, clocks=clocks),
        source=source,
        gross=not net,
        trust_units=trust_units,
        seed=seed,
    )
    written = None if dry_run else calibrate_command.write(target, found)
    if as_json:
        click.echo(json.dumps(calibrate_command.as_json(written, found), indent=1))
        return
    for line in calibrate_command.lines(written, found):
        click.echo(line)
