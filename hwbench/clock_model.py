"""What a block costs between the measured clocks: latency as a smooth maximum, power as static + Σ k · f · V².

Computing and moving data overlap, so a block takes about as long as the slower of the two, and near their balance a
little more: over clocks f

    latency = (Σ_j (a_j / f_j)^p)^(1/p) + c

(with one clock a / f + c). A run's energy is paid for time and for work. What switches pays for its supply voltage too,
which rises with the clock; with F = f / (highest fitted f) and V² = F^v for each clock,

    energy = latency · (static + Σ_j k_j · F_j · V_j²) + work + Σ_j w_j · V_j²

k is what a clock draws as long as it runs; `work` what a run costs at any clock (bytes fetched), w the part of it that
falls with the voltage. Without the terms of work the model errs three times as much on a board's real rails: what a
stalled processor does not do, it does not pay. A power of F fits a voltage that is flat below some clock, as real ones
are, better than a line does.

Both laws are fitted by least squares of the relative error, all blocks at once, with weak priors where points tell
little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hwbench.errors import ConfigError
from hwbench.least_squares import minimise
from hwbench.setting import Clocks

FORMS = {"latency_ms": "blend", "energy_mj": "power"}

# How far a point is off, relative, over how far a coefficient's logarithm strays from what is usual: where points tell
# anything at all they win.
_PRIOR = 0.003
_LEAST, _MOST = 1e-5, 30.0  # of a coefficient, as a share of what the fastest point costs
_DIGITS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockModel:
    """One metric of one block over the clocks of one setting.

    params: coefficients by name, in units that the metric fixes. Latency: `a.<clock>` in ms · MHz, `c` in ms, `p`.
    Energy: those of the latency it was fitted with; `static` and `k.<clock>` in mW, `work` and `w.<clock>` in mJ (k, w
    at the highest fitted clock), and the exponent `v.<clock>`.
    valid: lowest and highest fitted MHz by clock; a clock that never moved has both equal, and no coefficient.
    fixed: clocks without a number (modes), which must be the same.  points: fitted on so many.
    mape_percent: mean error on points left out one at a time, of those that lie between the others; NaN without any.
    """

    metric: str
    params: Mapping[str, float]
    valid: Mapping[str, tuple[float, float]]
    fixed: Mapping[str, str] = field(default_factory=dict)
    points: int
    mape_percent: float

    @property
    def form(self) -> str:
        """`blend` of latencies or `power`."""
        return FORMS[self.metric]

    @property
    def moving(self) -> tuple[str, ...]:
        """The clocks that it has coefficients for, sorted."""
        return tuple(sorted(name for name, (low, high) in self.valid.items() if low < high))

    def covers(self, point: Clocks) -> bool:
        """Whether the point names the same clocks, inside the fitted range."""
        told = dict(point)
        if told.keys() != self.valid.keys() | self.fixed.keys():
            return False
        if any(told[name] != value for name, value in self.fixed.items()):
            return False
        return all(_within(told[name], low, high) for name, (low, high) in self.valid.items())


def coefficients(metric: str, moving: Sequence[str]) -> list[str]:
    """Names of the params of a model over these moving clocks."""
    blend = [*(f"a.{name}" for name in moving), "c", *(["p"] if len(moving) > 1 else [])]
    power = ["static", "work", *(f"{letter}.{name}" for letter in "kwv" for name in moving)]
    return blend if metric == "latency_ms" else [*blend, *power]


def predict(models: Sequence[ClockModel], points: Sequence[Clocks]) -> np.ndarray:
    """(P, K) values of K models at P operating points; NaN where a model does not cover a point."""
    found = np.full((len(points), len(models)), np.nan)
    alike: dict[tuple[object, ...], list[int]] = {}
    for k, model in enumerate(models):
        key = (model.metric, *sorted(model.valid.items()), *sorted(model.fixed.items()))
        alike.setdefault(key, []).append(k)
    for members in alike.values():
        first = models[members[0]]
        covered = [p for p, point in enumerate(points) if first.covers(point)]
        if covered:
            found[np.ix_(covered, members)] = _values([models[k] for k in members], [points[p] for p in covered]).T
    return found


def can_fit(points: Sequence[Clocks]) -> bool:
    """Whether these operating points are enough: all name the same clocks, and are more than a latency has terms."""
    if len({tuple(name for name, _ in point) for point in points}) != 1:
        return False
    axes = _axes(points)
    return axes is not None and len(set(points)) >= len(coefficients("latency_ms", axes.moving)) + 2


def inner(points: Sequence[Clocks]) -> list[int]:
    """The points between the others: without them the range is the same, so the others could predict them."""
    axes = _axes(points)
    return [] if axes is None else _inner(axes.share)


def fit_latency(points: Sequence[Clocks], latency_ms: np.ndarray, *, errors: bool = True) -> list[ClockModel]:
    """Models of K blocks measured at the same P operating points; latency_ms: (K, P).

    errors: also predict each point from the others, which takes as long again.
    Raises ConfigError where `can_fit` says no, or a value is not a positive number.
    """
    axes, value = _checked(points, latency_ms)
    # In shares of what a block takes at its fastest, so that one prior serves a stem and a pooling.
    unit = value.min(axis=1)
    prior, low, high, starts = _blend_box(len(axes.moving))

    def blend(theta: np.ndarray, _: np.ndarray) -> np.ndarray:
        return _blend(np.exp(theta), axes.share)

    found, left_out = _fit(blend, value / unit[:, None], starts, prior, low, high, axes, errors)
    return [
        axes.model("latency_ms", _in_ms(np.exp(theta), axes, scale), error)
        for theta, scale, error in zip(found, unit.tolist(), left_out.tolist(), strict=True)
    ]


def fit_energy(
    points: Sequence[Clocks], energy_mj: np.ndarray, latency: Sequence[ClockModel], *, errors: bool = True
) -> list[ClockModel]:
    """Models of K blocks' energies, (K, P), on top of their latency models over the same clocks."""
    axes, value = _checked(points, energy_mj)
    time = predict(latency, points).T
    if time.shape != value.shape or not np.isfinite(time).all():
        raise ConfigError("a model of energy needs that of latency for each block, over the same clocks")
    each, fastest = np.arange(len(value)), time.argmin(axis=1)
    unit, slow = value[each, fastest], time[each, fastest]
    longer = time / slow[:, None]
    prior, low, high = _power_box(len(axes.moving))

    def power(theta: np.ndarray, which: np.ndarray) -> np.ndarray:
        return _power(np.exp(theta), axes.share, longer[which])

    found, left_out = _fit(power, value / unit[:, None], prior[None], prior, low, high, axes, errors)
    models = []
    for k, theta in enumerate(np.exp(found)):
        law = _in_mj(theta, axes, float(unit[k]), float(slow[k]))
        models.append(axes.model("energy_mj", {**latency[k].params, **law}, float(left_out[k])))
    return models


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Axes:
    """The clocks of P operating points. share: (P, J) of the moving ones over their highest, `top` in MHz."""

    moving: tuple[str, ...]
    share: np.ndarray
    top: np.ndarray
    valid: Mapping[str, tuple[float, float]]
    fixed: Mapping[str, str]

    def model(self, metric: str, params: Mapping[str, float], mape_percent: float) -> ClockModel:
        # Rounded as a table writes them, so that a table read back says what the fitted one said.
        told = {name: float(f"{value:.{_DIGITS}g}") for name, value in params.items()}
        return ClockModel(
            metric=metric,
            params=told,
            valid=self.valid,
            fixed=self.fixed,
            points=len(self.share),
            mape_percent=float(f"{mape_percent:.3g}"),
        )


