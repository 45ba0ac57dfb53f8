"""Whether a board can be measured, and what to do where it cannot: link by link, then question by question."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hwbench.board_lock import BoardLock, lock_folders
from hwbench.condition import LEAST_FREE_MB, Check, looks
from hwbench.equipment import Equipment
from hwbench.errors import ConfigError, HwbenchError, TransientDeviceError
from hwbench.link import Link
from hwbench.restore import RestoreRecord
from hwbench.target import Target, faults, plugin_options

__all__ = ["Check", "examine"]

_ANSWER_S = 30.0
# What to try where a link of that kind does not lead to a board.
_REACH = {
    "ssh": "does `ssh {host}` enter without a password? if it is elsewhere, say so with --host",
    "adb": "does `adb devices` list it as `device`? of several, choose one with --serial",
}


def examine(target: Target) -> list[Check]:
    """Ask a target everything that a campaign would need; never raises for what is wrong with the board."""
    wrong = [Check(name=target.name, state="failed", found=fault) for fault in faults(target)]
    if wrong:
        return wrong
    if target.simulates:
        return [Check(name=target.name, state="ok", found="simulated: there is nothing to reach"), *_here()]
    found: list[Check] = []
    for number in range(len(target.link)):
        several = f"link {number}: " if len(target.link) > 1 else ""
        found += [replace(check, name=several + check.name) for check in _link(target, number)]
    return [*found, *_here()]


def _link(target: Target, number: int) -> Iterator[Check]:
    """One board of the target, by one link."""
    section = target.link[number]
    name = section.kind
    try:
        module, options = plugin_options(target, "hwbench.links", section.kind, section.options)
        with module.open(options) as link:
            name = link.name
            done = link.run(["true"], timeout_s=_ANSWER_S)
            if done.returncode != 0:
                said = done.stderr.decode("utf-8", "replace").strip()[-200:]
                yield Check(
                    name=f"reach {name}",
                    state="failed",
                    found=f"no command runs there ({said})",
                    advice=_advice(target, number),
                )
                return
            yield Check(name=f"reach {name}", state="ok", found=f"it answers; our files lie in {link.workdir()}")
            yield from _board(target, number, link)
    except (HwbenchError, OSError) as error:
        yield Check(name=f"reach {name}", state="failed", found=str(error), advice=_advice(target, number))


def _board(target: Target, number: int, link: Link) -> Iterator[Check]:
    """What a board says that answers; ours alone meanwhile, or only looked at while somebody else measures."""
    lock = BoardLock(link, lock_folders(target.link[number], link), f"board {target.name}")
    try:
        lock.acquire()
    except TransientDeviceError:
        raise
    except HwbenchError as error:
        held = isinstance(error, ConfigError)
        advice = (
            "the rest is asked when it is free" if held else "a board that cannot be locked may be used by two at once"
        )
        yield Check(name="lock", state="failed", found=str(error), advice=advice)
        yield from looks(target, link)
        return
    try:
        yield Check(name="lock", state="ok", found="nobody else uses it")
        yield _record(target, link)
        yield from Equipment(target, link).checks()
        yield from looks(target, link)
    finally:
        lock.release()


def _record(target: Target, link: Link) -> Check:
    """Whether a crash left clocks set."""
    restore = f"hwbench doctor --target {target.name} --restore puts them back, as does the next campaign"
    try:
        states = RestoreRecord(link, f"board {target.name}").read()
    except TransientDeviceError:
        raise
    except HwbenchError as error:
        return Check(name="restore record", state="failed", found=str(error))
    if not states:
        return Check(name="restore record", state="ok", found="no clock was left set")
    return Check(
        name="restore record",
        state="failed",
        found=f"a crash left clocks set: {', '.join(sorted(states))}",
        advice=restore,
    )


def _advice(target: Target, number: int) -> str:
    section = target.link[number]
    host = "@".join(str(part) for part in (section.options.get("user"), section.options.get("host")) if part)
    tried = _REACH.get(section.kind, "").format(host=host or "HOST")
    simulate = f"without a board: hwbench profile --target {target.name} --simulate" if target.simulation else ""
    return "; ".join(part for part in (tried, simulate) if part)


def _here() -> Iterator[Check]:
    """Room on this machine, where tables and runs are written."""
    free_mb = shutil.disk_usage(Path.cwd()).free / 1e6
    full = free_mb < LEAST_FREE_MB
    yield Check(
        name="disk here",
        state="failed" if full else "ok",
        found=f"{free_mb:.0f} MB free on this machine",
        advice="a profile with its raw samples needs some hundred MB" if full else "",
    )
