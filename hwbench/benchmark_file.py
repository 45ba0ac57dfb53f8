"""pytest-benchmark's JSON as read (`--benchmark-json`, `.benchmarks/*/0001_*.json`), its own or what our plugin writes.

Its rounds are runs of one process, so a file of pytest-benchmark is one session, however many rounds there were. A
round of ours (`--hwbench-json`) is a session, measured on the board that the test names; times are in seconds there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from hwbench.benchmark_json import TIMER
from hwbench.errors import ConfigError
from hwbench.importer import number, text_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One test of a file.

    latency_ms: median of its rounds; None = not measurable.  rounds: as the file counts them.
    sessions_ms: a value a session; empty where the file keeps rounds to itself.  sessions: how many there were.
    board, runtime: where it was measured and by what; "" = the machine and the Python that ran pytest.
    setting: how, where the file tells.
    """

    name: str
    latency_ms: float | None
    rounds: int
    sessions: int
    sessions_ms: tuple[float, ...] = ()
    board: str = ""
    runtime: str = ""
    setting: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A file: its tests, and the machine, Python and commit of the process that wrote it ("" = not told).

    written: when, None = not told.  commit: with `+changes` where tracked files differed from it.
    """

    file: Path
    tests: tuple[Timing, ...]
    machine: str = ""
    python: str = ""
    commit: str = ""
    written: datetime | None = None


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
    extra_info: dict[str, Any] = {}


class _Commit(BaseModel):
    id: str | None = None
    dirty: bool | None = None

    @property
    def name(self) -> str:
        if self.id in (None, "unversioned", "unknown"):  # pytest-benchmark's words for no repository
            return ""
        short = f"{self.id}"[:12]
        return f"{short}+changes" if self.dirty else short


class _File(BaseModel):
    machine_info: dict[str, Any] = {}
    commit_info: _Commit = _Commit()
    written: str | None = Field(alias="datetime", default=None)
    benchmarks: list[_Benchmark]


def read(file: Path) -> Run:
    """All tests of a file; ConfigError naming the file and the place where it is wrong."""
    try:
        found = _File.model_validate(json.loads(text_of(file)))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(p) for p in first["loc"])
        raise ConfigError(f"{file}: not pytest-benchmark's JSON: {place}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: not JSON ({error})") from error
    cpu = found.machine_info.get("cpu")
    words = [found.machine_info.get(k) for k in ("system", "machine", "processor")]
    words.append(cpu.get("brand_raw") if isinstance(cpu, dict) else None)
    return Run(
        file=file,
        tests=tuple(_timing(benchmark, f"{file}: {benchmark.fullname}") for benchmark in found.benchmarks),
        machine=" ".join(str(word) for word in words if word),
        python=str(found.machine_info.get("python_version") or ""),
        commit=found.commit_info.name,
        written=_when(found.written, file),
    )


def _timing(benchmark: _Benchmark, where: str) -> Timing:
    stats, ours = benchmark.stats, benchmark.options.timer == TIMER
    value = number(stats.median, 1e3, f"{where}: median")
    sessions = stats.rounds if ours else 1
    each: tuple[float, ...] = ()
    if value is not None and sessions == 1:
        each = (value,)
    elif value is not None and stats.data:
        each = tuple(ms for s in stats.data if (ms := number(s, 1e3, f"{where}: data")) is not None)
        if len(each) != sessions:
            raise ConfigError(f"{where}: {sessions} rounds, but {len(each)} measurements in its data")
    told = {k: str(v) for k, v in benchmark.extra_info.items() if v} if ours else {}
    return Timing(
        name=benchmark.fullname,
        latency_ms=value,
        rounds=stats.rounds,
        sessions=sessions,
        sessions_ms=each,
        # Two targets may describe one board, with other clocks and limits.
        board=": ".join(told[word] for word in ("target", "board") if word in told),
        runtime=told.get("runtime", ""),
        setting=told.get("setting", ""),
    )


def _when(text: str | None, file: Path) -> datetime | None:
    if not text:
        return None
    try:
        when = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise ConfigError(f"{file}: its datetime is {text[:40]!r}, no time") from error
    # pytest-benchmark wrote UTC without saying so before version 3.2.
    return when if when.tzinfo is not None else when.replace(tzinfo=timezone.utc)
