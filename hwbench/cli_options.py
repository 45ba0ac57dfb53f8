"""Options that several commands share, and what they mean: where to measure, what, and how a campaign goes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwbench.errors import ConfigError

if TYPE_CHECKING:
    from hwbench.profiling import Job
    from hwbench.session import WindowSpec


def way(function: Any) -> Any:
    """Reach the board elsewhere than its target says."""
    function = click.option("--serial", help="Reach the Android device of this serial number instead.")(function)
    return click.option("--host", help="Reach it at user@host[:port] instead.")(function)


def job_options(function: Any) -> Any:
    """What to measure, where and how; `job` takes their values."""
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
        way,
        click.option(
            "--target", "target_name", default="host", show_default=True, help="A board; see hwbench targets."
        ),
    ):
        function = option(function)
    return function


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """How a campaign goes, and where it leaves what: the values of `campaign_options`."""

    plan_only: bool
    resume: bool
    fresh: bool
    wait: bool
    link: int | None
    out: Path | None
    runs: Path
    as_json: bool


def campaign_options(function: Callable[..., None]) -> Any:
    """Options of a campaign, handed to the command together as `campaign`."""

    @functools.wraps(function)
    def collected(**options: Any) -> None:
        function(campaign=Campaign(**{f.name: options.pop(f.name) for f in fields(Campaign)}), **options)

    command: Any = collected
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
        command = option(command)
    return command


def job(
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
    """What the values of `job_options` ask for; ConfigError where they contradict each other."""
    from hwbench.profiling import Job
    from hwbench.source import Source
    from hwbench.target import SIMULATOR
    from hwbench.target_file import find_target

    how = window(window_s, report_mode)
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


def window(window_s: float | None, report_mode: bool = False) -> WindowSpec:
    """How long to look; ConfigError for a window without length."""
    from hwbench.session import REPORT_WINDOW, WindowSpec

    how = REPORT_WINDOW if report_mode else WindowSpec()
    if window_s is None:
        return how
    if window_s <= 0:
        raise ConfigError(f"--window {window_s:g}: a window lasts more than 0 seconds")
    return replace(how, min_time_s=window_s, max_time_s=max(how.max_time_s, 10 * window_s))
