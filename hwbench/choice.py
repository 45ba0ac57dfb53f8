"""What to count of networks: the reading, and the models of other boards, that predict networks left out best.

Chosen by the mean error: of twenty networks the median says less, and chose a worse reading in one draw of ten. A
source is kept where that error falls clearly, and by more than luck: from twenty networks one fit in twelve would else
keep an edge board that tells the new server nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hwbench.counts import Counts, counts_left_out, fit_counts, tenths
from hwbench.decoder import Decoded, Reading
from hwbench.judged import Judged
from hwbench.kernels import part
from hwbench.network_model import Source, Tried, beside

CLEARLY = 0.95  # what is added must bring the error on networks left out down to this share
_LUCK = 1.5  # standard errors of a gain that count as none


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Known:
    """Networks that were measured. measured, sizes: (n,), sizes being what an error is measured by.

    told: by name of a source, (n,) what its board would take.
    """

    decoded: Decoded
    measured: np.ndarray
    sizes: np.ndarray
    sources: tuple[Source, ...]
    told: Mapping[str, np.ndarray]

    def part(self, which: np.ndarray) -> Known:
        """Some of the networks."""
        return Known(
            decoded=part(self.decoded, which),
            measured=self.measured[which],
            sizes=self.sizes[which],
            sources=self.sources,
            told={name: value[which] for name, value in self.told.items()},
        )

    def beside(self, sources: Sequence[Source]) -> Decoded:
        """Some sources counted like operations."""
        return beside(self.decoded, sources, [self.told[s.name] for s in sources])

    def off(self, predicted: np.ndarray) -> float:
        """The mean error."""
        return float(np.mean(self._errors(predicted)))

    def gains(self, without: np.ndarray, beside: np.ndarray) -> bool:
        """Whether one prediction is better than another by more than luck."""
        gain = self._errors(without) - self._errors(beside)
        luck = _LUCK * float(gain.std(ddof=1)) / len(gain) ** 0.5
        return self.off(beside) < CLEARLY * self.off(without) and float(gain.mean()) > luck

    def _errors(self, predicted: np.ndarray) -> np.ndarray:
        return np.asarray(np.abs(predicted - self.measured) / self.sizes)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """What to count, what it predicts for each network by the others (n,), and the sources in it."""

    reading: Reading
    left_out: np.ndarray
    used: tuple[Source, ...]
    tried: tuple[Tried, ...]

    def fit(self, known: Known) -> Counts:
        """To all networks that it was chosen on."""
        return fit_counts(self.reading, known.measured, known.sizes)


def choose(known: Known) -> Choice:
    """The best reading, and the sources that it is clearly better with: the best first, one more at a time."""
    used, left, found = list[Source](), list(known.sources), dict[str, Tried]()
    reading, without = _best(known, used)
    while left:
        tried = {s.name: _best(known, [*used, s]) for s in left}
        best = min(left, key=lambda s: known.off(tried[s.name][1]))
        kept = known.gains(without, tried[best.name][1])
        for source in left:
            found[source.name] = Tried(
                name=source.name,
                without=Judged.left_out(without, known.measured),
                beside=Judged.left_out(tried[source.name][1], known.measured),
                kept=kept and source is best,
            )
        if not kept:
            break
        reading, without = tried[best.name]
        used.append(best)
        left.remove(best)
    return Choice(
        reading=reading, left_out=without, used=tuple(used), tried=tuple(found[s.name] for s in known.sources)
    )


def chosen_left_out(known: Known) -> np.ndarray:
    """(n,) what is predicted for each network where all was chosen without it, too.

    The best of several errors flatters: of twenty networks enough to make 95 % intervals hold 93 %.
    """
    predicted = np.empty(len(known.measured))
    for out in tenths(len(known.measured)):
        some, others = known.part(~out), known.part(out)
        choice = choose(some)
        counts = choice.fit(some)
        readings = others.beside(choice.used).readings
        predicted[out] = counts.predict(next(r for r in readings if r.name == counts.reading))
    return predicted


def _best(known: Known, sources: Sequence[Source]) -> tuple[Reading, np.ndarray]:
    """The reading whose counts predict networks left out best, and what they predict."""
    readings = _ways(known, sources)
    left_out = [counts_left_out(r, known.measured, known.sizes) for r in readings]
    best = min(range(len(readings)), key=lambda i: known.off(left_out[i]))
    return readings[best], left_out[best]


def _ways(known: Known, sources: Sequence[Source]) -> Sequence[Reading]:
    """What may be counted: the operations in each reading and what the sources told, or the latter alone.

    The same board at another clock needs no operation, and twenty networks could tell what none of them costs.
    """
    readings = known.beside(sources).readings
    if not sources:
        return readings
    ops = {s.op for s in sources}
    only = readings[0].counts * [op in ops for op in readings[0].ops]
    return *readings, replace(readings[0], counts=only)
