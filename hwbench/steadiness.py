"""Did the machine keep one speed while a window was open? Finds a step or a drift in the durations of its runs.

A change is reported when it is both: larger than chance makes it in one steady window of a hundred, and large enough to
matter. Chance is told from ranks, so that no outlier decides, and runs that resemble their neighbours count for less:
a processor that hops between two clocks all the time is noise, one that stays at the second is a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from hwbench.statistics import ranks

# Less than this is not worth a second window: it moves the median of the window by at most half as much.
LEAST_CHANGE = 0.025
# More pieces show nothing more; with fewer runs than the least, ranks cannot tell a step from chance.
_MOST_PIECES, _FEWEST = 100, 20
# Steps are looked for where either side holds this share of the window; what is shorter hardly moves its median.
_EDGE = 0.1
# What the statistics exceed in 1 % of steady windows, by pieces: the best of all splits, from 20,000 random orders
# each; the trend is nearly normal.
_PIECES = (20, 30, 50, 70, 100)
_STEP = (2.97, 3.11, 3.24, 3.34, 3.39)
_TREND = (2.48, 2.51, 2.53, 2.55, 2.55)
# As long as one leaves no more than this of what the other leaves unexplained, it may have been either.
_OPEN = 1.2
# Of a normal: 95 % lie above its mean less 1.645 errors; scale of the MAD; error of a rank trend and of a median slope,
# a tenth larger for not being known but estimated.
_POWER, _MAD_TO_SIGMA, _RANK_ERROR = 1.645, 1.4826, 1.13


@dataclass(frozen=True, slots=True, kw_only=True)
class Steadiness:
    """What a window's runs did.

    found: `step`, `drift`, or empty = neither was shown.  change: of the durations, relative and signed: 0.05 = slower
    by 5 % after the step, or at the end of the drift.  at: share of the window before the step; NaN where none is.
    resolves: the drift that would have been found in 95 of 100 such windows; NaN where nothing can be said.
    """

    found: str
    change: float
    at: float
    resolves: float

    @property
    def steady(self) -> bool:
        """Nothing was found."""
        return not self.found


_UNKNOWN = Steadiness(found="", change=0.0, at=math.nan, resolves=math.nan)


def steadiness(durations: ArrayLike) -> Steadiness:
    """Look for a step or a drift in (n,) durations, in the order they were taken; fewer than 20 say nothing.

    Wilcoxon's rank sum at the best split (Pettitt, Applied Statistics 28, 1979) and the trend of the ranks; both shrink
    by the long-run variance of what they leave unexplained (Newey & West, Econometrica 55, 1987).
    """
    pieces = _pieces(np.asarray(durations, dtype=np.float64).ravel())
    count = pieces.size
    if count < _FEWEST or not (pieces > 0).all():
        return _UNKNOWN
    logs = np.log(pieces)
    rank = ranks(logs)
    rank -= rank.mean()
    variance = float(rank @ rank) / (count - 1)
    if variance == 0:
        return replace(_UNKNOWN, resolves=LEAST_CHANGE)
    split, step = _best_split(rank, variance)
    late, place = np.arange(count) >= split, np.linspace(-0.5, 0.5, count)
    slope = float(place @ rank) / float(place @ place)
    trend = abs(slope) * math.sqrt(float(place @ place) / variance)
    stepped = rank - np.where(late, rank[late].mean(), rank[~late].mean())
    drifted = rank - place * slope
    is_step = float(stepped @ stepped) <= float(drifted @ drifted)
    inflation = math.sqrt(_long_run(stepped if is_step else drifted))
    bound = float(np.interp(count, _PIECES, _TREND))
    stepping = float(np.median(logs[late]) - np.median(logs[~late]))
    drifting = _drift(logs, place)
    left = logs - (stepping * late if is_step else drifting * place)
    sigma = _MAD_TO_SIGMA * float(np.median(np.abs(left - np.median(left))))
    error = _RANK_ERROR * sigma / math.sqrt(float(place @ place))
    error *= inflation
    resolves = max(LEAST_CHANGE + _POWER * error, (bound + _POWER) * error)
    none = replace(_UNKNOWN, resolves=resolves)
    if max(step / float(np.interp(count, _PIECES, _STEP)), trend / bound) < inflation:
        return none
    # Which of both it was is often open, above all in short windows; then either may be what matters.
    by_step, by_drift = float(stepped @ stepped), float(drifted @ drifted)
    sizes = [abs(stepping)] * (by_step <= _OPEN * by_drift) + [abs(drifting)] * (by_drift <= _OPEN * by_step)
    if max(sizes) < LEAST_CHANGE:
        return none
    if is_step:
        return replace(none, found="step", change=math.expm1(stepping), at=split / count)
    return replace(none, found="drift", change=math.expm1(drifting))


def _pieces(durations: np.ndarray) -> np.ndarray:
    """Medians of at most 100 consecutive pieces; all of one length, as medians of fewer skewed runs lie elsewhere."""
    length = -(-durations.size // _MOST_PIECES) or 1
    count = durations.size // length
    return np.asarray(np.median(durations[: count * length].reshape(count, length), axis=1))


def _best_split(rank: np.ndarray, variance: float) -> tuple[int, float]:
    """How many pieces come before the likeliest step, and how many standard errors the sums of ranks differ there."""
    count = rank.size
    least = max(2, round(_EDGE * count))
    splits = np.arange(least, count - least + 1)
    errors = np.sqrt(splits * (count - splits) / count * variance)
    z = np.abs(np.cumsum(rank)[splits - 1]) / errors
    best = int(z.argmax())
    return int(splits[best]), float(z[best])


def _drift(logs: np.ndarray, place: np.ndarray) -> float:
    """Change from the first to the last piece: the median slope of all pairs (Sen, JASA 63, 1968)."""
    first, second = np.triu_indices(logs.size, 1)
    return float(np.median((logs[second] - logs[first]) / (place[second] - place[first])))


def _long_run(left: np.ndarray) -> float:
    """Variance of a mean of such residuals over that of independent ones; at least 1."""
    total = float(left @ left)
    lags = max(1, int(0.5 * math.sqrt(left.size)))
    if total == 0:
        return 1.0
    weighted = sum((1 - lag / (lags + 1)) * float(left[:-lag] @ left[lag:]) for lag in range(1, lags + 1))
    return max(1.0, 1 + 2 * weighted / total)