def _axes(points: Sequence[Clocks]) -> _Axes | None:
    """The axes of points that name the same clocks; None where no number moves, or a mode does."""
    numbers: dict[str, list[float]] = {}
    modes: dict[str, set[str]] = {}
    for point in points:
        for name, value in point:
            if isinstance(value, str):
                modes.setdefault(name, set()).add(value)
            else:
                numbers.setdefault(name, []).append(value)
    moving = tuple(sorted(name for name, values in numbers.items() if min(values) < max(values)))
    if not moving or modes.keys() & numbers.keys() or any(len(values) > 1 for values in modes.values()):
        return None
    mhz = np.array([numbers[name] for name in moving]).T
    return _Axes(
        moving=moving,
        share=mhz / mhz.max(axis=0),
        top=mhz.max(axis=0),
        valid={name: (min(values), max(values)) for name, values in sorted(numbers.items())},
        fixed={name: next(iter(values)) for name, values in sorted(modes.items())},
    )


def _inner(share: np.ndarray) -> list[int]:
    found = []
    for i, point in enumerate(share):
        others = np.delete(share, i, axis=0)
        if len(others) and (others.min(axis=0) <= point).all() and (point <= others.max(axis=0)).all():
            found.append(i)
    return found


def _checked(points: Sequence[Clocks], values: np.ndarray) -> tuple[_Axes, np.ndarray]:
    axes = _axes(points) if can_fit(points) else None
    if axes is None:
        raise ConfigError(f"{len(points)} operating points are too few for a model between clocks; sweep over more")
    value = np.asarray(values, dtype=np.float64)
    if value.ndim != 2 or value.shape[1] != len(points) or not (np.isfinite(value) & (value > 0)).all():
        raise ConfigError(f"a model between clocks needs a positive number at each of {len(points)} operating points")
    return axes, value


