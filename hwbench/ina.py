"""Finds the rails of INA power sensors (INA3221, 219, 226, 238 …) by the names they bear, wherever the kernel put them.

JetPack 4: `iio:device*/rail_name_N` names `in_powerN_input` (mW).  JetPack 5 and later, and mainline:
`hwmon/*/inN_label` names `inN_input` (mV) and `currN_input` (mA); channel 7 is the sum of the shunt voltages, no rail.
Sensors of one channel have no such labels: `power1_input` (uW) goes by the hwmon's `label`, else by the chip's name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hwbench.errors import PermanentDeviceError
from hwbench.link import Link
from hwbench.target import Probe

_CHIP = re.compile(r"ina[0-9]{3}[a-z]*")
# Below a device (bus and address); below its bus the same files appear again.
_DEVICE = r"(?P<folder>[0-9]+-[0-9a-f]{4}"
_IIO = re.compile(_DEVICE + r"/iio:device[0-9]+)/rail_name_(?P<channel>[0-9]+)")
_HWMON = re.compile(_DEVICE + r"/hwmon/hwmon[0-9]+)/in(?P<channel>[0-9]+)_label")
_SINGLE = re.compile(_DEVICE + r"/hwmon/hwmon[0-9]+)/power1_input")
_SHUNT_SUM = "7"
_FIND_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rail:
    """One rail: a power, or (voltage, current).  rate_hz: how often it has a new value, where the sensor tells."""

    probes: tuple[Probe, ...]
    rate_hz: float | None = None

    @classmethod
    def pair(cls, volt: str, amp: str, rate_hz: float | None = None) -> Rail:
        """A rail of voltage and current."""
        probes = (Probe(name="volt", read=volt, unit="mv"), Probe(name="amp", read=amp, unit="ma"))
        return cls(probes=probes, rate_hz=rate_hz)

    def named(self, name: str) -> Rail:
        """The same rail, its probes called `rail.NAME` (`.volt`, `.amp`)."""
        probes = tuple(
            probe.model_copy(update={"name": f"rail.{name}.{probe.name}" if len(self.probes) > 1 else f"rail.{name}"})
            for probe in self.probes
        )
        return Rail(probes=probes, rate_hz=self.rate_hz)


def find_rails(link: Link, root: str) -> dict[str, Sequence[Rail]]:
    """All rails of the board's INA sensors by name; several sensors may use one name, those not connected (NC) none.

    Raises TransientDeviceError when the link is lost.
    """
    # Entries of this folder are links to where the devices really are; `find` complains of loops in there, and goes on.
    names = ["-name", "rail_name_[0-9]*", "-o", "-name", "in[0-9]*_label", "-o", "-name", "power1_input"]
    listed = link.run(["find", "-L", root, "-maxdepth", "4", "(", *names, ")"], timeout_s=_FIND_S)
    found: dict[str, list[Rail]] = {}
    for path in sorted(listed.stdout.decode("utf-8", "replace").splitlines()):
        name, rail = _rail_at(link, root, path.removeprefix(f"{root}/"))
        if rail is not None and name not in ("", "NC"):
            found.setdefault(name, []).append(rail)
    return dict(found)


def _rail_at(link: Link, root: str, path: str) -> tuple[str, Rail | None]:
    """(name, rail) that a file found at `path` below `root` stands for; None where it is none."""
    if match := _IIO.fullmatch(path):
        probe = Probe(name="power", read=f"file:{root}/{match['folder']}/in_power{match['channel']}_input", unit="mw")
        return _text(link, f"{root}/{path}"), Rail(probes=(probe,))
    if (match := _HWMON.fullmatch(path)) and match["channel"] != _SHUNT_SUM:
        folder, channel = f"{root}/{match['folder']}", match["channel"]
        volt, amp = f"file:{folder}/in{channel}_input", f"file:{folder}/curr{channel}_input"
        return _text(link, f"{root}/{path}"), Rail.pair(volt, amp, _rate_hz(link, folder))
    if match := _SINGLE.fullmatch(path):
        folder = f"{root}/{match['folder']}"
        chip = _text(link, f"{folder}/name")
        if _CHIP.fullmatch(chip):
            probe = Probe(name="power", read=f"file:{root}/{path}", unit="uw")
            return _text(link, f"{folder}/label") or chip, Rail(probes=(probe,), rate_hz=_rate_hz(link, folder))
    return "", None


def _rate_hz(link: Link, folder: str) -> float | None:
    """From the interval in ms at which the sensor has measured all of its channels."""
    interval_ms = _text(link, f"{folder}/update_interval")
    return 1000.0 / int(interval_ms) if interval_ms.isascii() and interval_ms.isdigit() and int(interval_ms) else None


def _text(link: Link, path: str) -> str:
    try:
        return link.read(path, max_bytes=256).decode("utf-8", "replace").strip(" \n\0")
    except (OSError, PermanentDeviceError):
        return ""
