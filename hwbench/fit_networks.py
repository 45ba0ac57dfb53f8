"""A composition from whole networks alone, for boards where blocks cannot be measured one by one.

First the counts of operations, in the reading of the architectures that predicts networks left out best; then a
correction, a Gaussian process over all readings, if and only if it predicts networks left out clearly better. Intervals
are conformal: as wide as the errors on networks left out. Networks unlike those measured are refused, and where some
could not be measured at all, a classifier tells which others cannot run either.

With models of other boards ten networks are enough: what each of those predicts is tried as one more operation, and
kept where networks left out are predicted clearly better. How far predictions may reach beyond so few measurements is
then told by the networks that the other boards ran.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hwbench import statistics
from hwbench.choice import CLEARLY, Known, choose, chosen_left_out
from hwbench.composition import Range
from hwbench.counts import Counts
from hwbench.decoder import Decoded, decoder
from hwbench.errors import ConfigError
from hwbench.evidence import join
from hwbench.judged import Judged
from hwbench.kernels import Kernels, part
from hwbench.network_model import Correction, NetworkModel, Source, beside, size
from hwbench.networks_file import Networks
from hwbench.variance_components import learn, solve

MINIMUM_NETWORKS = 30  # fewer leave nothing to judge the fit by
MINIMUM_BESIDE_OTHERS = 10  # where models of other boards tell how far it reaches
_LEARN_ON = 600  # weights of kernels settle with so many networks; learning them takes their number cubed
_EXACT = 1e-9  # nothing is left to correct where networks are sums to rounding
_ENOUGH_CONSTANT = 3  # of those whose output does not depend on the input, to tell their median
_COVERED = 0.95
_FEWEST_JUDGES = 2
_FEWEST_FAILED = 5


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


def fit_networks(networks: Networks, metric: str, sources: Sequence[Source] = ()) -> NetworkModel:
    """Fit one metric, with models of other boards where there are some; ConfigError with too few networks."""
    value = networks.values[metric]
    ran = np.isfinite(value)
    _enough(networks, metric, int(ran.sum()), sources)
    everything = decoder(networks.family)(networks.archs)
    decoded, measured = part(everything, ran), value[ran]
    median = float(np.median(measured))
    known = Known(
        decoded=decoded,
        measured=measured,
        sizes=size(measured, median),
        sources=tuple(sources),
        told={s.name: s.model.predict(networks.archs).value[ran] for s in sources},
    )
    choice, few = choose(known), ran.sum() < MINIMUM_NETWORKS
    counts, left_out = choice.fit(known), chosen_left_out(known) if few else choice.left_out
    counts_error = Judged.left_out(left_out, measured)
    correction: Correction | None = None
    if not few and known.off(left_out) > _EXACT:
        counted = counts.predict(choice.reading)
        tried, corrected = _correct(decoded, measured - counted, known.sizes, median)
        if known.off(counted + corrected) < CLEARLY * known.off(left_out):
            correction, left_out = tried, counted + corrected
    constant, left_out = _constant(decoded.apart(choice.reading), measured, left_out)
    runs, right = _runs(everything, ran)
    off = np.abs(left_out - measured) / size(left_out, median)
    model = NetworkModel(
        family=networks.family,
        metric=metric,
        archs=networks.archs,
        measured=value,
        counts=counts,
        counts_error=counts_error,
        correction=correction,
        constant=constant,
        runs=runs,
        runs_right=right,
        error=Judged.left_out(left_out, measured),
        width=max(_conformal(off), _student(off, counts)) if few else _conformal(off),
        valid=Range(low=float(measured.min()), high=float(measured.max())),
        seen=np.asarray((everything.readings[0].counts[ran] > 0).any(axis=0)),
        evidence=join(networks.evidence, *(s.model.evidence for s in choice.used), mixed=True),
        sources=choice.used,
        tried=choice.tried,
    )
    return _reaching(model, sources)


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


def _enough(networks: Networks, metric: str, count: int, sources: Sequence[Source]) -> None:
    minimum = MINIMUM_BESIDE_OTHERS if sources else MINIMUM_NETWORKS
    if count < minimum:
        how = "" if sources else f", or {MINIMUM_BESIDE_OTHERS} and --from a fit of another board"
        raise ConfigError(f"{metric}: {count} networks with a value, a fit needs {minimum}{how}")
    for source in sources:
        if source.model.family != networks.family:
            raise ConfigError(f"{source.name} is of {source.model.family}, the networks are {networks.family}")
        told = dict(zip(source.model.archs, source.model.measured.tolist(), strict=True))
        both = [(told.get(a, np.nan), v) for a, v in zip(networks.archs, networks.values[metric].tolist(), strict=True)]
        same = [one == other for one, other in both if np.isfinite(one) and np.isfinite(other)]
        if len(same) >= _FEWEST_JUDGES and all(same):
            raise ConfigError(
                f"{source.name} was fitted to the same measurements of {metric}: it knows what it is asked"
            )


def _reaching(model: NetworkModel, sources: Sequence[Source]) -> NetworkModel:
    """The same, valid for what it predicts of networks that the other boards ran."""
    ran = (zip(s.model.archs, np.isfinite(s.model.measured).tolist(), strict=True) for s in sources)
    archs = sorted({arch for board in ran for arch, did in board if did})
    if not archs:
        return model
    told = [s.model.predict(archs).value for s in model.sources]
    value = model.value(beside(decoder(model.family)(archs), model.sources, told))
    low, high = min(model.valid.low, float(value.min())), max(model.valid.high, float(value.max()))
    return replace(model, valid=Range(low=max(low, 0.0), high=high))


def _correct(decoded: Decoded, rest: np.ndarray, size: np.ndarray, unit: float) -> tuple[Correction, np.ndarray]:
    """What the counts leave, learnt; and (n,) what is predicted for each network by the others."""
    kernels = Kernels(decoded)
    base = (size / unit) ** 2
    some = np.random.default_rng(0).permutation(len(rest))[:_LEARN_ON]
    learnt = learn(kernels.each(some), rest[some] / unit, base[some])
    process = solve(kernels.total(learnt.weights), learnt, rest / unit, base)
    return Correction(kernels=kernels, process=process, unit=unit), process.left_out * unit


def _constant(apart: np.ndarray, measured: np.ndarray, left_out: np.ndarray) -> tuple[float | None, np.ndarray]:
    """The median of the networks that are apart (n,), where it tells each of them better than the model does."""
    which = np.flatnonzero(apart)
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


def _conformal(off: np.ndarray) -> float:
    rank = min(int(np.ceil((len(off) + 1) * _COVERED)), len(off))
    return float(np.sort(off)[rank - 1])


def _student(off: np.ndarray, counts: Counts) -> float:
    """The same for normal errors: below 19 networks no order statistic reaches 95 %."""
    found = (counts.base > 0) + sum(cost > 0 for cost in counts.cost.values())
    return float(np.sqrt(np.mean(off**2))) * statistics.t_quantile((1 + _COVERED) / 2, max(len(off) - found, 1))
