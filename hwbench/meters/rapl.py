"""Energy counters of Intel and AMD processors, as the kernel's powercap framework shows them.

Added are the packages and the memory beside them; `core` and `uncore` lie inside their package, and `psys` and the
`intel-rapl-mmio` copies count the same energy again (Documentation/power/powercap/powercap.rst of the Linux kernel).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from hwbench.energy import add
from hwbench.errors import PermanentDeviceError
from hwbench.link import Link
from hwbench.measurement import Trace
from hwbench.meter import ReadByAgent
from hwbench.target import Probe

_ZONE = re.compile(r"^intel-rapl:\d+(:\d+)?$")


class Options(BaseModel):
    """root: folder of the zones.  zones: names to add (`package-0`, `dram`); () = packages and their memory."""

    model_config = ConfigDict(extra="forbid")
    root: str = Field(default="/sys/class/powercap", pattern="^/")
    zones: tuple[str, ...] = ()


class Rapl(ReadByAgent):
    """See `hwbench.meter.Meter`.  zones: folder name -> the value at which its counter starts again from 0, in uJ."""

    rate_hz: float | None = None

    def __init__(self, root: str, zones: Mapping[str, int]) -> None:
        self._root = root
        self._zones = dict(zones)

    def probes(self) -> Sequence[Probe]:
        """One counter a zone."""
        return [Probe(name=z, read=f"file:{self._root}/{z}/energy_uj", unit="uj") for z in self._zones]

    def total(self, traces: Mapping[str, Trace]) -> Trace:
        """One counter in uJ that never falls: each zone is unwrapped at its own range, then they are added."""
        return add([_unwrap(traces[zone], wrap_uj) for zone, wrap_uj in self._zones.items()])


def open(options: Options, link: Link) -> Rapl:
    """Find the zones; raises PermanentDeviceError where there are none (a virtual machine) or root is needed."""
    listing = link.run(["ls", "-1", options.root], timeout_s=10.0)
    folders = [name for name in listing.stdout.decode(errors="replace").split() if _ZONE.match(name)]
    zones: dict[str, int] = {}
    for folder in folders:
        name = _text(link, f"{options.root}/{folder}/name")
        chosen = name in options.zones if options.zones else name == "dram" or name.startswith("package-")
        if chosen:
            # Read once now: the counter is root's on most systems, and that is better known before the campaign.
            _text(link, f"{options.root}/{folder}/energy_uj")
            zones[folder] = int(_text(link, f"{options.root}/{folder}/max_energy_range_uj"))
    if not zones:
        raise PermanentDeviceError(
            f"meter rapl: no energy counter under {options.root}; virtual machines and many ARM boards have none"
        )
    return Rapl(options.root, zones)


def _text(link: Link, path: str) -> str:
    try:
        return link.read(path).decode(errors="replace").strip()
    except (OSError, PermanentDeviceError) as error:
        raise PermanentDeviceError(
            f"meter rapl: {path} cannot be read ({error}); energy counters are root's: run as root, or `chmod a+r` them"
        ) from error


def _unwrap(trace: Trace, wrap_uj: int) -> Trace:
    """Add the range once for every fall; a window is far shorter than the minutes that a counter takes to wrap."""
    falls = np.concatenate([[0], np.cumsum(np.diff(trace.value) < 0)]) if trace.value.size else np.zeros(0)
    return Trace(t_ns=trace.t_ns, value=trace.value + falls * float(wrap_uj), unit="uj")