def _blend(theta: np.ndarray, share: np.ndarray) -> np.ndarray:
    """(R, P) of (R, J a's, c, p - 1) at (P, J) clocks; a sum of powers in logarithms, as p may be large."""
    clocks = share.shape[1]
    terms = np.log(theta[:, None, :clocks]) - np.log(share)[None]
    if clocks == 1:
        return np.asarray(np.exp(terms[:, :, 0]) + theta[:, 1:2])
    p = 1 + theta[:, clocks + 1, None]
    top = terms.max(axis=2)
    inside = np.exp(p[:, :, None] * (terms - top[:, :, None])).sum(axis=2)
    return np.asarray(np.exp(top) * inside ** (1 / p) + theta[:, clocks, None])


def _power(theta: np.ndarray, share: np.ndarray, time: np.ndarray) -> np.ndarray:
    """(R, P) of (R, static, work, J k's, w's, v's) at (P, J) clocks and (R, P) latencies."""
    k, w, v = (part[:, None] for part in np.split(theta[:, 2:], 3, axis=1))
    squared_volts = np.exp(v * np.log(share))
    clocked = (k * share * squared_volts).sum(axis=2)
    return np.asarray(time * (theta[:, :1] + clocked) + theta[:, 1:2] + (w * squared_volts).sum(axis=2))


