"""Whether a board can be measured, and what to do where it cannot."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hwbench.board import Board, open_board
from hwbench.errors import ConfigError, DeviceError, HwbenchError
from hwbench.target import Target, faults

_LEAST_FREE_MB = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question. state: `ok`, `missing` (works without) or `failed`; advice says what to do."""

    name: str
    state: str
    found: str
    advice: str = ""


def examine(target: Target) -> list[Check]:
    """Ask a target everything that a campaign would need; never raises for what is wrong with the board."""
    wrong = [Check(name=target.name, state="failed", found=fault) for fault in faults(target)]
    return wrong or [check for section in target.backend for check in _backend(target, section.kind)]


def _backend(target: Target, kind: str) -> Iterator[Check]:
    name = f"{target.name}/{kind}"
    try:
        setting = target.settings(kind)[0]
        with open_board(target, backend=kind) as board:
            yield Check(name=name, state="ok", found="the link answers, the board is free")
            try:
                identity = board.identity(setting)
            except HwbenchError as error:
                yield Check(
                    name=f"{name} runtime",
                    state="failed",
                    found=str(error),
                    advice=f"install the runtime for the board's Python: pip install 'hwbench-nas[{_extra(kind)}]'",
                )
                return
            machine = ", ".join(
                f"{k.removeprefix('board.')} {v}" for k, v in identity.items() if k.startswith("board.")
            )
            yield Check(name=f"{name} runtime", state="ok", found=f"{identity['runtime']}; {machine}")
            if kind == target.backend[0].kind:
                yield from _board(target, board)
    except ConfigError as error:
        yield Check(name=name, state="failed", found=str(error))
    except DeviceError as error:
        yield Check(name=name, state="failed", found=str(error), advice="see the target's [[link]] section")


def _board(target: Target, board: Board) -> Iterator[Check]:
    """What does not depend on the runtime: meter, clocks, temperature, load, space."""
    if board.meter is not None:
        yield Check(name="meter", state="ok", found="answers")
    else:
        declared = "energy is predicted from the declared power model" if target.power else "energy stays empty"
        yield Check(
            name="meter",
            state="missing",
            found=f"no power meter answers; {declared}",
            advice="name one in the target's [[meter]] (files, rapl, external), or run as a user who may read it",
        )
    clocks = board.read_clocks()
    if clocks:
        yield Check(name="clocks", state="ok", found=", ".join(f"{n} {v} MHz" for n, v in clocks.items()))
    else:
        yield Check(name="clocks", state="missing", found="no clock can be read; they are as the governor decides")
    temps, _ = board.read_sensors()
    hot = {n: t for n, t in temps.items() if target.limits.temp_c is not None and t > target.limits.temp_c}
    if hot:
        yield Check(name="temperature", state="failed", found=f"{hot} above the limit", advice="let the board cool")
    elif temps:
        yield Check(name="temperature", state="ok", found=", ".join(f"{n} {t:.0f} C" for n, t in temps.items()))
    else:
        yield Check(name="temperature", state="missing", found="no sensor answers")
    yield from _host()


def _host() -> Iterator[Check]:
    """The machine that decides: noise and room."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    busy = load > 0.5 * cores
    yield Check(
        name="load",
        state="failed" if busy else "ok",
        found=f"{load:.2f} on {cores} cores",
        advice="something else is running; medians over sessions forgive some of it, but not all" if busy else "",
    )
    free_mb = shutil.disk_usage(Path.cwd()).free / 1e6
    full = free_mb < _LEAST_FREE_MB
    yield Check(
        name="disk",
        state="failed" if full else "ok",
        found=f"{free_mb:.0f} MB free here",
        advice="a profile with its raw samples needs some hundred MB" if full else "",
    )


def _extra(kind: str) -> str:
    return {"litert": "litert"}.get(kind, "search")
