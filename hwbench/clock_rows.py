"""Clock models of a whole table: how they stand in `.clocks.csv`, and what they say where there are no rows."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from hwbench.clock_model import FORMS, ClockModel, can_fit, coefficients, fit_energy, fit_latency, predict
from hwbench.errors import ConfigError
from hwbench.measurement import Cell
from hwbench.row import METRICS, Row, csv_text, order
from hwbench.setting import Clocks, Setting

COLUMNS = ["block_key", "unit", "precision", "batch", "threads", "metric", "form", "params", "points", "mape_percent"]

# By metric, and the cell with those clocks only that have no number: a model is of one power mode.
ClockModels = Mapping[tuple[str, Cell], ClockModel]


def modes_only(setting: Setting) -> Setting:
    """The setting with the clocks that a model cannot go between, modes without a number."""
    return replace(setting, clocks=tuple((name, value) for name, value in setting.clocks if isinstance(value, str)))


def fit(
    rows: Mapping[Cell, Row], *, metrics: Sequence[str] = METRICS, errors: bool = True
) -> dict[tuple[str, Cell], ClockModel]:
    """A model of every metric of every block that was measured at enough operating points.

    metrics: an energy needs the latencies before it.
    errors: also predict each point from the others, which takes as long again; without it `mape_percent` is NaN.
    """
    found: dict[tuple[str, Cell], ClockModel] = {}
    for metric in metrics:
        for (base, points), keys in _alike(rows, metric).items():
            settings = [replace(base, clocks=point) for point in points]
            values = np.array([[_value(rows, metric, key, setting) for setting in settings] for key in keys])
            cells = [Cell(block_key=key, setting=base) for key in keys]
            if metric == "latency_ms":
                models = fit_latency(points, values, errors=errors)
            else:
                latency = [found.get(("latency_ms", cell)) for cell in cells]
                known = [k for k, model in enumerate(latency) if model is not None and _spans(model, points)]
                cells, values = [cells[k] for k in known], values[known]
                models = fit_energy(points, values, [m for k in known if (m := latency[k])], errors=errors)
            found.update({(metric, cell): model for cell, model in zip(cells, models, strict=True)})
    return found


def answer(models: ClockModels, metric: str, keys: Sequence[str], settings: Sequence[Setting]) -> np.ndarray:
    """(P, K) what the models say; NaN where there is none, or where it was not fitted so far."""
    found = np.full((len(settings), len(keys)), np.nan)
    bases: dict[Setting, list[int]] = {}
    for p, setting in enumerate(settings):
        bases.setdefault(modes_only(setting), []).append(p)
    for base, members in bases.items():
        told = [(k, models.get((metric, Cell(block_key=key, setting=base)))) for k, key in enumerate(keys)]
        known = [(k, model) for k, model in told if model is not None]
        if known:
            values = predict([model for _, model in known], [settings[p].clocks for p in members])
            found[np.ix_(members, [k for k, _ in known])] = values
    return found


def write(models: ClockModels) -> str:
    """The CSV text, sorted; coefficients, fitted range (`low.`, `high.`) and modes (`at.`) stand in `params`."""
    ordered = sorted(models.items(), key=lambda m: (m[0][1].block_key, order(m[0][1].setting), m[0][0]))
    return csv_text(COLUMNS, [_cells(cell, model) for (_, cell), model in ordered])


def read(file: str, text: str) -> dict[tuple[str, Cell], ClockModel]:
    """Models from a CSV text; raises ConfigError naming `file` and the line."""
    lines = list(csv.reader(io.StringIO(text)))
    if not lines or lines[0] != COLUMNS:
        got = ",".join(lines[0]) if lines else "an empty file"
        raise ConfigError(f"{file}: the first line must name the columns {','.join(COLUMNS)}; found {got}")
    found: dict[tuple[str, Cell], ClockModel] = {}
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(COLUMNS):
            raise ConfigError(f"{file}:{number}: {len(line)} columns, expected {len(COLUMNS)}; is the file cut short?")
        try:
            cell, model = _model(dict(zip(COLUMNS, line, strict=True)))
        except (ValueError, ConfigError) as error:
            raise ConfigError(f"{file}:{number}: {error}") from error
        if (model.metric, cell) in found:
            raise ConfigError(f"{file}:{number}: {cell.block_key} [{cell.setting}] {model.metric} is there twice")
        found[model.metric, cell] = model
    return found


def mean_error(models: ClockModels, metric: str) -> float:
    """Mean of the models' errors on points left out, in percent; NaN where none has one."""
    told = [m.mape_percent for (of, _), m in models.items() if of == metric and not math.isnan(m.mape_percent)]
    return float(np.mean(told)) if told else math.nan


