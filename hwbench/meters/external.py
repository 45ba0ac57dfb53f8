"""A bench meter beside the board: any command that prints `t_s,power_mw` lines until it is stopped.

Its clock is not the board's. A marker load (bursts of work at times the board knows) is looked for in the power curve,
and the shift that fits best aligns the two; how well it fits is stated as the alignment error.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from hwbench.errors import Inconclusive, PermanentDeviceError
from hwbench.link import Link
from hwbench.measurement import Trace
from hwbench.target import Probe

TOTAL = "external"
# Below this correlation the bursts are not in the curve: another supply, or a marker too weak to see.
_MIN_CORRELATION = 0.5


class Options(BaseModel):
    """command: runs on this machine, prints `t_s,power_mw` (a header is skipped) and ends on SIGTERM.

    rate_hz: lines a second.
    """

    model_config = ConfigDict(extra="forbid")
    command: list[str] = Field(min_length=1)
    rate_hz: float = Field(default=10.0, gt=0)


class External:
    """See `hwbench.meter.Meter`."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.rate_hz: float | None = options.rate_hz
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    def probes(self) -> Sequence[Probe]:
        """Nothing is read on the board."""
        return ()

    def start(self) -> None:
        """Start the command; PermanentDeviceError where it does not exist."""
        # A file, not a pipe: nobody on this machine has to wake up for every line while a window is open.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - lives until `stop`
        try:
            self._process = subprocess.Popen(
                self._options.command, stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            self._output.close()
            raise PermanentDeviceError(
                f"meter external: cannot start {self._options.command[0]!r} ({error.strerror})"
            ) from error

    def stop(self, marker: Trace) -> Mapping[str, Trace]:
        """Stop the command and align what it printed to the marker, which is in the board's clock.

        marker: steps of the load, value 1 from t_ns on = busy, 0 = idle.
        Raises Inconclusive when the bursts cannot be found in the curve, PermanentDeviceError for unreadable lines.
        """
        if self._process is None or self._output is None:
            return {}
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.seek(0)
        text = self._output.read().decode(errors="replace")
        self._output.close()
        self._process = self._output = None
        t_s, power_mw = parse(text)
        return {TOTAL: align(t_s, power_mw, marker)}

    def total(self, traces: Mapping[str, Trace]) -> Trace:
        """The one curve there is, in mW."""
        return traces[TOTAL]


def open(options: Options, link: Link) -> External:
    """Nothing happens until `start`."""
    return External(options)


def parse(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Times (s) and powers (mW) of `t_s,power_mw` lines; a header and a last line cut short are left out.

    Raises PermanentDeviceError naming the line that is not two numbers, or when there are none.
    """
    rows: list[tuple[float, float]] = []
    lines = text.splitlines()
    if lines and not text.endswith("\n"):
        lines.pop()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            t_s, power_mw = (float(part) for part in line.split(","))
        except ValueError as error:
            if number == 1:
                continue
            raise PermanentDeviceError(
                f"meter external: line {number} is {line[:40]!r}, expected `t_s,power_mw`"
            ) from error
        rows.append((t_s, power_mw))
    if not rows:
        raise PermanentDeviceError("meter external: the command printed no `t_s,power_mw` line")
    table = np.array(sorted(rows))
    return table[:, 0], table[:, 1]


def align(t_s: np.ndarray, power_mw: np.ndarray, marker: Trace) -> Trace:
    """Put a curve into the marker's clock.

    The best shift is the one whose correlation between the load and the power at that time is highest; each half of the
    marker is aligned on its own too, and their disagreement plus half a sample is the stated error.
    """
    if marker.t_ns.size < 4 or t_s.size < 8:
        raise Inconclusive("too few bursts or power samples to align the external meter")
    zero = int(marker.t_ns[0])
    edges = (marker.t_ns - zero) / 1e9
    gap_s = float(np.median(np.diff(t_s)))
    shift = _best_shift(t_s, power_mw, edges, marker.value)
    middle = edges.size // 2
    parts = [(edges[: middle + 1], marker.value[: middle + 1]), (edges[middle:], marker.value[middle:])]
    # Near the full answer only: half a marker alone may fit elsewhere too.
    around = [_best_shift(t_s, power_mw, e, v, near=shift) for e, v in parts]
    error_s = max(abs(a - shift) for a in around) + gap_s / 2
    return Trace(
        t_ns=zero + np.round((t_s - shift) * 1e9).astype(np.int64),
        value=power_mw,
        unit="mw",
        alignment_error_ms=error_s * 1000,
    )


def _best_shift(
    t_s: np.ndarray, power_mw: np.ndarray, edges: np.ndarray, load: np.ndarray, near: float | None = None
) -> float:
    """Shift d (s) so that the marker's time x lies at x + d in the meter's clock."""
    gap_s = float(np.median(np.diff(t_s)))
    # Coarser than this and a burst could slip through between two candidates.
    step = float(np.diff(edges).min()) / 6
    if near is None:
        low, high = float(t_s[0] - edges[0]) - gap_s, float(t_s[-1] - edges[-1]) + gap_s
        if high < low:
            raise Inconclusive("the external meter's curve is shorter than the marker; start it before the session")
    else:
        low, high = near - 2 * gap_s, near + 2 * gap_s
        step = min(step, gap_s / 5)
    best, score = _scan(t_s, power_mw, edges, load, np.arange(low, high + step, step))
    while step > gap_s / 20:
        best, score = _scan(t_s, power_mw, edges, load, np.linspace(best - step, best + step, 21))
        step /= 10
    if near is None and score < _MIN_CORRELATION:
        raise Inconclusive(
            f"the marker load does not show in the external meter's curve (correlation {score:.2f}); "
            "is it on this board's supply?"
        )
    return best


def _scan(
    t_s: np.ndarray, power_mw: np.ndarray, edges: np.ndarray, load: np.ndarray, shifts: np.ndarray
) -> tuple[float, float]:
    """(shift, correlation) of the best candidate; between equals the middle one."""
    scores = np.full(shifts.size, -1.0)
    for index, shift in enumerate(shifts):
        # Samples are in the order of time, so those under the marker are one slice.
        first, last = np.searchsorted(t_s, [edges[0] + shift, edges[-1] + shift])
        if last - first < 4:
            continue
        busy = load[np.searchsorted(edges, t_s[first:last] - shift, side="right").clip(1) - 1]
        power = power_mw[first:last]
        if np.ptp(busy) and np.ptp(power):
            scores[index] = np.corrcoef(busy, power)[0, 1]
    top = np.flatnonzero(scores >= scores.max() - 1e-9)
    return float(shifts[top].mean()), float(scores.max())
