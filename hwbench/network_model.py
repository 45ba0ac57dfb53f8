"""What was found in whole networks of one board, and what it predicts of others: value, interval, whether they run.

A model may lean on models of other boards: what those predict is counted like one more operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hwbench.composition import Range
from hwbench.counts import Counts
from hwbench.decoder import Decoded, decoder
from hwbench.evidence import Evidence
from hwbench.judged import Judged
from hwbench.kernels import Kernels
from hwbench.variance_components import Process

_FLOOR = 0.3  # of the median: below it an error counts as if the network cost this much, since tiny ones cost nothing
_BEYOND = 0.1  # share by which a prediction may lie outside of what was measured


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Source:
    """A model of another board. origin: in words, where the measurements come from that it was fitted on."""

    name: str
    model: NetworkModel
    origin: str = ""

    @property
    def op(self) -> str:
        """What its predictions are counted as; no decoder's operation has a blank in its name."""
        return f"like {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What a model of another board gained, on networks left out: the error of the counts without it and with it."""

    name: str
    without: Judged
    beside: Judged
    kept: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NetworkModel:
    """One metric of one family on one board.

    constant: cost of networks of which nothing is executed, where these are apart; None = they are not.
    runs: tells what can run; None = all that was tried did.  runs_right: share told right of networks left out.
    sources: models of other boards whose predictions are counted, too.  tried: what each that was given gained.
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
    sources: tuple[Source, ...] = ()
    tried: tuple[Tried, ...] = ()

    def predict(self, archs: Sequence[str]) -> Predicted:
        """Of architectures by name; nothing is raised for those that it does not know, `known` says which they are."""
        networks = decoder(self.family)(archs)
        told = [s.model.predict(archs) for s in self.sources]
        value = self.value(beside(networks, self.sources, [t.value for t in told]))
        half = self.width * size(value, float(np.nanmedian(self.measured)))
        low, high = self.valid.low, self.valid.high
        inside = (value >= low * (1 - _BEYOND)) & (value <= high * (1 + _BEYOND))
        used = networks.readings[0].counts > 0
        return Predicted(
            value=np.maximum(value, low),
            low=np.maximum(value - half, 0.0),
            high=value + half,
            runs=np.ones(len(value), dtype=bool) if self.runs is None else self.runs(networks) > 0,
            known=np.all([inside, ~(used & ~self.seen).any(axis=1), *(t.known for t in told)], axis=0),
        )

    def value(self, networks: Decoded) -> np.ndarray:
        """(n,) of networks with what the sources predict beside their operations, without bounds."""
        reading = next(r for r in networks.readings if r.name == self.counts.reading)
        value = self.counts.predict(reading)
        if self.correction is not None:
            value = value + self.correction(networks)
        return value if self.constant is None else np.where(networks.apart(reading), self.constant, value)


def size(value: np.ndarray, median: float) -> np.ndarray:
    """What an error is measured by: the square root of a network's share of the median, times the median."""
    return np.asarray(median * np.sqrt(np.maximum(value / median, _FLOOR)))


def beside(networks: Decoded, sources: Sequence[Source], told: Sequence[np.ndarray]) -> Decoded:
    """Networks of which what other boards' models told, (n,) of each source, is counted like an operation."""
    if not sources:
        return networks
    ops, columns = tuple(s.op for s in sources), np.stack(told, axis=1)
    readings = (replace(r, ops=(*r.ops, *ops), counts=np.hstack([r.counts, columns])) for r in networks.readings)
    return replace(networks, readings=tuple(readings))
