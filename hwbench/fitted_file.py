"""The file of fitted network models, `STEM.networks.json` beside a table: plain numbers and names, nothing to execute.

Coefficients stand as a composition of form `counts` that a reader can check by hand. Of a correction the networks that
it was fitted on are kept, and their weights: reading it decodes their names again, and predictions kept beside show
whether the decoder still reads them as it did. Models of other boards that a model leans on stand inside it, whole, so
that a file needs no other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hwbench.composition import Range
from hwbench.counts import Counts
from hwbench.decoder import decoder
from hwbench.errors import ConfigError
from hwbench.evidence import Evidence
from hwbench.judged import Judged
from hwbench.kernels import Kernels, part
from hwbench.network_model import Correction, NetworkModel, Source, Tried
from hwbench.variance_components import Process

SUFFIX = ".networks.json"
SCHEMA = 2
_READ = (1, SCHEMA)  # the first knew no other boards, and one evidence for all models
_PROBES = 5  # networks whose predictions are kept
_MAX_BYTES = 1 << 28


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Judged(_Strict):
    mape: float
    rmse: float
    spearman: float | None
    kendall: float | None
    within_5: float
    within_10: float
    n: int

    @classmethod
    def of(cls, judged: Judged) -> _Judged:
        told = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(judged).items()}
        return cls.model_validate(told)

    def judged(self) -> Judged:
        return Judged(
            mape=self.mape,
            rmse=self.rmse,
            spearman=math.nan if self.spearman is None else self.spearman,
            kendall=math.nan if self.kendall is None else self.kendall,
            within_5=self.within_5,
            within_10=self.within_10,
            n=self.n,
        )


class _Composition(_Strict):
    metric: str
    form: str = "counts"
    reading: str
    base: float
    cost: dict[str, float]
    valid_low: float
    valid_high: float
    error: _Judged


class _Process(_Strict):
    weights: list[float]
    noise: float
    dual: list[float]
    unit: float


class _Tried(_Strict):
    name: str
    without: _Judged
    beside: _Judged
    kept: bool


class _Source(_Strict):
    name: str
    source: str
    archs: list[str]
    model: _Model


class _Model(_Strict):
    composition: _Composition
    measured: list[float | None]
    correction: _Process | None
    constant: float | None
    runs: _Process | None
    runs_right: float | None
    error: _Judged
    width: float
    seen: list[bool]
    probes: list[float]
    evidence: str | None = None
    sources: list[_Source] = []
    tried: list[_Tried] = []


class _File(_Strict):
    schema_: int = Field(alias="schema")
    family: str
    source: str
    created: str
    evidence: str = "predicted:measured"
    archs: list[str]
    model: list[_Model]


def write_fitted(stem: Path, models: Sequence[NetworkModel], *, source: str, created: str) -> Path:
    """Write the models of one file of networks; the path written. source: where the measurements come from."""
    file = stem.with_name(stem.name + SUFFIX)
    content = _File(
        schema=SCHEMA,
        family=models[0].family,
        source=source,
        created=created,
        evidence=str(models[0].evidence),
        archs=list(models[0].archs),
        model=[_section(m) for m in models],
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(file.name + ".part")
    temporary.write_text(json.dumps(content.model_dump(by_alias=True), indent=1, allow_nan=False), encoding="utf-8")
    temporary.replace(file)
    return file


def read_fitted(file: Path) -> tuple[NetworkModel, ...]:
    """What `write_fitted` wrote; ConfigError for anything else, or where the decoder reads names in another way now."""
    return tuple(s.model for s in read_sources(file, ""))


def read_sources(file: Path, name: str) -> tuple[Source, ...]:
    """The same as models of another board, which fits of new boards may lean on under that name."""
    content = _content(file)
    try:
        models = tuple(_model(content.family, content.archs, content.evidence, section) for section in content.model)
        told = [_probes(m) for m in models]
    except (ValueError, KeyError, IndexError, StopIteration) as error:
        raise ConfigError(f"{file}: its parts do not fit together ({error}); fit again") from error
    for section, found in zip(content.model, told, strict=True):
        if len(found) != len(section.probes) or not np.allclose(found, section.probes, rtol=1e-6):
            raise ConfigError(f"{file}: the decoder of {content.family} reads names in another way now; fit again")
    return tuple(Source(name=name, model=model, origin=content.source) for model in models)


def _content(file: Path) -> _File:
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{file}: {file.stat().st_size} bytes, more than the {_MAX_BYTES} that are read")
        raw: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: cannot be read ({error}); make it with: hwbench table fit") from error
    if not isinstance(raw, dict) or raw.get("schema") not in _READ:
        raise ConfigError(
            f"{file}: not a file of fitted networks of schema {' or '.join(map(str, _READ))}; "
            "make it with: hwbench table fit"
        )
    try:
        return _File.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{file}: {'.'.join(str(p) for p in first['loc'])}: {first['msg']}") from error


def _section(model: NetworkModel) -> _Model:
    return _Model(
        composition=_Composition(
            metric=model.metric,
            reading=model.counts.reading,
            base=model.counts.base,
            cost=dict(model.counts.cost),
            valid_low=model.valid.low,
            valid_high=model.valid.high,
            error=_Judged.of(model.counts_error),
        ),
        measured=[None if math.isnan(v) else v for v in model.measured.tolist()],
        correction=_process(model.correction),
        constant=model.constant,
        runs=_process(model.runs),
        runs_right=model.runs_right,
        error=_Judged.of(model.error),
        width=model.width,
        seen=model.seen.tolist(),
        probes=_probes(model).tolist(),
        evidence=str(model.evidence),
        sources=[
            _Source(name=s.name, source=s.origin, archs=list(s.model.archs), model=_section(s.model))
            for s in model.sources
        ],
        tried=[
            _Tried(name=t.name, without=_Judged.of(t.without), beside=_Judged.of(t.beside), kept=t.kept)
            for t in model.tried
        ],
    )


def _probes(model: NetworkModel) -> np.ndarray:
    return model.predict(model.archs[:_PROBES]).value


def _process(correction: Correction | None) -> _Process | None:
    if correction is None:
        return None
    process = correction.process
    return _Process(
        weights=process.weights.tolist(), noise=process.noise, dual=process.dual.tolist(), unit=correction.unit
    )


def _model(family: str, archs: Sequence[str], evidence: str, section: _Model) -> NetworkModel:
    measured = np.array([math.nan if v is None else v for v in section.measured])
    everything = decoder(family)(archs)
    ran = part(everything, np.isfinite(measured))
    composition = section.composition
    evidence = section.evidence or evidence
    # An operation that a decoder counts only now was none when the file was written: it cost nothing apart.
    ops = next(r for r in everything.readings if r.name == composition.reading).ops
    return NetworkModel(
        family=family,
        metric=composition.metric,
        archs=tuple(archs),
        measured=measured,
        counts=Counts(
            reading=composition.reading, base=composition.base, cost=dict.fromkeys(ops, 0.0) | composition.cost
        ),
        counts_error=composition.error.judged(),
        correction=_correction(section.correction, Kernels(ran)) if section.correction else None,
        constant=section.constant,
        runs=_correction(section.runs, Kernels(everything, signs=True)) if section.runs else None,
        runs_right=section.runs_right,
        error=section.error.judged(),
        width=section.width,
        valid=Range(low=composition.valid_low, high=composition.valid_high),
        seen=np.array(section.seen, dtype=bool),
        evidence=Evidence.parse(evidence),
        sources=tuple(
            Source(name=s.name, origin=s.source, model=_model(family, s.archs, evidence, s.model))
            for s in section.sources
        ),
        tried=tuple(
            Tried(name=t.name, without=t.without.judged(), beside=t.beside.judged(), kept=t.kept) for t in section.tried
        ),
    )


def _correction(section: _Process, kernels: Kernels) -> Correction:
    dual = np.array(section.dual)
    process = Process(
        weights=np.array(section.weights), noise=section.noise, dual=dual, left_out=np.full(len(dual), np.nan)
    )
    return Correction(kernels=kernels, process=process, unit=section.unit)
