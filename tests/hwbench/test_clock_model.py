"""Latency and energy between measured clocks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from hwbench.clock_model import ClockModel, can_fit, fit_energy, fit_latency, predict
from hwbench.errors import ConfigError
from hwbench.setting import Clocks

GRID: list[Clocks] = [
    (("emc", e), ("gpu", g)) for g in (100.0, 250.0, 400.0, 700.0, 1000.0, 1300.0) for e in (1000.0, 1300.0, 1800.0)
]
# Corners and some between, as a sweep takes them.
SOME = [GRID[i] for i in (0, 2, 15, 17, 4, 6, 8, 10, 11, 13)]


def _latency(gpu: float, emc: float, p: float, c: float, points: list[Clocks]) -> np.ndarray:
    """(P,) ms of a block with that much work on either side, in ms · MHz."""
    return np.array([((gpu / dict(x)["gpu"]) ** p + (emc / dict(x)["emc"]) ** p) ** (1 / p) + c for x in points])  # type: ignore[operator]


def _energy(ms: np.ndarray, points: list[Clocks]) -> np.ndarray:
    """(P,) mJ: 1.5 W at rest, 2 W of the GPU's own and 40 mJ a run at its full voltage, 20 mJ at any."""
    share = np.array([dict(x)["gpu"] for x in points], dtype=float) / 1300
    return np.asarray(ms * (1500 + 2000 * share**3) / 1e3 + 20 + 40 * share**2)


def test_latency_at_clocks_never_measured_is_predicted() -> None:
    """Blocks bound by computing, by memory and by both, from 10 of 18 points: the others within 1 %."""
    blocks = [(5000.0, 800.0, 3.0, 0.1), (400.0, 9000.0, 2.5, 0.05), (6000.0, 8000.0, 6.0, 0.3)]
    models = fit_latency(SOME, np.stack([_latency(*b, SOME) for b in blocks]))
    rest = [x for x in GRID if x not in SOME]
    truth = np.stack([_latency(*b, rest) for b in blocks], axis=1)
    assert np.abs(predict(models, rest) / truth - 1).max() < 0.01
    assert all(m.mape_percent < 1 for m in models)
    assert all(m.points == len(SOME) for m in models)


def test_one_clock_is_a_fraction_and_a_constant() -> None:
    """a / f + c has no sharpness to tell, so there is none in its params."""
    points: list[Clocks] = [(("cpu", f),) for f in (600.0, 900.0, 1200.0, 1500.0)]
    (model,) = fit_latency(points, np.array([[3000 / f + 0.5 for f in (600, 900, 1200, 1500)]]))
    assert sorted(model.params) == ["a.cpu", "c"]
    assert model.params["a.cpu"] == pytest.approx(3000, rel=0.02)
    assert predict([model], [(("cpu", 1000.0),)])[0, 0] == pytest.approx(3.5, rel=0.005)


def test_energy_at_clocks_never_measured_is_predicted() -> None:
    """On top of the latency model; the cheapest of all points is found."""
    ms, all_ms = _latency(9000, 4000, 3, 0.2, SOME), _latency(9000, 4000, 3, 0.2, GRID)
    (model,) = fit_energy(SOME, _energy(ms, SOME)[None], fit_latency(SOME, ms[None]))
    predicted, truth = predict([model], GRID)[:, 0], _energy(all_ms, GRID)
    assert np.abs(predicted / truth - 1).mean() < 0.01
    assert truth[predicted.argmin()] < 1.01 * truth.min()


def test_noise_is_told_by_the_error_on_points_left_out(rng: np.random.Generator) -> None:
    """Values that stray by 5 % are said to be predicted to some percent, not to some permille."""
    exact = np.repeat(_latency(5000, 3000, 3, 0.1, SOME)[None], 50, axis=0)
    noisy = fit_latency(SOME, exact * np.exp(rng.normal(0, 0.05, exact.shape)))
    assert 3 < np.mean([m.mape_percent for m in noisy]) < 15


def test_what_lies_outside_of_the_fitted_range_is_not_answered() -> None:
    """Neither a clock below the lowest, nor a point that names other clocks."""
    (model,) = fit_latency(SOME, _latency(5000, 800, 3, 0.1, SOME)[None])
    points: list[Clocks] = [
        (("emc", 1300.0), ("gpu", 99.0)),
        (("emc", 1900.0), ("gpu", 500.0)),
        (("gpu", 500.0),),
        (("cpu", 1.0), ("emc", 1300.0), ("gpu", 500.0)),
        (("emc", "high"), ("gpu", 500.0)),
        (),
    ]
    assert np.isnan(predict([model], points)).all()
    assert np.isfinite(predict([model], [(("emc", 1000.0), ("gpu", 1300.0))])).all()


def test_a_mode_must_be_the_one_that_was_fitted() -> None:
    """What a power mode changes beside these clocks is unknown; a clock that never moved must stay, too."""
    points = [tuple(sorted((*x, ("mode", "MAXN"), ("cpu", 1400.0)), key=lambda c: c[0])) for x in SOME]
    (model,) = fit_latency(points, _latency(5000, 800, 3, 0.1, SOME)[None])
    assert model.moving == ("emc", "gpu")
    asked = {"emc": 1300.0, "gpu": 700.0, "cpu": 1400.0, "mode": "MAXN"}
    other = [asked, asked | {"mode": "10W"}, asked | {"cpu": 900.0}]
    found = predict([model], [tuple(sorted(x.items())) for x in other])
    assert [math.isnan(v) for v in found[:, 0]] == [False, True, True]


def test_too_few_points_are_refused() -> None:
    """As many points as coefficients would fit anything."""
    assert not can_fit(SOME[:5])
    assert not can_fit([SOME[0]] * 12)
    assert not can_fit([*SOME, ()])
    assert not can_fit([(("mode", m),) for m in "abcdefgh"])
    with pytest.raises(ConfigError, match="5 operating points are too few"):
        fit_latency(SOME[:5], np.ones((1, 5)))
    with pytest.raises(ConfigError, match="positive number"):
        fit_latency(SOME, np.zeros((1, len(SOME))))
    (model,) = fit_latency(SOME, _latency(5000, 800, 3, 0.1, SOME)[None])
    with pytest.raises(ConfigError, match="latency for each block"):
        fit_energy(SOME, np.ones((2, len(SOME))), [model])


def test_a_block_does_not_depend_on_those_fitted_with_it() -> None:
    """All blocks are fitted at once, each as if alone."""
    shapes = list(itertools.product((500.0, 5000.0), (400.0, 6000.0), (2.0, 8.0), (0.01, 1.0)))
    values = np.stack([_latency(*b, SOME) for b in shapes])
    together = fit_latency(SOME, values)
    assert [fit_latency(SOME, v[None])[0] for v in values] == together
    assert all(isinstance(m, ClockModel) and m.form == "blend" for m in together)
