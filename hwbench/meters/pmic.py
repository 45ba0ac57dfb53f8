"""A Raspberry Pi 5's power management chip: its rails' currents and voltages, as `vcgencmd pmic_read_adc` prints them.

The sum of the rails is what the board's own parts draw. Not in it: what USB devices, HATs and the fan draw from 5 V,
and what the chip itself loses; for the draw from the wall use an `external` meter.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from hwbench.agent.sources import COMMAND_HZ
from hwbench.energy import add
from hwbench.errors import PermanentDeviceError
from hwbench.link import Link
from hwbench.measurement import Trace
from hwbench.meter import ReadByAgent
from hwbench.reading import run
from hwbench.target import Probe

_LINE = re.compile(
    r" *(?P<rail>[A-Z0-9_]+)_(?P<letter>[AV]) (?P<kind>current|volt)\((?P<index>[0-9]{1,2})\)"
    r"=(?P<value>[0-9]+\.[0-9]+)(?P<unit>[AV])"
)
_KIND = {"A": "current", "V": "volt"}


class Options(BaseModel):
    """command: the program and its way on the board.  rails: those to add (`VDD_CORE`); () = all that tell both."""

    model_config = ConfigDict(extra="forbid")
    command: tuple[str, ...] = Field(default=("vcgencmd", "pmic_read_adc"), min_length=1)
    rails: tuple[str, ...] = ()


class Pmic(ReadByAgent):
    """See `hwbench.meter.Meter`."""

    def __init__(self, command: Sequence[str], rails: Sequence[str]) -> None:
        self._read = f"run:{shlex.join(command)}"
        self._rails = tuple(rails)
        # Every reading is a process on the board, so there are few.
        self.rate_hz: float | None = COMMAND_HZ

    def probes(self) -> Sequence[Probe]:
        """Current and voltage of each rail, all of one reading."""
        probes: list[Probe] = []
        for rail in self._rails:
            probes.append(Probe(name=f"rail.{rail}.volt", read=f"{self._read}#{rail}_V", unit="mv"))
            probes.append(Probe(name=f"rail.{rail}.amp", read=f"{self._read}#{rail}_A", unit="ma"))
        return probes

    def total(self, traces: Mapping[str, Trace]) -> Trace:
        """The rails' sum in mW."""
        return add([_power(traces[f"rail.{rail}.volt"], traces[f"rail.{rail}.amp"]) for rail in self._rails])


def open(options: Options, link: Link) -> Pmic:
    """Read it once; PermanentDeviceError where the board is no Raspberry Pi 5, or its rails are others."""
    said = run(link, options.command)
    if said is None:
        raise PermanentDeviceError(
            f"meter pmic: {shlex.join(options.command)} fails; only a Raspberry Pi 5 has it, and its user must be in "
            "the group `video`"
        )
    told = parse(said.decode("utf-8", "replace"))
    for rail in options.rails:
        if rail not in told:
            known = ", ".join(told)
            raise PermanentDeviceError(f"meter pmic: no rail {rail!r} with current and voltage (there are: {known})")
    return Pmic(options.command, options.rails or tuple(told))


def parse(text: str) -> dict[str, tuple[float, float]]:
    """(A, V) of each rail that tells both, by name; voltages without a current are inputs, and left out.

    Raises PermanentDeviceError for a text that was cut short, a line whose name, kind and unit disagree, a channel told
    twice, or a current without its voltage.
    """
    lines = text.split("\n")
    if lines.pop() != "" or not lines:
        raise PermanentDeviceError(f"meter pmic: the output ends in the middle: {text[-40:]!r}")
    found: dict[str, dict[str, float]] = {"A": {}, "V": {}}
    seen: set[int] = set()
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None or match["unit"] != match["letter"] or match["kind"] != _KIND[match["letter"]]:
            raise PermanentDeviceError(f"meter pmic: {line[:60]!r} is no rail's current or voltage")
        if int(match["index"]) in seen or match["rail"] in found[match["letter"]]:
            raise PermanentDeviceError(f"meter pmic: {line[:60]!r} tells something a second time")
        seen.add(int(match["index"]))
        found[match["letter"]][match["rail"]] = float(match["value"])
    # The firmware numbers its channels without a gap, so a lost line shows.
    lone = sorted(set(found["A"]) - set(found["V"]))
    if lone:
        raise PermanentDeviceError(f"meter pmic: {lone[0]} has a current and no voltage in what the board told")
    if not found["A"] or seen != set(range(len(seen))):
        raise PermanentDeviceError("meter pmic: channels are missing in what the board told")
    return {rail: (current, found["V"][rail]) for rail, current in found["A"].items()}


def _power(volt: Trace, amp: Trace) -> Trace:
    # Of one reading, so sample by sample of one moment.
    return Trace(t_ns=volt.t_ns, value=np.asarray(volt.value * amp.value / 1000), unit="mw")
