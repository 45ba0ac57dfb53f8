"""A phone's own gauge: battery current times voltage. Coarse and slow, and meaningless while anything charges.

The kernel's ABI says microamperes and microvolts; the sign of `current_now` and sometimes its unit differ by phone.
What the gauge says while the phone runs off its battery is taken as discharging.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from hwbench.energy import add
from hwbench.errors import Inconclusive, PermanentDeviceError
from hwbench.link import Link
from hwbench.measurement import Trace
from hwbench.meter import ReadByAgent
from hwbench.reading import read_probe
from hwbench.target import Probe

_TO_MA = {"ua": 1e-3, "ma": 1.0}
# What a phone or a small board may draw; beyond it the unit of the current is another.
_LEAST_MW, _MOST_MW = 20.0, 40_000.0


class Options(BaseModel):
    """root: folder of the battery.  current: unit of `current_now`.  rate_hz: how often the gauge has a new value.

    discharging: sign of `current_now` while it discharges; None = the one that it has when the meter is opened.
    """

    model_config = ConfigDict(extra="forbid")
    root: str = Field(default="/sys/class/power_supply/battery", pattern="^/")
    current: Literal["ua", "ma"] = "ua"
    discharging: Literal["negative", "positive"] | None = None
    rate_hz: float = Field(default=1.0, gt=0)


class Battery(ReadByAgent):
    """See `hwbench.meter.Meter`.  sign: of the current while it discharges."""

    def __init__(self, options: Options, sign: int) -> None:
        self._options = options
        self._sign = sign
        self.rate_hz: float | None = options.rate_hz

    def probes(self) -> Sequence[Probe]:
        """Current and voltage, in the gauge's own units."""
        return _probes(self._options.root)

    def total(self, traces: Mapping[str, Trace]) -> Trace:
        """Power in mW; Inconclusive when it charged meanwhile, or when no such device draws that much."""
        volt, amp = traces["battery.voltage"], traces["battery.current"]
        current = add([Trace(t_ns=volt.t_ns, value=np.zeros(volt.t_ns.size), unit="raw"), amp])
        current_ma = self._sign * current.value * _TO_MA[self._options.current]
        power = Trace(t_ns=volt.t_ns, value=current_ma * volt.value / 1e6, unit="mw")
        if np.any(current_ma < 0):
            raise Inconclusive("the battery was charged meanwhile; unplug it, and reach the board by its network")
        mean_mw = float(np.nanmean(power.value)) if np.isfinite(power.value).any() else 0.0
        if not _LEAST_MW <= mean_mw <= _MOST_MW:
            raise Inconclusive(
                f"the battery gives {mean_mw:.3g} mW, which no such device draws; `current` of its meter may be "
                f"{'ma' if mean_mw < _LEAST_MW else 'ua'!r}"
            )
        return power


def open(options: Options, link: Link) -> Battery:
    """Read it once; PermanentDeviceError where there is no gauge, or while it charges."""
    status = _status(link, options.root)
    if status != "Discharging":
        raise PermanentDeviceError(
            f"meter battery: it is {status.lower() or 'silent'}, and what a charger gives does not show; unplug the "
            "board and reach it by its network (adb connect)"
        )
    current, voltage = (read_probe(link, probe) for probe in _probes(options.root))
    if current is None or voltage is None:
        raise PermanentDeviceError(f"meter battery: {options.root} tells no current or no voltage")
    if options.discharging is not None:
        return Battery(options, -1 if options.discharging == "negative" else 1)
    if current == 0:
        raise PermanentDeviceError("meter battery: no current flows just now; name the sign in `discharging`")
    return Battery(options, 1 if current > 0 else -1)


def _probes(root: str) -> Sequence[Probe]:
    return (
        Probe(name="battery.current", read=f"file:{root}/current_now", unit="raw"),
        Probe(name="battery.voltage", read=f"file:{root}/voltage_now", unit="raw"),
    )


def _status(link: Link, root: str) -> str:
    try:
        return link.read(f"{root}/status", max_bytes=256).decode("utf-8", "replace").strip()
    except (OSError, PermanentDeviceError) as error:
        raise PermanentDeviceError(f"meter battery: {root}/status cannot be read ({error})") from error
