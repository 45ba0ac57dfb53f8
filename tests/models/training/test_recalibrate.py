"""models.training.recalibrate: normalisation of one subnet, measured on training data."""

from __future__ import annotations

import pytest
import torch

from hwbench.errors import ConfigError
from models import datasets, supernet
from models.space import load_space
from models.supernet import Part, run
from models.training.inference import BATCH, accuracy, logits, shuffled
from models.training.recalibrate import recalibrate, statistics

SPACE = load_space("digits")


@pytest.fixture
def parts() -> list[Part]:
    """A small subnet in eval mode, its normalisation as it was initialised."""
    return supernet.create(SPACE, seed=1).eval().extract(SPACE.smallest())


def _state(parts: list[Part]) -> dict[str, torch.Tensor]:
    return {f"{i}.{n}": t.clone() for i, part in enumerate(parts) for n, t in part.module.state_dict().items()}


def test_only_the_statistics_change(parts: list[Part]) -> None:
    """Every weight keeps its bits and every module its mode; the means and variances are new."""
    data = shuffled(datasets.load("digits32", "train"), 0)
    before = _state(parts)
    recalibrate(parts, data)
    changed = {name for name, tensor in _state(parts).items() if not torch.equal(tensor, before[name])}
    expected = {f"{i}.{n}" for i, part in enumerate(parts) for n in statistics(part.module)}
    assert expected == {name for name in changed if not name.endswith("num_batches_tracked")}
    assert not any(module.training for part in parts for module in part.module.modules())
    momenta = {m.momentum for part in parts for m in part.module.modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert {0.1} == momenta


def test_normalised_features_have_mean_0_and_deviation_1(parts: list[Part]) -> None:
    """On the very samples that were used: what the statistics are for."""
    data = datasets.load("digits32", "train").take(slice(0, 256))
    recalibrate(parts, data)
    stem = parts[0].module
    with torch.no_grad():
        normal = stem.first.bn(stem.first.conv(torch.from_numpy(data.inputs())))  # type: ignore[union-attr, operator]
    assert torch.allclose(normal.mean((0, 2, 3)), torch.zeros(normal.shape[1]), atol=1e-4)
    assert torch.allclose(normal.std((0, 2, 3)), torch.ones(normal.shape[1]), atol=1e-2)


def test_the_same_data_gives_the_same_statistics(parts: list[Part]) -> None:
    """Twice in a row: nothing is left over from the first time."""
    data = datasets.load("digits32", "train").take(slice(0, 512))
    recalibrate(parts, data)
    once = _state(parts)
    recalibrate(parts, data)
    assert all(torch.equal(tensor, once[name]) for name, tensor in _state(parts).items())


def test_less_than_a_batch_is_refused(parts: list[Part]) -> None:
    """Statistics of a handful of images are noise."""
    with pytest.raises(ConfigError, match=f"needs {BATCH} training samples, there are {BATCH - 1}"):
        recalibrate(parts, datasets.load("digits32", "val").take(slice(0, BATCH - 1)))


def test_logits_come_in_the_order_of_the_samples(parts: list[Part]) -> None:
    """Batches are an inner matter."""
    split = datasets.load("digits32", "val").take(slice(0, 300))
    found = logits(lambda x: run(parts, x), split)
    assert (300, 10) == tuple(found.shape)
    with torch.no_grad():
        alone = run(parts, torch.from_numpy(split.inputs(slice(270, 271))))
    assert torch.allclose(alone, found[270:271], atol=1e-5)
    assert accuracy(torch.nn.functional.one_hot(torch.from_numpy(split.labels)), split) == 1.0
