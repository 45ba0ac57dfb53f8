"""What the doctor sees without disturbing anybody: heat, throttling, load and room of a board."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hwbench.errors import HwbenchError, TransientDeviceError
from hwbench.link import Link
from hwbench.reading import read_probe, throttled
from hwbench.target import Target

LEAST_FREE_MB = 500
_COMMAND_S = 20.0
_TO_C = {"c": 1.0, "mc": 1e-3}
# A load beyond this share of the cores disturbs what is measured.
_BUSY = 0.5
_SINCE_START = ~0xFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question. state: `ok`, `missing` (works without) or `failed`; advice says what to do."""

    name: str
    state: str
    found: str
    advice: str = ""


def looks(target: Target, link: Link) -> Iterator[Check]:
    """All that may be asked while somebody else measures; TransientDeviceError when the link is lost."""
    yield from _temperatures(target, link)
    yield from _throttling(target, link)
    yield from _load(link)
    yield from _room(link)


def _temperatures(target: Target, link: Link) -> Iterator[Check]:
    found = {p.name: (read_probe(link, p), p.unit) for p in target.sensor if p.unit in _TO_C}
    temps = {name: value * _TO_C[unit] for name, (value, unit) in found.items() if value is not None}
    limit_c = target.limits.temp_c
    told = ", ".join(f"{name} {temp:.0f} °C" for name, temp in temps.items())
    if not temps:
        yield Check(name="temperature", state="missing", found="no sensor answers; a hot board would not show")
    elif limit_c is not None and max(temps.values()) > limit_c:
        yield Check(
            name="temperature",
            state="failed",
            found=f"{told}: above {limit_c:g} °C",
            advice="let the board cool, or cool it better",
        )
    else:
        yield Check(name="temperature", state="ok", found=told)


def _throttling(target: Target, link: Link) -> Iterator[Check]:
    sensors = [p for p in target.sensor if p.name.startswith("throttle")]
    if not sensors:
        return
    values = {p.name: value for p in sensors if (value := read_probe(link, p)) is not None}
    flags = [p for p in sensors if p.unit == "flags" and p.name in values]
    now = throttled(flags, {}, values)
    before = [p.name for p in flags if int(values[p.name]) & _SINCE_START]
    if now:
        told = ", ".join(f"{name} {int(values[name]):#x}" for name in now)
        yield Check(
            name="throttling",
            state="failed",
            found=f"it is slowed down now: {told}",
            advice="look at its supply (under-voltage) and its cooling",
        )
    elif before:
        told = ", ".join(f"{name} {int(values[name]):#x}" for name in before)
        yield Check(
            name="throttling",
            state="missing",
            found=f"not now, but since it started: {told}",
            advice="a better supply or cooling; a restart clears it",
        )
    elif values:
        yield Check(name="throttling", state="ok", found="not slowed down")
    else:
        yield Check(
            name="throttling", state="missing", found="no sensor answers; throttled windows would not be flagged"
        )


def _load(link: Link) -> Iterator[Check]:
    try:
        load = float(link.read("/proc/loadavg", max_bytes=256).split()[0])
        cores = int(link.run(["nproc"], timeout_s=_COMMAND_S).stdout)
    except TransientDeviceError:
        raise
    except (HwbenchError, OSError, ValueError, IndexError):
        yield Check(name="load", state="missing", found="the board does not tell its load")
        return
    busy = load > _BUSY * cores
    yield Check(
        name="load",
        state="failed" if busy else "ok",
        found=f"{load:.2f} on {cores} cores",
        advice="something else is running there; medians over sessions forgive some of it, but not all" if busy else "",
    )


def _room(link: Link) -> Iterator[Check]:
    workdir = link.workdir()
    done = link.run(["df", "-Pk", workdir], timeout_s=_COMMAND_S)
    lines = re.findall(rb"\s\d+\s+\d+\s+(\d+)\s+\d+%\s", done.stdout)
    if len(lines) != 1:
        yield Check(name="disk", state="missing", found="the board does not tell its free space")
        return
    free_mb = int(lines[0]) / 1e3
    full = free_mb < LEAST_FREE_MB
    yield Check(
        name="disk",
        state="failed" if full else "ok",
        found=f"{free_mb:.0f} MB free in {workdir}",
        advice=f"models and runtimes need some hundred MB; empty {workdir}/files" if full else "",
    )
