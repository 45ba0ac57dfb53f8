"""Which candidate to ask next: a surrogate of the value, and the expected improvement of the hypervolume.

Costs are known for all candidates, so all that is uncertain is the value, which is dear to ask.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np

from search.improvement import Floats, expected_improvement
from search.surrogate import Surrogate

_FIRST = 12  # asked before anything is predicted, one in each stretch of the costs
_TUNE_EVERY = 8
_MARGIN = 0.1  # of the range of costs, beyond the dearest candidate, so that the dearest counts, too
# How far below what is wanted a value still tells something, in units of the distance from there to the best.
_DEPTH = 0.75

Asking = Generator[int, float, None]


def blind(cost: Floats, rng: np.random.Generator) -> Asking:
    """All candidates in random order."""
    for one in rng.permutation(len(cost)):
        yield int(one)


def guided(cost: Floats, features: Sequence[np.ndarray], at_least: float | None, rng: np.random.Generator) -> Asking:
    """Yields candidates (indices into cost), is sent the value of each; never ends before all are asked.

    cost: (N,).  features: groups of (N, F) that tell the value.  at_least: smaller values are worth nothing.
    """
    if not len(cost):
        return
    asked: list[int] = []
    values: list[float] = []
    for stretch in np.array_split(np.argsort(cost, kind="stable"), min(_FIRST, len(cost))):
        asked.append(int(rng.choice(stretch)))
        values.append((yield asked[-1]))

    # Candidates that compute the same are predicted the same.
    _, first, same = np.unique(np.concatenate(features, 1), axis=0, return_index=True, return_inverse=True)
    same = same.reshape(-1)
    surrogate = Surrogate([f[first] for f in features])
    dearest = float(cost.max() + _MARGIN * (cost.max() - cost.min()))
    left = np.ones(len(cost), bool)
    left[asked] = False
    while left.any():
        told = np.array(values)
        worst = _floor(told, at_least)
        # What is far too small only tells that it is: its size would bend the prediction of the best.
        tune = (len(asked) - _FIRST) % _TUNE_EVERY == 0
        surrogate.fit(same[asked], np.maximum(told, worst), tune=tune)
        mean, deviation = surrogate.predict()
        rest = np.flatnonzero(left)
        corner = (dearest, worst if at_least is None else at_least)
        gain = expected_improvement(cost[rest], mean[same[rest]], deviation[same[rest]], (cost[asked], told), corner)
        asked.append(int(rest[gain.argmax()]))
        left[asked[-1]] = False
        values.append((yield asked[-1]))


def _floor(values: Floats, at_least: float | None) -> float:
    best = float(values.max())
    wanted = float(np.median(values)) if at_least is None else at_least
    # While nothing keeps the limit, the limit itself says nothing yet.
    return wanted - _DEPTH * (best - wanted) if best > wanted else float(values.min())
