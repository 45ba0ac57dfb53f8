"""A composition from whole networks alone, for boards where blocks cannot be measured one by one.

First the counts of operations, in the reading of the architectures that predicts networks left out best; then a
correction, a Gaussian process over all readings, if and only if it predicts networks left out clearly better. Intervals
are conformal: as wide as the errors on networks left out. Networks unlike those measured are refused, and where some
could not be measured at all, a classifier tells which others cannot run either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwbench import statistics
from hwbench.composition import Range
from hwbench.counts import Counts, counts_left_out, fit_counts
from hwbench.decoder import Decoded, decoder
from hwbench.errors import ConfigError
from hwbench.evidence import Evidence, join
from hwbench.kernels import Kernels, part
from hwbench.networks_file import Networks
from hwbench.variance_components import Process, learn, solve

MINIMUM_NETWORKS = 30  # fewer leave nothing to judge the fit by
_CLEARLY = 0.95  # the correction must bring the error on networks left out down to this share
_LEARN_ON = 600  # weights of kernels settle with so many networks; learning them takes their number cubed
_FLOOR = 0.3  # of the median: below it an error counts as if the network cost this much, since tiny ones cost nothing
_EXACT = 1e-9  # nothing is left to correct where networks are sums to rounding
_ENOUGH_CONSTANT = 3  # of those whose output does not depend on the input, to tell their median
_COVERED = 0.95
_FEWEST_JUDGES = 2
_FEWEST_FAILED = 5
_BEYOND = 0.1  # share by which a prediction may lie outside of what was measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """How well n networks were predicted; percent. within: share of networks off by at most so much."""

    mape: float
    rmse: float
    spearman: float
    kendall: float
    within_5: float
    within_10: float
    n: int

    @classmethod
    def of(cls, predicted: np.ndarray, measured: np.ndarray) -> Judged:
        """Compare (n,) predictions with (n,) measurements; rmse in the metric's unit."""
        off = np.abs(predicted - measured) / measured
        return cls(
            mape=statistics.mape(predicted, measured),
            rmse=float(np.sqrt(np.mean((predicted - measured) ** 2))),
            spearman=statistics.spearman(predicted, measured),
            kendall=kendall(predicted, measured),
            within_5=float(np.mean(off <= 0.05)),
            within_10=float(np.mean(off <= 0.10)),
            n=len(measured),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Correction:
    """A process on what the counts leave, or on whether networks run."""

    kernels: Kernels
    process: Process
    unit: float

    def __call__(self, networks: Decoded) -> np.ndarray:
        """(n,) what it adds."""
        return self.unit * self.kernels.weigh(networks, self.process.weights, self.process.dual)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predicted:
    """(n,) each. low, high: 95 % interval of value.  runs: False = cannot run.  known: False = refused."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    runs: np.ndarray
    known: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A model against networks of another file.

    error: on those in range.  covered: share inside the 95 % interval.  refused: out of range.  runs_right: share for
    which it told right whether they run; None = all do.
    """

    error: Judged
    covered: float
    refused: int
    runs_right: float | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NetworkModel:
    """One metric of one family on one board.

    constant: cost of networks whose output does not depend on the input, where these are apart; None = they are not.
    runs: tells what can run; None = all that was tried did.  runs_right: share told right of networks left out.
    counts_error, error: of the counts alone and of the model, on networks left out.  width: half of an interval over
    the size of a network.  seen: (K,) whether an operation of the first reading was in any network.
    evidence: of what it predicts, derived from that of the networks.
    """

    family: str
    metric: str
    archs: tuple[str, ...]
    measured: np.ndarray
    counts: Counts
    counts_error: Judged
    correction: Correction | None
    constant: float | None
    runs: Correction | None
    runs_right: float | None
    error: Judged
    width: float
    valid: Range
    seen: np.ndarray
    evidence: Evidence

    def predict(self, archs: Sequence[str]) -> Predicted:
        """Of architectures by name; nothing is raised for those that it does not know, `known` says which they are."""
        networks = decoder(self.family)(archs)
        value = _value(networks, self.counts, self.correction, self.constant)
        half = self.width * _size(value, float(np.nanmedian(self.measured)))
        low, high = self.valid.low, self.valid.high
        inside = (value >= low * (1 - _BEYOND)) & (value <= high * (1 + _BEYOND))
        used = networks.readings[0].counts > 0
        return Predicted(
            value=np.maximum(value, low),
            low=np.maximum(value - half, 0.0),
            high=value + half,
            runs=np.ones(len(value), dtype=bool) if self.runs is None else self.runs(networks) > 0,
            known=inside & ~(used & ~self.seen).any(axis=1),
        )


def fit_networks(networks: Networks, metric: str) -> NetworkModel:
    """Fit one metric; ConfigError with too few networks."""
    value = networks.values[metric]
    ran = np.isfinite(value)
    if ran.sum() < MINIMUM_NETWORKS:
        raise ConfigError(f"{metric}: {ran.sum()} networks with a value, a fit needs {MINIMUM_NETWORKS}")
    everything = decoder(networks.family)(networks.archs)
    decoded, measured = part(everything, ran), value[ran]
    median = float(np.median(measured))
    size = _size(measured, median)
    tried = {r.name: counts_left_out(r, measured, size) for r in decoded.readings}
    best = min(decoded.readings, key=lambda r: float(np.median(np.abs(tried[r.name] - measured) / size)))
    counts, left_out = fit_counts(best, measured, size), tried[best.name]
    judged = Judged.of(np.maximum(left_out, measured.min()), measured)
    correction: Correction | None = None
    if _off(left_out, measured, size) > _EXACT:
        tried_correction, corrected = _correct(decoded, measured - counts.predict(best), size, median)
        corrected = corrected + counts.predict(best)
        if _off(corrected, measured, size) < _CLEARLY * _off(left_out, measured, size):
            correction, left_out = tried_correction, corrected
    constant, left_out = _constant(decoded, measured, left_out)
    runs, right = _runs(everything, ran)
    return NetworkModel(
        family=networks.family,
        metric=metric,
        archs=networks.archs,
        measured=value,
        counts=counts,
        counts_error=judged,
        correction=correction,
        constant=constant,
        runs=runs,
        runs_right=right,
        error=Judged.of(np.maximum(left_out, measured.min()), measured),
        width=_conformal(np.abs(left_out - measured) / _size(left_out, median)),
        valid=Range(low=float(measured.min()), high=float(measured.max())),
        seen=np.asarray((decoded.readings[0].counts > 0).any(axis=0)),
        evidence=join(networks.evidence),
    )


def check(model: NetworkModel, networks: Networks) -> Checked:
    """Judge a model by networks that it was not fitted on; ConfigError where it predicts none of them."""
    value = networks.values.get(model.metric)
    if networks.family != model.family or value is None:
        raise ConfigError(f"the networks to validate with are {networks.family}, or have no {model.metric}")
    told, ran = model.predict(networks.archs), np.isfinite(value)
    used = ran & told.known
    if used.sum() < _FEWEST_JUDGES:
        raise ConfigError(f"{model.metric}: {used.sum()} networks to validate with have a value and are in range")
    inside = (value >= told.low) & (value <= told.high)
    return Checked(
        error=Judged.of(told.value[used], value[used]),
        covered=float(inside[used].mean()),
        refused=int((ran & ~told.known).sum()),
        runs_right=None if ran.all() and model.runs is None else float((told.runs == ran).mean()),
    )


def kendall(first: np.ndarray, second: np.ndarray) -> float:
    """Kendall's tau-b; NaN where one side is constant. Takes the square of n, in parts."""
    same, ties_a, ties_b = 0.0, 0.0, 0.0
    for i in range(len(first) - 1):
        a, b = np.sign(first[i + 1 :] - first[i]), np.sign(second[i + 1 :] - second[i])
        same, ties_a, ties_b = same + float(a @ b), ties_a + float(a @ a), ties_b + float(b @ b)
    return same / (ties_a * ties_b) ** 0.5 if ties_a and ties_b else float("nan")


def _value(networks: Decoded, counts: Counts, correction: Correction | None, constant: float | None) -> np.ndarray:
    reading = next(r for r in networks.readings if r.name == counts.reading)
    value = counts.predict(reading)
    if correction is not None:
        value = value + correction(networks)
    return value if constant is None else np.where(networks.constant, constant, value)


def _correct(decoded: Decoded, rest: np.ndarray, size: np.ndarray, unit: float) -> tuple[Correction, np.ndarray]:
    """What the counts leave, learnt; and (n,) what is predicted for each network by the others."""
    kernels = Kernels(decoded)
    base = (size / unit) ** 2
    some = np.random.default_rng(0).permutation(len(rest))[:_LEARN_ON]
    learnt = learn(kernels.each(some), rest[some] / unit, base[some])
    process = solve(kernels.total(learnt.weights), learnt, rest / unit, base)
    return Correction(kernels=kernels, process=process, unit=unit), process.left_out * unit


def _constant(decoded: Decoded, measured: np.ndarray, left_out: np.ndarray) -> tuple[float | None, np.ndarray]:
    """The median of constant networks, where it tells each of them better than the model does."""
    which = np.flatnonzero(decoded.constant)
    if len(which) < _ENOUGH_CONSTANT:
        return None, left_out
    others = np.array([np.median(np.delete(measured[which], i)) for i in range(len(which))])
    if np.median(np.abs(others - measured[which])) >= np.median(np.abs(left_out[which] - measured[which])):
        return None, left_out
    told = left_out.copy()
    told[which] = others
    return float(np.median(measured[which])), told


def _runs(everything: Decoded, ran: np.ndarray) -> tuple[Correction | None, float | None]:
    """Which networks run, as a process on +1 and −1."""
    if min(ran.sum(), (~ran).sum()) < _FEWEST_FAILED:
        return None, None
    kernels, label = Kernels(everything, signs=True), np.where(ran, 1.0, -1.0)
    base = np.ones(len(ran))
    some = np.random.default_rng(0).permutation(len(ran))[:_LEARN_ON]
    learnt = learn(kernels.each(some), label[some], base[some], freedom=None)
    process = solve(kernels.total(learnt.weights), learnt, label, base, freedom=None)
    return Correction(kernels=kernels, process=process, unit=1.0), float(np.mean((process.left_out > 0) == ran))


def _size(value: np.ndarray, median: float) -> np.ndarray:
    """What an error is measured by: the square root of a network's share of the median, times the median."""
    return np.asarray(median * np.sqrt(np.maximum(value / median, _FLOOR)))


def _off(predicted: np.ndarray, measured: np.ndarray, size: np.ndarray) -> float:
    return float(np.mean(np.abs(predicted - measured) / size))


def _conformal(off: np.ndarray) -> float:
    rank = min(int(np.ceil((len(off) + 1) * _COVERED)), len(off))
    return float(np.sort(off)[rank - 1])