def _alike(rows: Mapping[Cell, Row], metric: str) -> dict[tuple[Setting, tuple[Clocks, ...]], list[str]]:
    """Block keys by setting and by the operating points at which they were measured, where those suffice."""
    points: dict[tuple[str, Setting], list[Clocks]] = {}
    for cell, row in rows.items():
        if cell.setting.clocks and row.metric(metric) is not None:
            points.setdefault((cell.block_key, modes_only(cell.setting)), []).append(cell.setting.clocks)
    alike: dict[tuple[Setting, tuple[Clocks, ...]], list[str]] = {}
    for (key, base), measured in points.items():
        alike.setdefault((base, tuple(sorted(measured, key=str))), []).append(key)
    return {group: keys for group, keys in alike.items() if can_fit(group[1])}


def _spans(latency: ClockModel, points: Sequence[Clocks]) -> bool:
    """Whether a latency model covers these points, and they move all of its clocks."""
    moved = {name for point in points for name, value in point if value != dict(points[0])[name]}
    return set(latency.moving) == moved and all(latency.covers(point) for point in points)


def _value(rows: Mapping[Cell, Row], metric: str, key: str, setting: Setting) -> float:
    found = rows[Cell(block_key=key, setting=setting)].metric(metric)
    return math.nan if found is None else found[0].value


def _cells(cell: Cell, model: ClockModel) -> list[str]:
    setting = cell.setting
    params = [f"{name}={_text(value)}" for name, value in model.params.items()]
    for name, (low, high) in model.valid.items():
        params += [f"low.{name}={_text(low)}", f"high.{name}={_text(high)}"]
    params += [f"at.{name}={value}" for name, value in model.fixed.items()]
    return [
        cell.block_key,
        setting.unit,
        setting.precision,
        str(setting.batch),
        "" if setting.threads is None else str(setting.threads),
        model.metric,
        model.form,
        ";".join(params),
        str(model.points),
        "" if math.isnan(model.mape_percent) else _text(model.mape_percent),
    ]


def _model(cells: Mapping[str, str]) -> tuple[Cell, ClockModel]:
    metric = cells["metric"]
    if FORMS.get(metric) != cells["form"]:
        raise ConfigError(f"no form {cells['form']!r} of {metric!r} (known: {FORMS})")
    numbers, fixed = _params(cells["params"])
    low = {name.removeprefix("low."): v for name, v in numbers.items() if name.startswith("low.")}
    high = {name.removeprefix("high."): v for name, v in numbers.items() if name.startswith("high.")}
    if not low or low.keys() != high.keys() or any(not 0 < low[name] <= high[name] for name in low):
        raise ConfigError("params must give low. and high. of each clock, in MHz")
    model = ClockModel(
        metric=metric,
        params={n: v for n, v in numbers.items() if not n.startswith(("low.", "high."))},
        valid={name: (low[name], high[name]) for name in sorted(low)},
        fixed=dict(sorted(fixed.items())),
        points=int(cells["points"]),
        mape_percent=float(cells["mape_percent"]) if cells["mape_percent"] else math.nan,
    )
    if sorted(model.params) != sorted(coefficients(metric, model.moving)):
        raise ConfigError(f"params of {metric} must be {', '.join(coefficients(metric, model.moving))}")
    setting = Setting(
        unit=cells["unit"],
        precision=cells["precision"],
        batch=int(cells["batch"]),
        threads=int(cells["threads"]) if cells["threads"] else None,
        clocks=tuple(model.fixed.items()),
    )
    return Cell(block_key=cells["block_key"], setting=setting), model


def _params(text: str) -> tuple[dict[str, float], dict[str, str]]:
    """Numbers and modes of `a=1;low.gpu=114.75;at.mode=MAXN`."""
    numbers: dict[str, float] = {}
    fixed: dict[str, str] = {}
    for part in text.split(";"):
        name, equals, value = part.partition("=")
        if not equals or not name or name in numbers:
            raise ConfigError(f"params: {part!r} is not a new NAME=VALUE")
        if name.startswith("at."):
            fixed[name.removeprefix("at.")] = value
            continue
        numbers[name] = float(value)
        if not math.isfinite(numbers[name]) or numbers[name] < 0:
            raise ConfigError(f"params: {name} is {value}; a coefficient is a finite number from 0 on")
    return numbers, fixed


def _text(value: float) -> str:
    return f"{value:.6g}"
