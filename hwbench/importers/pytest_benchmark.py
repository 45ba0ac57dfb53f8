"""pytest-benchmark's JSON (`--benchmark-json`, `.benchmarks/*.json`), its own or ours; times are in seconds there.

Its rounds are runs of one process, so a file of pytest-benchmark is one session and its rows have no interval, however
many rounds there were. A round of ours (`--hwbench-json`) is a session: these rows have one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hwbench.benchmark_json import TIMER
from hwbench.errors import ConfigError
from hwbench.importer import Entry, Given, Imported, Importer, number, text_of
from hwbench.measurement import Interval
from hwbench.summary import over_sessions


class Options(BaseModel):
    """None."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Stats(BaseModel):
    """Other figures are left to pytest-benchmark; that tool adds some with every version."""

    median: float
    rounds: int = Field(ge=1)
    data: list[float] = []


class _Asked(BaseModel):
    timer: str = ""


class _Benchmark(BaseModel):
    fullname: str = Field(min_length=1)
    options: _Asked = _Asked()
    stats: _Stats

    @property
    def sessions(self) -> int:
        return self.stats.rounds if self.options.timer == TIMER else 1


class _File(BaseModel):
    machine_info: dict[str, Any] = {}
    benchmarks: list[_Benchmark]


@dataclass(frozen=True, slots=True, kw_only=True)
class _PytestBenchmark:
    def read(self, file: Path, given: Given) -> Imported:
        try:
            found = _File.model_validate(json.loads(text_of(file)))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(p) for p in first["loc"])
            raise ConfigError(f"{file}: not pytest-benchmark's JSON: {place}: {first['msg']}") from error
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{file}: not JSON ({error})") from error
        entries = []
        for benchmark in found.benchmarks:
            where = f"{file}: {benchmark.fullname}"
            value = number(benchmark.stats.median, 1e3, f"{where}: median")
            entries.append(
                Entry(
                    key=benchmark.fullname,
                    kind="network",
                    setting=given.setting,
                    latency_ms=None if value is None else _latency(benchmark, value, where),
                    runs=benchmark.stats.rounds,
                    sessions=benchmark.sessions,
                    where=where,
                )
            )
        cpu = found.machine_info.get("cpu")
        words = [found.machine_info.get(k) for k in ("system", "machine", "processor")]
        words.append(cpu.get("brand_raw") if isinstance(cpu, dict) else None)
        machine = " ".join(str(word) for word in words if word)
        told = {"runtime": "python", "runtime_version": str(found.machine_info.get("python_version") or "")}
        missing = [
            word for word, known in (("machine", machine), ("runtime_version", told["runtime_version"])) if not known
        ]
        return Imported(entries=tuple(entries), told=told | {"machine": machine}, missing=(*missing, "clocks"))


def _latency(benchmark: _Benchmark, value_ms: float, where: str) -> Interval:
    """The median with its interval over sessions, where the file holds a value of each."""
    each = benchmark.stats.data
    if benchmark.sessions == 1 or not each:
        return Interval(value=value_ms)
    found = [ms for seconds in each if (ms := number(seconds, 1e3, f"{where}: data")) is not None]
    if len(found) != benchmark.sessions:
        raise ConfigError(f"{where}: {benchmark.sessions} rounds, but {len(found)} measurements in its data")
    return replace(over_sessions(found), value=value_ms)


def open(options: Options) -> Importer:
    """Nothing is opened before the file is read."""
    return _PytestBenchmark()
