"""A bench or USB meter beside the board: a command that prints lines, a file that somebody writes, a serial port.

Its clock is not the board's. A marker load (bursts of work at times the board knows) is looked for in the power curve,
and the shift that fits best aligns the two; how well it fits is stated as the alignment error.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hwbench import power_log
from hwbench.alignment import align
from hwbench.errors import PermanentDeviceError
from hwbench.link import Link
from hwbench.measurement import Trace
from hwbench.power_log import parse
from hwbench.serial_lines import SerialLines
from hwbench.target import Probe

TOTAL = "external"
_MOST_BYTES = 256 << 20
_ARRIVAL = "t_s"


class Options(BaseModel):
    """One of `command`, `csv` and `serial`, on this machine; each gives lines of numbers between commas.

    command: prints lines until SIGTERM.  csv: a file that something else appends to.  serial: a port, at `baud`.
    columns: what the numbers are (`t_s`, `t_ms`, `power_mw`, `power_w`, `volt_v`, `volt_mv`, `amp_a`, `amp_ma`, `_` for
    what does not matter); a header is skipped.  A serial port may tell no time: then the arrival of a line is taken.
    rate_hz: lines a second.
    """

    model_config = ConfigDict(extra="forbid")
    command: list[str] = Field(default=[], min_length=0)
    csv: Path | None = None
    serial: Path | None = None
    baud: int = 115200
    columns: tuple[str, ...] = power_log.DEFAULT
    rate_hz: float = Field(default=10.0, gt=0)

    @property
    def arrives(self) -> bool:
        """Whether lines are dated when they come."""
        return self.serial is not None and not any(c.startswith("t_") for c in self.columns)

    @model_validator(mode="after")
    def _check(self) -> Options:
        if sum((bool(self.command), self.csv is not None, self.serial is not None)) != 1:
            raise ValueError("name one of `command`, `csv` and `serial`")
        power_log.check((_ARRIVAL, *self.columns) if self.arrives else self.columns)
        return self


class External:
    """See `hwbench.meter.Meter`."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.rate_hz: float | None = options.rate_hz
        self._end: Callable[[], str] | None = None

    def probes(self) -> Sequence[Probe]:
        """Nothing is read on the board."""
        return ()

    def start(self) -> None:
        """Begin to listen; PermanentDeviceError where command, file or port do not exist."""
        if self._options.serial is not None:
            self._end = _listen(self._options.serial, self._options.baud, self._options.arrives)
        elif self._options.csv is not None:
            self._end = _follow(self._options.csv)
        else:
            self._end = _run(self._options.command)

    def stop(self, marker: Trace) -> Mapping[str, Trace]:
        """Stop listening and align what came to the marker, which is in the board's clock.

        marker: steps of the load, value 1 from t_ns on = busy, 0 = idle.
        Raises Inconclusive when the bursts cannot be found in the curve, PermanentDeviceError for unreadable lines.
        """
        if self._end is None:
            return {}
        end, self._end = self._end, None
        columns = (_ARRIVAL, *self._options.columns) if self._options.arrives else self._options.columns
        t_s, power_mw = parse(end(), columns)
        return {TOTAL: align(t_s, power_mw, marker)}

    def total(self, traces: Mapping[str, Trace]) -> Trace:
        """The one curve there is, in mW."""
        return traces[TOTAL]


def open(options: Options, link: Link) -> External:
    """Nothing happens until `start`."""
    return External(options)


def _run(command: Sequence[str]) -> Callable[[], str]:
    """Start a command; what is returned ends it and gives what it printed."""
    # A file, not a pipe: nobody on this machine has to wake up for every line while a window is open.
    output = tempfile.TemporaryFile()  # noqa: SIM115 - lives until the end
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.DEVNULL)
    except OSError as error:
        output.close()
        raise PermanentDeviceError(f"meter external: cannot start {command[0]!r} ({error.strerror})") from error

    def end() -> str:
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with output:
            output.seek(0)
            return output.read(_MOST_BYTES).decode(errors="replace")

    return end


def _follow(file: Path) -> Callable[[], str]:
    """Note where a file ends; what is returned gives what was appended since."""
    try:
        begin = file.stat().st_size
    except OSError as error:
        raise PermanentDeviceError(f"meter external: {file} cannot be read ({error.strerror})") from error

    def end() -> str:
        try:
            with file.open("rb") as stream:
                stream.seek(begin)
                text = stream.read(_MOST_BYTES).decode(errors="replace")
        except OSError as error:
            raise PermanentDeviceError(f"meter external: {file} cannot be read ({error.strerror})") from error
        if begin:
            # The line that was being written when we began.
            text = text.partition("\n")[2]
        if not text:
            raise PermanentDeviceError(f"meter external: nothing was appended to {file}; is its program running?")
        return text

    return end


def _listen(port: Path, baud: int, arrives: bool) -> Callable[[], str]:
    """Listen to a port; what is returned gives its lines, dated where they tell no time."""
    lines = SerialLines(str(port), baud)

    def end() -> str:
        told = [(t_s, line.decode(errors="replace")) for t_s, line in lines.stop()]
        return "".join(f"{t_s!r},{line}\n" if arrives else f"{line}\n" for t_s, line in told)

    return end
