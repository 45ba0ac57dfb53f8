"""The `.toml` beside a table's rows: where they come from, what ran them, how they add up, what was noticed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hwbench.composition import Composition, Error, Range
from hwbench.errors import ConfigError
from hwbench.setting import Setting, parse_clocks
from hwbench.target import Calibration

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the older interpreter
    import tomli as tomllib

SCHEMA = 1


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Origin(_Strict):
    """Where and when the rows were made."""

    schema_: int = Field(alias="schema", default=SCHEMA)
    target: str
    backend: str
    space: str
    boards: list[str]
    created: str
    commit: str = ""
    command: str = ""


class RuntimeSection(_Strict):
    """The runtime that ran the rows; tables of two runtimes do not merge."""

    name: str
    version: str


class CompositionSection(_Strict):
    """A Composition as TOML."""

    metric: str
    unit: str
    precision: str
    batch: int
    threads: int | None = None
    clocks: str | None = None
    form: str = "sum"
    call: float
    scale: float
    layout: float = 0.0
    alone: float | None = None
    factor: dict[str, float] = {}
    fitted_on: int
    mape_percent: float
    bias_percent: float
    spearman: float
    n: int
    valid_low: float
    valid_high: float


class BetweenSection(_Strict):
    """Error on whole networks at operating points left out, rows and composition both from the other points."""

    metric: str
    unit: str
    precision: str
    batch: int
    threads: int | None = None
    mape_percent: float
    bias_percent: float
    spearman: float
    n: int

    @property
    def setting(self) -> Setting:
        """The setting, without clocks."""
        return Setting(unit=self.unit, precision=self.precision, batch=self.batch, threads=self.threads)

    @property
    def error(self) -> Error:
        """As a composition has it."""
        return Error(mape_percent=self.mape_percent, bias_percent=self.bias_percent, spearman=self.spearman, n=self.n)


class CalibrationSection(Calibration):
    """What one unit and precision of a simulated board was fitted to, and with what error."""

    unit: str
    precision: str
    threads: int | None = None

    def tells(self, setting: Setting) -> bool:
        """Whether these are the parameters of a setting."""
        return (self.unit, self.precision, self.threads) == (setting.unit, setting.precision, setting.threads)


class ClockSection(_Strict):
    """How long a clock takes to switch."""

    name: str
    switch_ms: float


class SessionSection(_Strict):
    """What was noticed of one session: how quiet it was, drift of the control workload, temperatures.

    grade: see `hwbench.noise`; the figures that it was given for follow it.
    """

    session: int
    grade: str | None = None
    control_percent: float | None = None
    steal_percent: float | None = None
    others_percent: float | None = None
    switches_per_s: float | None = None
    unsteady_percent: float | None = None
    steal_ms: float | None = None
    drift_percent: float | None = None
    temps_c: dict[str, float] = {}
    flags: list[str] = []


class TableFile(_Strict):
    """All of it."""

    table: Origin
    source: dict[str, str]
    runtime: RuntimeSection
    composition: list[CompositionSection] = []
    between: list[BetweenSection] = []
    calibration: list[CalibrationSection] = []
    clock: list[ClockSection] = []
    session: list[SessionSection] = []
    returned: dict[str, int] = {}
    # Of tables that `table import` made: the file they come from, who published it, its licence, what it does not tell.
    imported: dict[str, str] = {}

    def text(self) -> str:
        """The TOML text; what is empty or unknown is left out where older tables had no such key."""
        told = self.model_dump(by_alias=True, exclude_none=True)
        for added in ("between", "calibration", "imported"):
            if not told[added]:
                del told[added]
        return tomli_w.dumps(told)


def read_table_file(file: Path, text: str) -> TableFile:
    """The file's content; raises ConfigError naming it and the key that is wrong."""
    try:
        raw: dict[str, Any] = tomllib.loads(text)
        schema = raw.get("table", {}).get("schema")
        if schema != SCHEMA:
            later = isinstance(schema, int) and schema > SCHEMA
            hint = "; a later hwbench wrote it: pip install --upgrade hwbench-nas" if later else ""
            raise ConfigError(f"{file}: schema {schema!r}, this version reads {SCHEMA}{hint}")
        return TableFile.model_validate(raw)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{file}: {'.'.join(str(p) for p in first['loc'])}: {first['msg']}") from error


def section_of(composition: Composition) -> CompositionSection:
    """A composition as the file has it."""
    setting, error = composition.setting, composition.error
    return CompositionSection(
        metric=composition.metric,
        unit=setting.unit,
        precision=setting.precision,
        batch=setting.batch,
        threads=setting.threads,
        clocks=setting.clocks_text or None,
        call=composition.call,
        scale=composition.scale,
        layout=composition.layout,
        alone=composition.alone,
        factor=dict(composition.factor),
        fitted_on=composition.fitted_on,
        mape_percent=error.mape_percent,
        bias_percent=error.bias_percent,
        spearman=error.spearman,
        n=error.n,
        valid_low=composition.valid.low,
        valid_high=composition.valid.high,
    )


def composition_of(section: CompositionSection) -> Composition:
    """What `section_of` wrote."""
    return Composition(
        metric=section.metric,
        setting=Setting(
            unit=section.unit,
            precision=section.precision,
            batch=section.batch,
            threads=section.threads,
            clocks=parse_clocks(section.clocks or ""),
        ),
        call=section.call,
        scale=section.scale,
        layout=section.layout,
        alone=section.alone,
        factor=section.factor,
        error=Error(
            mape_percent=section.mape_percent,
            bias_percent=section.bias_percent,
            spearman=section.spearman,
            n=section.n,
        ),
        valid=Range(low=section.valid_low, high=section.valid_high),
        fitted_on=section.fitted_on,
    )
