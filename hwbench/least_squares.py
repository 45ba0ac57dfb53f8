"""Many small non-linear least squares at once: Levenberg-Marquardt on R independent problems of q parameters.

numpy only: hwbench goes where scipy is not, and a table has a thousand blocks to fit, which one by one take minutes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Residuals = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (r, q) parameters of the problems (r,) -> (r, m)

_STEP = 1e-6
_SETTLED = 1e-6  # relative gain that three times in a row means a problem is done
_HOPELESS = 1e8  # damping under which not even a tiny step downhill gains: at the bottom, as far as numbers tell


def minimise(
    residuals: Residuals, start: np.ndarray, low: np.ndarray, high: np.ndarray, *, iterations: int = 100
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise the sum of squared residuals of each problem inside a box: parameters (R, q) and costs (R,).

    residuals: of parameters (r, q) of the problems with indices (r,).  start: (R, q).  low, high: (q,).
    Derivatives are forward differences, so parameters should be of order 1 (logarithms, shares).
    """
    theta = np.clip(np.asarray(start, dtype=np.float64), low, high)
    everyone = np.arange(len(theta))
    now = residuals(theta, everyone)
    cost = np.einsum("rm,rm->r", now, now)
    damping = np.full(len(theta), 1e-2)
    settled = np.zeros(len(theta), dtype=int)
    for _ in range(iterations):
        active = np.flatnonzero((settled < 3) & (damping < _HOPELESS))
        if not active.size:
            break
        step = _step(residuals, theta[active], now[active], active, damping[active], low, high)
        moved = np.clip(theta[active] + step, low, high)
        tried = residuals(moved, active)
        tried_cost = np.einsum("rm,rm->r", tried, tried)
        better = tried_cost < cost[active]
        little = better & (cost[active] - tried_cost <= _SETTLED * cost[active])
        won = active[better]
        theta[won], now[won], cost[won] = moved[better], tried[better], tried_cost[better]
        damping[active] = np.where(better, (damping[active] / 5).clip(1e-9), damping[active] * 4)
        settled[active] = np.where(little, settled[active] + 1, np.where(better, 0, settled[active]))
    return theta, cost


def _step(
    residuals: Residuals,
    theta: np.ndarray,
    now: np.ndarray,
    which: np.ndarray,
    damping: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> np.ndarray:
    """(r, q) damped Gauss-Newton steps; a parameter that a bound holds back does not move."""
    count = theta.shape[1]
    slope = np.empty((*now.shape, count))
    for j in range(count):
        # Backwards at the upper bound, so that no residual is asked for outside of the box.
        size = np.where(theta[:, j] + _STEP > high[j], -_STEP, _STEP)
        nudged = theta.copy()
        nudged[:, j] += size
        slope[:, :, j] = (residuals(nudged, which) - now) / size[:, None]
    gradient = np.einsum("rmq,rm->rq", slope, now)
    held = ((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0))
    slope = np.where(held[:, None, :], 0.0, slope)
    normal = np.einsum("rmq,rms->rqs", slope, slope)
    diagonal = np.arange(count)
    normal[:, diagonal, diagonal] += damping[:, None] * (normal[:, diagonal, diagonal] + 1e-12) + held
    step: np.ndarray = np.linalg.solve(normal, -np.where(held, 0.0, gradient)[:, :, None])[:, :, 0]
    # A step in logarithms of more than 2 is a factor of 7: further than the derivative tells.
    return np.asarray(step * np.minimum(1.0, 2.0 / np.maximum(np.abs(step).max(axis=1, keepdims=True), 1e-12)))
