"""pytest-benchmark's JSON (`--benchmark-json`, `.benchmarks/*/0001_*.json`), its own or ours.

A file of pytest-benchmark is one session and its rows have no interval, however many rounds there were; what
`--hwbench-json` writes holds sessions, and its rows have one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from hwbench import benchmark_file
from hwbench.benchmark_file import Timing
from hwbench.importer import Entry, Given, Imported, Importer
from hwbench.measurement import Interval
from hwbench.summary import over_sessions


class Options(BaseModel):
    """None."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _PytestBenchmark:
    def read(self, file: Path, given: Given) -> Imported:
        found = benchmark_file.read(file)
        entries = tuple(
            Entry(
                key=test.name,
                kind="network",
                setting=given.setting,
                latency_ms=_latency(test),
                runs=test.rounds,
                sessions=test.sessions,
                where=f"{file}: {test.name}",
            )
            for test in found.tests
        )
        boards, runtimes = ({getattr(test, name) for test in found.tests} for name in ("board", "runtime"))
        # Tests that name their board were measured there, and not by the Python that ran pytest.
        machine = found.machine if "" in boards else ", ".join(sorted(boards))
        runtime, _, version = "".join(runtimes).partition(" ") if len(runtimes) == 1 else ("", "", "")
        told = {"runtime": runtime or "python", "runtime_version": version if runtime else found.python}
        missing = [
            word for word, known in (("machine", machine), ("runtime_version", told["runtime_version"])) if not known
        ]
        return Imported(entries=entries, told=told | {"machine": machine}, missing=(*missing, "clocks"))


def _latency(test: Timing) -> Interval | None:
    """The median with its interval over sessions, where the file holds a value of each."""
    if test.latency_ms is None or len(test.sessions_ms) < 2:
        return None if test.latency_ms is None else Interval(value=test.latency_ms)
    return replace(over_sessions(test.sessions_ms), value=test.latency_ms)


def open(options: Options) -> Importer:
    """Nothing is opened before the file is read."""
    return _PytestBenchmark()
