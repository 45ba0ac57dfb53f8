"""Reads sensors beside the running work: a thread that exists only when there is something to read."""

import threading
import time
from array import array
from typing import Any, Dict, List, Mapping, Sequence

import numpy as np

from hwbench.agent import readout
from hwbench.agent.machine import now_ns
from hwbench.agent.protocol import AgentError
from hwbench.agent.readout import Raw
from hwbench.agent.sources import Source, open_source


class _Samples:
    """What one source gave, as it came: it is parsed when the work is over."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.t_ns = array("q")
        self.raw: List[Raw] = []
        self.due_s = 0.0

    def take(self) -> None:
        """One sample, dated to the middle of its reading: an interpreter that was busy must not shift it."""
        now_s, period_s = time.monotonic(), self.source.period_s
        # From when it was due, so that what a reading takes does not make them fewer.
        self.due_s = (self.due_s if now_s - self.due_s < period_s else now_s) + period_s
        begin = now_ns()
        self.raw.append(self.source.read())
        self.t_ns.append((begin + now_ns()) // 2)


class _Probe:
    """One number to tell of a source."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        self.name, self.unit, self.read = str(asked["name"]), str(asked["unit"]), str(asked["read"])
        try:
            scheme, rest, self.field = readout.split(self.read)
        except ValueError as error:
            raise AgentError("probe", "probe {!r}: {}".format(self.name, error)) from error
        # Files of one number are read whole but short, so those of several are another source.
        self.source = (scheme, rest, self.field is None)

    def value(self, raw: Raw, whole: bool) -> float:
        """NaN where the text does not tell it."""
        number = readout.number(raw, self.field, self.unit, whole=whole)
        return float("nan") if number is None else number


class Probes:
    """Samples every source at the start, `hz` times a second (less often where that would disturb), and at the end.

    Probes of one file or command share its readings, so their numbers are of one moment.
    """

    def __init__(self, probes: Sequence[Mapping[str, Any]], hz: float) -> None:
        if probes and not hz > 0:
            raise AgentError("request", "probes are read at a rate above 0, not {}".format(hz))
        self._probes = [_Probe(asked) for asked in probes]
        self._samples: Dict[Any, _Samples] = {}
        self._period_s = 1.0 / hz if hz > 0 else 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="probes", daemon=True)
        try:
            for probe in self._probes:
                self._open(probe)
        except AgentError:
            self._close()
            raise

    def _open(self, probe: _Probe) -> None:
        try:
            if probe.source not in self._samples:
                self._samples[probe.source] = _Samples(open_source(probe.read))
            source = self._samples[probe.source].source
            told = source.read()
        except (OSError, ImportError) as error:
            raise AgentError("probe", "probe {!r}: {}: {}".format(probe.name, probe.read, error)) from error
        if np.isnan(probe.value(told, source.whole)):
            raise AgentError("probe", "probe {!r}: {} gives no number".format(probe.name, probe.read))

    def __enter__(self) -> "Probes":
        if self._probes:
            self._take_all()
            self._thread.start()
        return self

    def __exit__(self, *_error: Any) -> None:
        if self._probes:
            self._stop.set()
            self._thread.join()
            self._take_all()
            self._close()

    def _close(self) -> None:
        for samples in self._samples.values():
            samples.source.close()

    def _take_all(self) -> None:
        for samples in self._samples.values():
            samples.take()

    def _sample(self) -> None:
        # A wait with a deadline sleeps in the kernel: the work keeps the interpreter between samples.
        while not self._stop.wait(self._period_s):
            now_s = time.monotonic()
            for samples in self._samples.values():
                if now_s >= samples.due_s:
                    samples.take()

    def units(self) -> Dict[str, str]:
        """Unit by name, in the order of `arrays`."""
        return {probe.name: probe.unit for probe in self._probes}

    def arrays(self) -> Dict[str, np.ndarray]:
        """`trace<i>_t_ns` (n,) int64 and `trace<i>_value` (n,) float64 by the order of `units`; NaN: no reading."""
        found: Dict[str, np.ndarray] = {}
        for i, probe in enumerate(self._probes):
            samples = self._samples[probe.source]
            values = [probe.value(raw, samples.source.whole) for raw in samples.raw]
            found["trace{}_t_ns".format(i)] = np.array(samples.t_ns, dtype=np.int64)
            found["trace{}_value".format(i)] = np.array(values, dtype=np.float64)
        return found
