"""A Gaussian process whose covariance is a sum of given kernels, each with a weight learnt from the data; numpy only.

The weights maximise the likelihood by the multiplicative rule of Zhou, Hu, Qiao & Sun (MM algorithms for variance
components models, J. Comput. Graph. Stat. 28, 2019): it needs no step size and leaves the weight of a kernel that
explains nothing near 0, so kernels compete and nothing is chosen by hand. Residuals follow Student's t (as a normal
whose variance each sample finds by expectation): one sample in six from a machine in another state moves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_ROUNDS = 60
_TRUST_ROUNDS = 4
_NEGLIGIBLE = 1e-9  # share of the variance below which a kernel is left out
_JITTER = 1e-9
_NO_NOISE = 1e-15  # share of the variance: less is 0 to rounding, and nothing could be told in units of it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Process:
    """What was learnt.

    weights: (K,) of the kernels.  noise: variance at base 1.  dual: (n,); a prediction is Σ weights · kernel · dual.
    left_out: (n,) prediction of each sample by all the others, the weights being those of all.
    """

    weights: np.ndarray
    noise: float
    dual: np.ndarray
    left_out: np.ndarray


def learn(kernels: np.ndarray, target: np.ndarray, base: np.ndarray, *, freedom: float | None = 2.0) -> Process:
    """Weights of kernels (K, n, n) for targets (n,), with noise variance proportional to base (n,).

    freedom: degrees of Student's t; None = normal residuals.
    """
    n, spread = len(target), float(np.var(target)) + 1e-12
    weights = np.full(len(kernels), spread / len(kernels))
    noise, trust = 0.01 * spread, np.ones(n)
    flat = kernels.reshape(len(kernels), n * n)
    for _ in range(_ROUNDS):
        own = base / trust
        inverse = _inverse((weights @ flat).reshape(n, n), noise * own)
        dual = inverse @ target
        gain, cost = flat @ np.outer(dual, dual).ravel(), flat @ inverse.ravel()
        weights = weights * np.sqrt(np.maximum(gain, 1e-300) / np.maximum(cost, 1e-300))
        noise = noise * float(np.sqrt((dual * dual * own).sum() / (np.diag(inverse) * own).sum()))
        noise = max(noise, _NO_NOISE * spread)
        variance = noise * own
        second = (variance * dual) ** 2 + variance - variance**2 * np.diag(inverse)
        trust = _trust(second / (noise * base), freedom)
    weights[weights * flat[:, :: n + 1].mean(axis=1) < _NEGLIGIBLE * spread] = 0.0
    start = Process(weights=weights, noise=noise, dual=dual, left_out=target)
    return solve((weights @ flat).reshape(n, n), start, target, base, freedom=freedom)


def solve(
    total: np.ndarray, like: Process, target: np.ndarray, base: np.ndarray, *, freedom: float | None = 2.0
) -> Process:
    """The process of more samples with the weights of `like`: learning them takes long.

    total: (n, n) sum of the kernels with those weights.
    """
    trust = np.ones(len(target))
    for _ in range(_TRUST_ROUNDS if freedom is not None else 0):
        own = like.noise * base / trust
        inverse = _inverse(total, own)
        second = (own * (inverse @ target)) ** 2 + own - own**2 * np.diag(inverse)
        trust = _trust(second / (like.noise * base), freedom)
    inverse = _inverse(total, like.noise * base / trust)
    dual = inverse @ target
    return Process(weights=like.weights, noise=like.noise, dual=dual, left_out=target - dual / np.diag(inverse))


def _trust(squared: np.ndarray, freedom: float | None) -> np.ndarray:
    """Precision of each sample, from its squared residual in units of the noise."""
    return np.ones_like(squared) if freedom is None else (freedom + 1) / (freedom + np.maximum(squared, 0))


def _inverse(total: np.ndarray, noise: np.ndarray) -> np.ndarray:
    n = len(noise)
    matrix = total.copy()
    matrix[np.diag_indices(n)] += noise + _JITTER * float(np.diag(total).mean()) + 1e-15
    return np.asarray(np.linalg.inv(matrix))
