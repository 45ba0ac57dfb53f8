"""pytest-benchmark's JSON (`--benchmark-json`, `.benchmarks/*.json`), its own or ours; times are in seconds there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hwbench.errors import ConfigError
from hwbench.importer import Entry, Given, Imported, Importer, number, text_of
from hwbench.measurement import Interval


class Options(BaseModel):
    """None."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Stats(BaseModel):
    """Other figures are left to pytest-benchmark; that tool adds some with every version."""

    median: float
    rounds: int = Field(ge=1)


class _Benchmark(BaseModel):
    fullname: str = Field(min_length=1)
    stats: _Stats


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
                    latency_ms=None if value is None else Interval(value=value),
                    runs=benchmark.stats.rounds,
                    where=where,
                )
            )
        machine = " ".join(str(found.machine_info.get(k) or "") for k in ("system", "machine", "processor")).strip()
        told = {"runtime": "python", "runtime_version": str(found.machine_info.get("python_version") or "")}
        missing = [
            word for word, known in (("machine", machine), ("runtime_version", told["runtime_version"])) if not known
        ]
        return Imported(entries=tuple(entries), told=told | {"machine": machine}, missing=(*missing, "clocks"))


def open(options: Options) -> Importer:
    """Nothing is opened before the file is read."""
    return _PytestBenchmark()
