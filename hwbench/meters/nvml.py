"""An NVIDIA GPU's own meter: its energy counter where it has one, else its power; the board of the GPU, not the host.

Power may be a mean over up to a second (Ampere and later), the counter is exact: it is taken wherever it answers. NVML
starts on a Jetson, too, and tells no power there: then there is no meter, and `files` is the one to name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from hwbench.errors import PermanentDeviceError
from hwbench.link import Link
from hwbench.measurement import Trace
from hwbench.meter import ReadByAgent
from hwbench.reading import read_on_board
from hwbench.target import Probe

_NAME = "gpu"


class Options(BaseModel):
    """device: NVML's number of the GPU, or its UUID (`nvidia-smi -L`), which no environment variable renumbers.

    rate_hz: how often it has a new value; None = whenever it is read.
    """

    model_config = ConfigDict(extra="forbid")
    device: str = Field(default="0", pattern=r"^([0-9]{1,3}|GPU-[0-9a-fA-F-]+)$")
    rate_hz: float | None = Field(default=None, gt=0)


class Nvml(ReadByAgent):
    """See `hwbench.meter.Meter`."""

    def __init__(self, probe: Probe, rate_hz: float | None) -> None:
        self._probe = probe
        self.rate_hz = rate_hz

    def probes(self) -> Sequence[Probe]:
        """The counter in uJ, or the power in mW."""
        return [self._probe]

    def total(self, traces: Mapping[str, Trace]) -> Trace:
        """What the GPU tells; other parts of the machine are not in it."""
        return traces[_NAME]


def open(options: Options, link: Link) -> Nvml:
    """Ask the board's own Python for both; PermanentDeviceError where neither is told."""
    counter = Probe(name=_NAME, read=f"nvml:energy:{options.device}", unit="uj")
    power = Probe(name=_NAME, read=f"nvml:power:{options.device}", unit="mw")
    counted, drawn = read_on_board(link, [counter, power])
    if counted is None and drawn is None:
        raise PermanentDeviceError(
            f"meter nvml: GPU {options.device} tells neither energy nor power; is the driver there (nvidia-smi -L)? "
            "A Jetson tells none through NVML: name its rails in a meter `files`"
        )
    return Nvml(counter if counted is not None else power, options.rate_hz)
