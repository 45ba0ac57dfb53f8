"""What `search train` does: its words checked, a supernet trained, or exits that all its subnets share."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console

from hwbench.errors import ConfigError
from hwbench.provenance import command_line
from models.space import load_space
from models.training.job import exits_job, supernet_job
from search.launch import default_checkpoint, default_dataset
from search.progress import counted, training


def run(
    *,
    space: str,
    dataset: str | None,
    seed: int,
    out: Path | None,
    must_resume: bool,
    exits: bool,
    checkpoint: Path | None,
) -> None:
    """Train, or go on with an equal training. Raises ConfigError for words that do not go together."""
    name = load_space(space).name
    file = out or Path("runs") / f"{'exits' if exits else 'supernet'}-{name}-{seed}.safetensors"
    if exits and must_resume:
        raise ConfigError("shared exits train in minutes and are not resumed; leave --resume out")
    if checkpoint is not None and not exits:
        raise ConfigError("--checkpoint names the supernet whose --exits are trained; without them leave it out")
    if file.exists():
        raise ConfigError(f"{file} exists and is not overwritten; choose another --out")
    images = dataset or default_dataset(name)
    # What later commands must be told, too.
    words = f"--space {space}" + (f" --dataset {dataset}" if dataset else "")
    if exits:
        _exits(images, seed, file, checkpoint or default_checkpoint(name, space), words)
        return
    if must_resume and not file.with_name(file.name + ".resume").exists():
        raise ConfigError(f"{file}: no interrupted training to go on with; leave --resume out to start one")
    _supernet(space, images, seed, file, words)


def _supernet(space: str, dataset: str, seed: int, file: Path, words: str) -> None:
    try:
        with training(Console(stderr=True)) as told:
            done = supernet_job(space, dataset, out=file, seed=seed, command=command_line(sys.argv), progress=told)
    except KeyboardInterrupt as interruption:
        raise KeyboardInterrupt(f"continue with: search train {words} --seed {seed} --out {file}") from interruption
    if done is None:  # another process of torchrun writes
        return
    click.echo(f"{file}: {file.stat().st_size / 1e6:.2f} MB in {float(done['seconds']):.0f} s")
    for end in ("largest", "smallest"):
        click.echo(f"{end:<8}  {float(done[f'val_accuracy_{end}']):.2%} accuracy on val")
    click.echo(f"next: search run --objective latency {words} --checkpoint {file}")


def _exits(dataset: str, seed: int, file: Path, checkpoint: Path, words: str) -> None:
    with counted(Console(stderr=True), "training exits") as told:
        done = exits_job(
            checkpoint,
            dataset,
            out=file,
            seed=seed,
            command=command_line(sys.argv),
            progress=lambda step, steps: told(step, steps, "") if step % 50 == 0 else None,
        )
    click.echo(f"{file}: {file.stat().st_size / 1e6:.2f} MB in {float(done['seconds']):.0f} s")
    click.echo(f"next: search run --objective latency {words} --exits {file}")
