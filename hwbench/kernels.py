"""How alike networks are, in many ways: the kernels among which the correction of `fit_networks` chooses.

Of each reading: how many places agree (each place adds its cost), its third power and exponential (places that matter
together), and of its traits a linear and two smooth ones. Of the first reading also in how many places the kind of
operation agrees. Constants are a kernel, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from hwbench.decoder import Decoded

_CLOSE, _FAR = 1.0, 4.0  # squared reach of the smooth kernels, per trait, in standard deviations
_BATCH = 2048


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Scaled:
    """Traits of which those that vary are brought to mean 0 and deviation 1 over the networks fitted on."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, traits: np.ndarray) -> _Scaled:
        deviation = traits.std(axis=0)
        return cls(mean=traits.mean(axis=0), deviation=np.where(deviation > 0, deviation, np.inf))

    def __call__(self, traits: np.ndarray) -> np.ndarray:
        used = np.isfinite(self.deviation)
        scaled = (traits[:, used] - self.mean[used]) / self.deviation[used]
        return np.asarray(scaled / np.sqrt(max(int(used.sum()), 1)))


class Kernels:
    """The kernels between networks and those that a model was fitted on."""

    def __init__(self, fitted_on: Decoded, *, signs: bool = False) -> None:
        self._fitted_on = fitted_on
        self._signs = signs
        self._values = [int(r.places.max(initial=0)) for r in fitted_on.readings]
        self._scales = [_Scaled.of(traits) for traits in self._traits(fitted_on)]

    def each(self, which: np.ndarray) -> np.ndarray:
        """(K, m, m) among some of the networks fitted on, by index."""
        some = part(self._fitted_on, which)
        return np.stack(list(self._between(some, some)))

    def total(self, weights: np.ndarray) -> np.ndarray:
        """(n, n) their sum with these weights, among all networks fitted on."""
        return self._sum(self._fitted_on, weights)

    def weigh(self, networks: Decoded, weights: np.ndarray, dual: np.ndarray) -> np.ndarray:
        """(m,) Σ weights · kernel(networks, fitted on) · dual."""
        parts = [self._sum(some, weights) @ dual for some in batches(networks)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def _sum(self, networks: Decoded, weights: np.ndarray) -> np.ndarray:
        found = np.zeros((len(networks.constant), len(self._fitted_on.constant)))
        for weight, kernel in zip(weights, self._between(networks, self._fitted_on), strict=True):
            if weight:
                found += weight * kernel
        return found

    def _between(self, one: Decoded, other: Decoded) -> Iterator[np.ndarray]:
        shape = len(one.constant), len(other.constant)
        yield np.ones(shape)
        for mine, theirs in zip(one.readings, other.readings, strict=True):
            yield from _agreeing(mine.places, theirs.places)
        mine, theirs = one.readings[0], other.readings[0]
        if mine.kinds is not None and theirs.kinds is not None:
            yield from _agreeing(mine.kinds, theirs.kinds)
        for scale, mine_raw, theirs_raw in zip(self._scales, self._traits(one), self._traits(other), strict=True):
            a, b = scale(mine_raw), scale(theirs_raw)
            inner = a @ b.T
            distance = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * inner, 0)
            yield inner
            yield np.exp(-distance / (2 * _CLOSE))
            yield np.exp(-distance / (2 * _FAR))

    def _traits(self, networks: Decoded) -> list[np.ndarray]:
        found = [r.traits for r in networks.readings]
        found += [
            np.hstack([r.traits, _indicators(r.places, v)])
            for r, v in zip(networks.readings[:1], self._values, strict=False)
        ]
        return [*found, networks.signs] if self._signs else found


def part(networks: Decoded, which: np.ndarray | slice) -> Decoded:
    """Some of the networks."""
    return Decoded(
        readings=tuple(
            replace(
                r,
                counts=r.counts[which],
                places=r.places[which],
                traits=r.traits[which],
                kinds=None if r.kinds is None else r.kinds[which],
                executed=None if r.executed is None else r.executed.part(which),
            )
            for r in networks.readings
        ),
        constant=networks.constant[which],
        signs=networks.signs[which],
        function=tuple(f[which] for f in networks.function),
    )


def batches(networks: Decoded) -> list[Decoded]:
    """All networks in parts that fit into memory."""
    return [part(networks, slice(i, i + _BATCH)) for i in range(0, len(networks.constant), _BATCH)]


def _agreeing(one: np.ndarray, other: np.ndarray) -> Iterator[np.ndarray]:
    """(m, n) share of places in which (m, P) and (n, P) agree, its third power and its exponential."""
    agree = np.zeros((len(one), len(other)))
    for place in range(one.shape[1]):
        agree += one[:, place, None] == other[None, :, place]
    agree /= max(one.shape[1], 1)
    yield agree
    yield agree**3
    yield np.exp(_FAR * (agree - 1))


def _indicators(places: np.ndarray, largest: int) -> np.ndarray:
    """(n, P · largest) whether each value from 1 stands in each place."""
    values = np.arange(1, largest + 1)
    return np.asarray(places[:, :, None] == values, dtype=np.float64).reshape(len(places), -1)
