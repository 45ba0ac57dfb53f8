"""What an analytic board has in place of hardware: a link to nowhere, clocks that take any value of their grids, and a
meter that reads the simulation's counter.

With these it is a Board like any other, so that campaign, store, resume and tables are those of measuring; only what it
says is `simulated`, and time passes without anybody waiting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from hwbench.errors import PermanentDeviceError
from hwbench.link import Completed, LinePipe, Link
from hwbench.measurement import Trace
from hwbench.target import Probe


class Nowhere:
    """A Link without a board: no command fails, no file is there, nothing is written."""

    name = "nowhere"
    python = "none"

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", root: bool = False, timeout_s: float) -> Completed:
        return Completed(returncode=0, stdout=b"", stderr=b"")

    def read(self, path: str, *, max_bytes: int = 1 << 20, timeout_s: float = 10.0) -> bytes:
        raise FileNotFoundError(path)

    def write(self, path: str, data: bytes, *, root: bool = False, timeout_s: float = 10.0) -> None:
        return None

    def push(self, file: Path, *, timeout_s: float = 60.0) -> str:
        raise PermanentDeviceError(f"{file.name}: a simulated board holds no files")

    def pull(self, path: str, file: Path, *, timeout_s: float = 60.0) -> None:
        raise PermanentDeviceError(f"{path}: a simulated board holds no files")

    def workdir(self) -> str:
        return "/nowhere"

    def spawn(self, argv: Sequence[str], *, env: Mapping[str, str]) -> LinePipe:
        raise PermanentDeviceError(f"{argv[0]}: a simulated board runs no programs")


class VirtualClock:
    """A Clock that is where it was set; as found it is at its highest value, as the simulation takes it."""

    def __init__(self, name: str, values: Sequence[float | str]) -> None:
        self.name = name
        self._values = tuple(values)
        self._now = self._highest()

    def grid(self) -> tuple[float | str, ...]:
        return self._values

    def state(self) -> Mapping[str, str]:
        return {"value": str(self._now)}

    def set(self, value: float | str) -> float:
        if value not in self._values:
            raise PermanentDeviceError(f"clock {self.name} has no value {value!r} (grid: {self._values})")
        self._now = value
        return 0.0

    def restore(self, state: Mapping[str, str]) -> None:
        found = [value for value in self._values if str(value) == state["value"]]
        self._now = found[0] if found else self._highest()

    def probe(self) -> Probe | None:
        return None

    def _highest(self) -> float | str:
        numbers = [value for value in self._values if not isinstance(value, str)]
        return max(numbers) if numbers else next(iter(self._values), "")


class VirtualMeter:
    """A Meter of the simulation's energy counter."""

    rate_hz: float | None = None

    def probes(self) -> Sequence[Probe]:
        return (Probe(name="virtual", read="file:/nowhere/energy", unit="uj"),)

    def start(self) -> None:
        return None

    def stop(self, marker: Trace) -> Mapping[str, Trace]:
        return {}

    def total(self, traces: Mapping[str, Trace]) -> Trace:
        return traces["virtual"]
