"""The trace of ONNX Runtime's `SessionOptions.enable_profiling`: `model_run` whole, and each node's kernel.

Events of the Chrome trace format, durations in whole µs. The profiler costs time of its own, so every row is flagged;
nodes below the resolution are no rows. The first run warms up and is left out where there are others.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from hwbench.errors import ConfigError
from hwbench.importer import Entry, Given, Imported, Importer, text_of
from hwbench.measurement import Interval
from hwbench.statistics import median

_KERNEL = "_kernel_time"


class Options(BaseModel):
    """None."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Profile:
    def read(self, file: Path, given: Given) -> Imported:
        try:
            events = json.loads(text_of(file))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{file}: not JSON ({error}); was the session ended (end_profiling)?") from error
        if not isinstance(events, list):
            raise ConfigError(f"{file}: not a list of events, as ONNX Runtime's profiler writes")
        times: dict[tuple[str, str], list[float]] = defaultdict(list)
        providers: set[str] = set()
        for at, event in enumerate(events):
            found = _event(event, f"{file}: event {at}")
            if found is not None:
                name, kind, duration_us = found
                times[kind, name].append(duration_us)
                provider = (event.get("args") or {}).get("provider") if kind == "block" else None
                if isinstance(provider, str):
                    providers.add(provider)
        if ("network", "") not in times:
            raise ConfigError(f"{file}: no event model_run; run the session before end_profiling")
        return Imported(
            entries=tuple(_entry(kind, name, t, given, file) for (kind, name), t in times.items()),
            told={"runtime": "onnxruntime", "providers": " ".join(sorted(providers))},
            missing=("machine", "runtime_version", "clocks"),
        )


def open(options: Options) -> Importer:
    """Nothing is opened before the file is read."""
    return _Profile()


def _event(event: Any, where: str) -> tuple[str, str, float] | None:
    """(name, kind, µs) of an event that is a run or a kernel."""
    if not isinstance(event, dict):
        raise ConfigError(f"{where}: not an event")
    name, category, duration = event.get("name"), event.get("cat"), event.get("dur")
    if category == "Session" and name == "model_run":
        name, kind = "", "network"
    elif category == "Node" and isinstance(name, str) and name.endswith(_KERNEL):
        name, kind = name.removesuffix(_KERNEL), "block"
    else:
        return None
    if not isinstance(duration, (int, float)) or isinstance(duration, bool) or not 0 <= duration < 1e12:
        raise ConfigError(f"{where}: duration {duration!r}")
    return name, kind, float(duration)


def _entry(kind: str, name: str, times_us: list[float], given: Given, file: Path) -> Entry:
    warm = times_us[1:] or times_us
    typical_us = median(warm)
    flags = ("profiled",) if len(times_us) > 1 else ("profiled", "cold")
    return Entry(
        key=f"{given.name}/{name}" if name else given.name,
        kind=kind,
        setting=given.setting,
        latency_ms=Interval(value=typical_us / 1e3) if typical_us > 0 else None,
        runs=len(warm),
        flags=flags,
        where=f"{file}: {name or 'model_run'}",
    )
