"""Energy counters of a Pixel's rails (ODPM, on-device power monitor): lines `CH3(T=ms)[RAIL], µWs` of its iio devices.

Which rails there are and which feed which differs by phone, so those to add are named; many phones let only root read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hwbench.energy import add
from hwbench.errors import PermanentDeviceError, nearest
from hwbench.link import Link
from hwbench.measurement import Trace
from hwbench.meter import ReadByAgent
from hwbench.target import Probe

_DEVICE = re.compile(r"iio:device[0-9]+")
_CHANNEL = re.compile(r"CH[0-9]+\(T=[0-9]+\)\[(?P<rail>[A-Za-z0-9_.:-]+)\], [0-9]+")
_LIST_S = 10.0


class Options(BaseModel):
    """total: rails that do not overlap and make up what is measured.  rate_hz: how often the counters are updated.

    root: folder of the iio devices.
    """

    model_config = ConfigDict(extra="forbid")
    total: tuple[str, ...] = Field(min_length=1)
    rate_hz: float | None = Field(default=None, gt=0)
    root: str = Field(default="/sys/bus/iio/devices", pattern="^/")

    @model_validator(mode="after")
    def _check(self) -> Options:
        if len(set(self.total)) != len(self.total):
            raise ValueError("total names a rail twice")
        return self


class Odpm(ReadByAgent):
    """See `hwbench.meter.Meter`.  rails: name -> the file that counts it."""

    def __init__(self, rails: Mapping[str, str], rate_hz: float | None) -> None:
        self._rails = dict(rails)
        self.rate_hz = rate_hz

    def probes(self) -> Sequence[Probe]:
        """One counter a rail; those of one device are of one reading. µWs are uJ."""
        return [Probe(name=f"rail.{name}", read=f"file:{path}#{name}", unit="uj") for name, path in self._rails.items()]

    def total(self, traces: Mapping[str, Trace]) -> Trace:
        """The rails' sum, a counter in uJ."""
        return add([traces[f"rail.{name}"] for name in self._rails])


def open(options: Options, link: Link) -> Odpm:
    """Find the named rails; PermanentDeviceError where the phone has none, hides them, or has others."""
    shown = _rails(link, options.root)
    if not shown:
        raise PermanentDeviceError(
            f"meter odpm: no energy counter under {options.root}; only Pixels since the 6 have them, and some let only "
            "root read (adb root); name the meter `battery`, or `external`"
        )
    for name in options.total:
        if name not in shown:
            raise PermanentDeviceError(f"meter odpm: this phone has no rail {name!r}{nearest(name, shown)}")
    return Odpm({name: shown[name] for name in options.total}, options.rate_hz)


def parse(text: str) -> list[str]:
    """Names of the rails of one device, in the order of its channels.

    Raises PermanentDeviceError for a text that was cut short, a line that is no counter, or a rail told twice.
    """
    lines = text.split("\n")
    if lines.pop() != "":
        raise PermanentDeviceError(f"meter odpm: the counters end in the middle of {text[-40:]!r}")
    if lines and re.fullmatch(r"t=[0-9]+", lines[0]):
        lines.pop(0)
    names: list[str] = []
    for line in lines:
        found = _CHANNEL.fullmatch(line)
        if found is None or found["rail"] in names:
            raise PermanentDeviceError(f"meter odpm: {line[:60]!r} is no counter of a rail of its own")
        names.append(found["rail"])
    if not names:
        raise PermanentDeviceError("meter odpm: a device without channels")
    return names


def _rails(link: Link, root: str) -> dict[str, str]:
    listed = link.run(["ls", "-1", root], timeout_s=_LIST_S).stdout.decode("utf-8", "replace").split()
    shown: dict[str, str] = {}
    for device in sorted(name for name in listed if _DEVICE.fullmatch(name)):
        path = f"{root}/{device}/energy_value"
        try:
            text = link.read(path, max_bytes=1 << 16).decode("utf-8", "replace")
        except (OSError, PermanentDeviceError):
            continue  # another kind of device, or one that is not for us
        shown.update(dict.fromkeys(parse(text), path))
    return shown
