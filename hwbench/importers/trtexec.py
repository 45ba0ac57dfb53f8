"""`trtexec` of TensorRT 8 to 11: its `--exportTimes` JSON, its `--exportProfile` JSON, or its log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from hwbench.agent import trtexec_output
from hwbench.agent.protocol import AgentError
from hwbench.errors import ConfigError
from hwbench.importer import Entry, Given, Imported, Importer, text_of
from hwbench.measurement import Interval
from hwbench.statistics import median


class Options(BaseModel):
    """log: of the same call, which tells TensorRT's version and must agree with the times."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    log: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trtexec:
    options: Options

    def read(self, file: Path, given: Given) -> Imported:
        text = text_of(file)
        log = text_of(Path(self.options.log)) if self.options.log else ""
        try:
            told = {"runtime": "tensorrt"}
            if log:
                told["runtime_version"] = trtexec_output.version_of(log)
            if not text.lstrip().startswith("["):
                log = text
                told["runtime_version"] = trtexec_output.version_of(log)
                found = trtexec_output.summary(log)
                entries = [_network(given, found.compute_ms[3], found.queries, file)]
            elif '"averageMs"' in text:
                entries = _layers(text, given, file)
            else:
                runs = trtexec_output.runs(text)
                if log:
                    trtexec_output.agree(trtexec_output.summary(log), runs)
                entries = [_network(given, median([r.compute_ms for r in runs]), len(runs), file)]
        except AgentError as error:
            raise ConfigError(f"{file}: {error}") from error
        missing = ("machine", "clocks") + (() if log else ("runtime_version",))
        return Imported(entries=tuple(entries), told=told, missing=missing)


def open(options: Options) -> Importer:
    """Nothing is opened before the file is read."""
    return _Trtexec(options=options)


def _network(given: Given, latency_ms: float, runs: int, file: Path) -> Entry:
    return Entry(
        key=given.name,
        kind="network",
        setting=given.setting,
        latency_ms=Interval(value=latency_ms),
        runs=runs,
        where=str(file),
    )


def _layers(text: str, given: Given, file: Path) -> list[Entry]:
    # A layer that was fused away takes no time: that is no row.
    return [
        Entry(
            key=f"{given.name}/{layer.name}",
            kind="block",
            setting=given.setting,
            latency_ms=Interval(value=layer.average_ms) if layer.average_ms > 0 else None,
            flags=("profiled", "mean"),
            where=f"{file}: {layer.name}",
        )
        for layer in trtexec_output.layers(text)
    ]
