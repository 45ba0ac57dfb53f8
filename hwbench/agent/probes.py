"""Reads sensors beside the running work: a thread that exists only when there is something to read."""

import os
import threading
from array import array
from typing import Any, Dict, Mapping, Sequence

import numpy as np

from hwbench.agent.machine import now_ns
from hwbench.agent.protocol import AgentError


class _Reading:
    """One probe and what it gave."""

    def __init__(self, probe: Mapping[str, Any]) -> None:
        self.name = str(probe["name"])
        self.unit = str(probe["unit"])
        scheme, _, path = str(probe["read"]).partition(":")
        if scheme != "file":
            raise AgentError("probe", "probe {!r}: this agent reads `file:`, not {!r}".format(self.name, scheme + ":"))
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            float(os.pread(self._file, 64, 0))
        except (OSError, ValueError) as error:
            raise AgentError("probe", "probe {!r}: {} gives no number ({})".format(self.name, path, error)) from error
        self.t_ns = array("q")
        self.value = array("d")

    def take(self) -> None:
        """One sample; NaN where the sensor does not answer this time."""
        try:
            value = float(os.pread(self._file, 64, 0))
        except (OSError, ValueError):
            value = float("nan")
        self.t_ns.append(now_ns())
        self.value.append(value)

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)


class Probes:
    """Samples every probe at the start, `hz` times a second, and at the end, so a window is covered to its edges."""

    def __init__(self, probes: Sequence[Mapping[str, Any]], hz: float) -> None:
        if probes and not hz > 0:
            raise AgentError("request", "probes are read at a rate above 0, not {}".format(hz))
        self._readings = [_Reading(probe) for probe in probes]
        self._period_s = 1.0 / hz if hz > 0 else 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="probes", daemon=True)

    def __enter__(self) -> "Probes":
        if self._readings:
            self._take_all()
            self._thread.start()
        return self

    def __exit__(self, *_error: Any) -> None:
        if self._readings:
            self._stop.set()
            self._thread.join()
            self._take_all()
            for reading in self._readings:
                reading.close()

    def _take_all(self) -> None:
        for reading in self._readings:
            reading.take()

    def _sample(self) -> None:
        # A wait with a deadline sleeps in the kernel: the work keeps the interpreter between samples.
        while not self._stop.wait(self._period_s):
            self._take_all()

    def units(self) -> Dict[str, str]:
        """Unit by name, in the order of `arrays`."""
        return {reading.name: reading.unit for reading in self._readings}

    def arrays(self) -> Dict[str, np.ndarray]:
        """`trace<i>_t_ns` (n,) int64 and `trace<i>_value` (n,) float64, by the order of `units`."""
        found: Dict[str, np.ndarray] = {}
        for i, reading in enumerate(self._readings):
            found["trace{}_t_ns".format(i)] = np.array(reading.t_ns, dtype=np.int64)
            found["trace{}_value".format(i)] = np.array(reading.value, dtype=np.float64)
        return found
