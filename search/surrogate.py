"""A Gaussian process over groups of features: what a quantity is worth where nobody asked, and how sure that is.

One squared-exponential kernel for each group, added up, so that a group which tells nothing fades by its weight.
Weights, lengths and noise are the most probable ones, under weak priors (Rasmussen and Williams, 2006, §5.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_solve, cholesky
from scipy.optimize import minimize

Floats = npt.NDArray[np.float64]
# Priors, in logarithms: of a kernel's weight around 1, of a length around the median distance, of the noise's variance.
_WEIGHT_SD, _LENGTH_SD, _NOISE, _NOISE_SD = 1.5, 1.0, -5.0, 1.5
_JITTER = 1e-8
_STEPS = 15  # of the optimiser: each fit begins where the last one ended
_SAMPLE = 200  # points that tell the median distance


class Surrogate:
    """Predicts a quantity at N points from where it was asked. features: groups of (N, F), any scale.

    Points with equal features are equal; what is left between them is noise.
    """

    def __init__(self, features: Sequence[npt.ArrayLike]) -> None:
        self._scales = [_Scale.of(np.asarray(f, np.float64)) for f in features]
        self._groups = self._scaled(features)
        n = len(self._groups[0])
        some = np.unique(np.linspace(0, n - 1, min(n, _SAMPLE)).astype(int))
        lengths = [0.5 * np.log(_median(_squares(g[some], g[some]))) for g in self._groups]
        self._prior = np.array([*(v for length in lengths for v in (0.0, length)), _NOISE])
        spread = [v for _ in lengths for v in (_WEIGHT_SD, _LENGTH_SD)]
        self._spread = np.array([*spread, _NOISE_SD])
        self._theta = self._prior.copy()
        self._known = np.empty(0, np.int64)
        self._cross = np.empty((0, n))

    def fit(self, known: npt.ArrayLike, values: npt.ArrayLike, *, tune: bool = True) -> None:
        """Learn from values (k,) at the points known (k,). tune: look for better weights, lengths and noise, too."""
        known, values = np.asarray(known, np.int64), np.asarray(values, np.float64)
        self._mean, self._scale = values.mean(), values.std() or 1.0
        told = (values - self._mean) / self._scale
        if tune:
            squares = [_squares(g[known], g[known]) for g in self._groups]
            found = minimize(self._misfit, self._theta, (squares, told), "L-BFGS-B", options={"maxiter": _STEPS})
            self._theta = found.x
        fresh = (
            known if tune or not np.array_equal(known[: len(self._known)], self._known) else known[len(self._known) :]
        )
        # A row for each known point: what was asked before is not compared with all the others again.
        rows = self._kernel([_squares(g[fresh], g) for g in self._groups], self._theta)
        self._cross = rows if len(fresh) == len(known) else np.concatenate([self._cross, rows])
        self._known = known
        own = self._cross[:, known] + self._noise * np.eye(len(known))
        self._lower = cholesky(own, lower=True)
        self._pull = cho_solve((self._lower, True), told)

    def predict(self) -> tuple[Floats, Floats]:
        """Mean and standard deviation (N,) of what would be answered at every point, noise included."""
        return self._told(self._cross)

    def mean_at(self, features: Sequence[npt.ArrayLike]) -> Floats:
        """(n,) mean at other points, groups of (n, F) in the scale of the first ones."""
        mean: Floats = self._mean + self._scale * (self._cross_to(features) @ self._pull)
        return mean

    def at(self, features: Sequence[npt.ArrayLike]) -> tuple[Floats, Floats]:
        """Mean and standard deviation (n,) at other points, noise included."""
        return self._told(self._cross_to(features).T)

    def _told(self, cross: Floats) -> tuple[Floats, Floats]:
        """The same for points of this likeness (k, n) to the known ones."""
        solved = cho_solve((self._lower, True), cross)
        variance = np.exp(self._theta[:-1:2]).sum() - (cross * solved).sum(0) + self._noise
        return self._mean + self._scale * (self._pull @ cross), self._scale * np.sqrt(np.maximum(variance, self._noise))

    def _scaled(self, features: Sequence[npt.ArrayLike]) -> list[Floats]:
        return [scale(np.asarray(f, np.float64)) for scale, f in zip(self._scales, features, strict=True)]

    def _cross_to(self, features: Sequence[npt.ArrayLike]) -> Floats:
        """(n, k) likeness of other points and the known ones."""
        pairs = zip(self._scaled(features), self._groups, strict=True)
        return self._kernel([_squares(there, here[self._known]) for there, here in pairs], self._theta)

    @property
    def _noise(self) -> float:
        return float(np.exp(self._theta[-1])) + _JITTER

    @staticmethod
    def _kernel(squares: Sequence[Floats], theta: Floats) -> Floats:
        kernels = [np.exp(theta[2 * i] - 0.5 * s / np.exp(2 * theta[2 * i + 1])) for i, s in enumerate(squares)]
        total: Floats = np.sum(kernels, axis=0)
        return total

    def _misfit(self, theta: Floats, squares: Sequence[Floats], told: Floats) -> float:
        """Negative logarithm of the posterior, up to a constant."""
        own = self._kernel(squares, theta) + (np.exp(theta[-1]) + _JITTER) * np.eye(len(told))
        try:
            lower = cholesky(own, lower=True)
        except np.linalg.LinAlgError:
            return 1e10
        fit = 0.5 * told @ cho_solve((lower, True), told) + np.log(np.diag(lower)).sum()
        return float(fit + 0.5 * (((theta - self._prior) / self._spread) ** 2).sum())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Scale:
    """Makes features that vary have deviation 1, divided so that a group's distances do not grow with its size."""

    varying: npt.NDArray[np.bool_]
    mean: Floats
    divisor: Floats

    @classmethod
    def of(cls, features: Floats) -> _Scale:
        deviation = features.std(0)
        varying = deviation > 0
        divisor = deviation[varying] * np.sqrt(max(int(varying.sum()), 1))
        return cls(varying=varying, mean=features.mean(0)[varying], divisor=divisor)

    def __call__(self, features: Floats) -> Floats:
        if not self.varying.any():
            return np.zeros((len(features), 1))
        scaled: Floats = (features[:, self.varying] - self.mean) / self.divisor
        return scaled


def _squares(a: Floats, b: Floats) -> Floats:
    """(n, m) squared distances of (n, F) and (m, F)."""
    squares: Floats = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T, 0)
    return squares


def _median(squares: Floats) -> float:
    positive = squares[squares > 1e-12]
    return float(np.median(positive)) if len(positive) else 1.0
