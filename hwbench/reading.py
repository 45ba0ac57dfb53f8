"""Reads one probe over the link, before and after windows: what it says is what the agent would have said inside."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from hwbench import agent_archive
from hwbench.agent import readout
from hwbench.errors import PermanentDeviceError
from hwbench.link import Completed, Link
from hwbench.target import Probe

# Vendors' tools start slowly on a board that is busy.
_COMMAND_S = 10.0
_BY_PYTHON = ("nvml:", "jtop:")
# Bits of `flags` that say what is so now; above them stand those that stay once they were set (vcgencmd get_throttled).
_NOW = 0xFFFF
# The library of one board's Python, which need not be installed anywhere else.
_ON_BOARD = "import sys; sys.path.insert(0, sys.argv[1]); from hwbench.agent.sources import main; main(sys.argv[2])"


def read_probe(link: Link, probe: Probe) -> float | None:
    """The probe's number in its unit; None where the board does not tell it now.

    Raises TransientDeviceError when the link is lost.
    """
    scheme, rest, field = readout.split(probe.read)
    if scheme == "file":
        return readout.number(_file(link, rest), field, probe.unit, whole=field is None)
    if scheme == "above":
        first, second = (_file(link, path) for path in readout.words(rest))
        return readout.above(first, second)
    if scheme == "run":
        done = run(link, readout.words(rest))
        return None if done is None else readout.number(done, field, probe.unit, whole=False)
    return read_on_board(link, [probe])[0]


def read_probes(link: Link, probes: Sequence[Probe]) -> list[float | None]:
    """As `read_probe` for each, in their order; those that take the board's Python share one process of it."""
    together = [probe for probe in probes if probe.read.startswith(_BY_PYTHON)]
    told = dict(zip(together, read_on_board(link, together), strict=True)) if together else {}
    return [told[probe] if probe in told else read_probe(link, probe) for probe in probes]


def read_on_board(link: Link, probes: Sequence[Probe]) -> list[float | None]:
    """Numbers of probes in their order, all in one go, by the board's own Python; None where it has none of them."""
    asked = json.dumps([{"read": p.read, "unit": p.unit} for p in probes])
    archive = link.push(agent_archive.build())
    done = link.run([link.python, "-c", _ON_BOARD, archive, asked], timeout_s=_COMMAND_S + len(probes))
    told = _list(done)
    if len(told) != len(probes):
        return [None] * len(probes)
    return [_number(value) for value in told]


def throttled(sensors: Sequence[Probe], before: Mapping[str, float], after: Mapping[str, float]) -> tuple[str, ...]:
    """Names of the sensors `throttle.*` by which the board was slowed down between two readings.

    A count (`raw`) that moved; `flags` that are raised now or were when it began, or that were raised in between.
    """
    found = []
    for probe in sensors:
        if not probe.name.startswith("throttle") or probe.name not in after:
            continue
        now = after[probe.name]
        first = before.get(probe.name, now)
        if first != now or (probe.unit == "flags" and int(now) & _NOW):
            found.append(probe.name)
    return tuple(sorted(found))


def _number(told: object) -> float | None:
    if isinstance(told, bool) or not isinstance(told, (int, float)):
        return None
    return float(told) if math.isfinite(told) else None


def run(link: Link, argv: Sequence[str]) -> bytes | None:
    """What a command on the board printed; None where it failed, or printed more than a reading can hold."""
    done = link.run(argv, timeout_s=_COMMAND_S)
    return done.stdout if done.returncode == 0 and len(done.stdout) <= readout.MAX_BYTES else None


def _list(done: Completed) -> list[object]:
    try:
        told = json.loads(done.stdout)
    except ValueError:
        return []
    return told if done.returncode == 0 and isinstance(told, list) else []


def _file(link: Link, path: str) -> bytes | None:
    try:
        return link.read(path, max_bytes=readout.MAX_BYTES)
    except (OSError, PermanentDeviceError):
        return None