def _blend_box(clocks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Prior, bounds and starts of a latency's logarithms: heavy on each clock, nearly a sum to nearly a maximum."""
    usual = [*([0.5] * clocks), 0.02, *([3.0] if clocks > 1 else [])]
    low = np.log([*([_LEAST] * (clocks + 1)), *([0.02] if clocks > 1 else [])])
    high = np.log([*([_MOST] * (clocks + 1)), *([30.0] if clocks > 1 else [])])
    prior = np.log(usual)
    if clocks == 1:
        return prior, low, high, prior[None]
    starts = []
    for heavy in range(clocks):
        for sharp in (0.3, 2.0, 9.0):
            shares = np.full(clocks, 0.15)
            shares[heavy] = 0.85
            starts.append(np.log([*shares, 0.02, sharp]))
    return prior, low, high, np.array(starts)


def _power_box(clocks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prior and bounds of an energy's logarithms."""
    prior = np.log([0.2, 0.2, *([0.1] * 2 * clocks), *([2.0] * clocks)])
    low = np.log([*([_LEAST] * (2 + 2 * clocks)), *([0.2] * clocks)])
    high = np.log([*([_MOST] * (2 + 2 * clocks)), *([6.0] * clocks)])
    return prior, low, high


def _fit(
    law: Callable[[np.ndarray, np.ndarray], np.ndarray],
    value: np.ndarray,
    starts: np.ndarray,
    prior: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    axes: _Axes,
    errors: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Best parameters (K, q) of (K, P) values, and the mean left-out error in percent (K,)."""
    blocks, tries = len(value), len(starts)

    def solve(start: np.ndarray, block: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        def residuals(theta: np.ndarray, which: np.ndarray) -> np.ndarray:
            off = (law(theta, block[which]) / value[block[which]] - 1) * weight[which]
            return np.concatenate([off, _PRIOR * (theta - prior)], axis=1)

        return minimise(residuals, start, low, high)

    block = np.repeat(np.arange(blocks), tries)
    theta, cost = solve(np.tile(starts, (blocks, 1)), block, np.ones((blocks * tries, value.shape[1])))
    best = theta.reshape(blocks, tries, -1)[np.arange(blocks), cost.reshape(blocks, tries).argmin(axis=1)]
    left = _inner(axes.share) if errors else []
    if not left:
        return best, np.full(blocks, np.nan)
    block = np.repeat(np.arange(blocks), len(left))
    point = np.tile(left, blocks)
    weight = np.ones((len(block), value.shape[1]))
    weight[np.arange(len(block)), point] = 0.0
    # From where all points together led: the one left out moves it little, or that is its error.
    theta, _ = solve(best[block], block, weight)
    predicted = law(theta, block)[np.arange(len(block)), point]
    off = np.abs(predicted / value[block, point] - 1).reshape(blocks, len(left))
    return best, 100 * off.mean(axis=1)


def _in_ms(theta: np.ndarray, axes: _Axes, unit: float) -> dict[str, float]:
    clocks = len(axes.moving)
    params = {f"a.{name}": theta[j] * unit * axes.top[j] for j, name in enumerate(axes.moving)}
    params["c"] = theta[clocks] * unit
    if clocks > 1:
        params["p"] = 1 + theta[clocks + 1]
    return params


def _in_mj(theta: np.ndarray, axes: _Axes, unit_mj: float, slow_ms: float) -> dict[str, float]:
    unit_mw = 1e3 * unit_mj / slow_ms
    names = [
        name for name in coefficients("energy_mj", axes.moving) if name not in coefficients("latency_ms", axes.moving)
    ]
    units = [unit_mw, unit_mj, *([unit_mw] * len(axes.moving)), *([unit_mj] * len(axes.moving))]
    units += [1.0] * (len(names) - len(units))
    return {name: value * unit for name, value, unit in zip(names, theta, units, strict=True)}


def _values(models: Sequence[ClockModel], points: Sequence[Clocks]) -> np.ndarray:
    """(K, P) of models over the same clocks, at points that they cover."""
    first = models[0]
    names = first.moving
    top = np.array([first.valid[name][1] for name in names])
    share = np.array([[float(dict(point)[name]) for name in names] for point in points]) / top
    told = np.array([[m.params[n] for n in coefficients(m.metric, names)] for m in models])
    blend, power = np.split(told, [len(coefficients("latency_ms", names))], axis=1)
    blend[:, : len(names)] /= top
    if len(names) > 1:
        blend[:, -1] -= 1
    time = _blend(blend, share)
    if first.metric == "latency_ms":
        return time
    # mW over ms are uJ.
    scale = np.array([1e-3, 1.0, *([1e-3] * len(names)), *([1.0] * (2 * len(names)))])
    return _power(power * scale, share, time)


def _within(value: float | str, low: float, high: float) -> bool:
    slack = 1e-6 * high  # what six digits of a file may lose
    return not isinstance(value, str) and low - slack <= value <= high + slack
