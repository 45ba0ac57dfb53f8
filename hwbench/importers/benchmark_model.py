"""What TensorFlow Lite's `benchmark_model` printed; a line may begin with the board's uptime, as our recordings do."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from hwbench import benchmark_model
from hwbench.errors import ConfigError, PermanentDeviceError
from hwbench.importer import Entry, Given, Imported, Importer, text_of
from hwbench.measurement import Interval

_STAMPED = re.compile(r"\d+\.\d\d ")
# Between invented stamps any duration fits: what a user's log does not tell cannot contradict it.
_APART_S = 1_000_000


class Options(BaseModel):
    """None."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _BenchmarkModel:
    def read(self, file: Path, given: Given) -> Imported:
        text = text_of(file)
        stamped = bool(_STAMPED.match(text))
        if not stamped:
            lines = [f"{i * _APART_S}.00 {line}" for i, line in enumerate(text.splitlines()) if line]
            text = "\n".join([*lines, f"{(len(text) + 1) * _APART_S}.00 exit 0", ""])
        try:
            report = benchmark_model.parse(text)
        except PermanentDeviceError as error:
            raise ConfigError(f"{file}: {error}") from error
        figures = report.runs.figures
        typical = figures.median_us if figures.median_us is not None else figures.mean_us
        flags = ("summary_only",) + (() if figures.median_us is not None else ("mean",))
        partly = any(d.share != "completely" for d in report.delegations)
        entry = Entry(
            key=given.name,
            kind="network",
            setting=given.setting,
            latency_ms=Interval(value=typical / 1e3),
            runs=figures.count,
            flags=(*flags, "partly_on_cpu") if partly else flags,
            where=str(file),
        )
        return Imported(
            entries=(entry,),
            told={"runtime": "litert", "model": Path(report.model).name},
            missing=("machine", "runtime_version", "clocks", *(() if stamped else ("exit_status",))),
        )


def open(options: Options) -> Importer:
    """Nothing is opened before the file is read."""
    return _BenchmarkModel()
