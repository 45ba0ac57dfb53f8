"""hwbench.variance_components: kernels compete, and outliers move nothing."""

from __future__ import annotations

import numpy as np

from hwbench.variance_components import learn


def test_the_kernel_that_explains_gets_the_weight(rng: np.random.Generator) -> None:
    """Of one that made the data and one that did not."""
    inputs, others = rng.normal(size=(120, 3)), rng.normal(size=(120, 3))
    target = inputs @ np.array([1.0, -2.0, 0.5]) + 0.05 * rng.normal(size=120)
    found = learn(np.stack([inputs @ inputs.T, others @ others.T]), target, np.ones(120))
    assert found.weights[0] > 100 * found.weights[1]
    assert np.abs(found.left_out - target).mean() < 0.1


def test_left_out_is_what_the_others_say(rng: np.random.Generator) -> None:
    """Without the sample itself: its own outlier cannot pull its prediction."""
    inputs = rng.normal(size=(60, 2))
    target = inputs @ np.array([1.0, -2.0]) + 0.05 * rng.normal(size=60)
    truth = target[0]
    target[0] += 50
    found = learn((inputs @ inputs.T)[None], target, np.ones(60))
    assert abs(found.left_out[0] - truth) < 0.5
