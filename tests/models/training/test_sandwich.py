"""models.training.sandwich: shared weights that learn, and a training that can be stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hwbench.errors import ConfigError
from models import datasets, supernet
from models.datasets import Split
from models.stages import Stage, StageSpace, Stem
from models.training.curriculum import Phase
from models.training.sandwich import Epoch, Recipe, rate, train

SPACE = StageSpace(
    name="tiny",
    classes=10,
    channels=1,
    resolutions=(32,),
    stem=Stem(widths=(8,), stride=4),
    stages=(
        Stage(widths=(8, 16), depths=(1, 2), kernels=(3, 5), expands=(1, 2), stride=2, squeeze=True),
        Stage(widths=(16,), depths=(1,), kernels=(3,), expands=(2,), stride=2),
    ),
).space()
RECIPE = Recipe(epochs=4, batch=64, learning_rate=0.03)


def source(epoch: int) -> Split:
    """Five steps an epoch."""
    return datasets.load("digits32", "train", epoch=epoch).take(slice(0, None, 13))


def state(net: supernet.Supernet) -> dict[str, torch.Tensor]:
    """A copy of all weights."""
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def test_twenty_steps_lower_the_loss_of_the_largest_and_the_smallest() -> None:
    """On images that the training did not see, in batch statistics; without leaving a subnet behind."""
    net = supernet.create(SPACE, seed=1)
    val = datasets.load("digits32", "val").take(slice(0, None, 10))

    def losses() -> list[float]:
        net.train()
        with torch.no_grad():
            x, y = torch.from_numpy(val.inputs()), torch.from_numpy(val.labels)
            return [float(torch.nn.functional.cross_entropy(net(x, g), y)) for g in (SPACE.largest(), SPACE.smallest())]

    before = losses()
    told: list[Epoch] = []
    spent = train(net, source, RECIPE, seed=1, progress=told.append)
    after = losses()
    assert all(later < earlier - 0.15 for earlier, later in zip(before, after, strict=True)), (before, after)
    assert [(1, 4), (2, 4), (3, 4), (4, 4)] == [(e.epoch, e.epochs) for e in told]
    assert told[-1].loss < told[0].loss and told[-1].seconds == spent.seconds > 0


def test_a_stopped_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Stopped after two of four epochs, and gone on with in another supernet: bit for bit what nobody stopped gives."""
    whole = supernet.create(SPACE, seed=1)
    train(whole, source, RECIPE, seed=1)

    def stop(told: Epoch) -> None:
        if told.epoch == 2:
            raise KeyboardInterrupt

    checkpoint = tmp_path / "training.resume"
    with pytest.raises(KeyboardInterrupt):
        train(supernet.create(SPACE, seed=1), source, RECIPE, seed=1, checkpoint=checkpoint, progress=stop)
    resumed = supernet.create(SPACE, seed=5)
    asked: list[int] = []

    def watched(epoch: int) -> Split:
        asked.append(epoch)
        return source(epoch)

    train(resumed, watched, RECIPE, seed=1, checkpoint=checkpoint)
    assert [2, 3] == asked
    expected = state(whole)
    assert all(torch.equal(expected[name], tensor) for name, tensor in state(resumed).items())


def test_another_seed_gives_other_weights() -> None:
    """The seed reaches the order of samples and the subnets that are drawn, not only the first weights."""
    nets = [supernet.create(SPACE, seed=1) for _ in range(2)]
    for seed, net in enumerate(nets):
        train(net, source, Recipe(epochs=1, batch=64), seed=seed)
    first, second = (state(net) for net in nets)
    assert any(not torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("recipe", "seed"), [(RECIPE, 2), (Recipe(epochs=5, batch=64), 1)], ids=["another seed", "another recipe"]
)
def test_the_checkpoint_of_another_training_is_refused(tmp_path: Path, recipe: Recipe, seed: int) -> None:
    """Going on from it would give weights that nobody can make again."""
    checkpoint = tmp_path / "training.resume"
    train(supernet.create(SPACE, seed=1), source, RECIPE, seed=1, checkpoint=checkpoint)
    with pytest.raises(ConfigError, match="the checkpoint of another training"):
        train(supernet.create(SPACE, seed=1), source, recipe, seed=seed, checkpoint=checkpoint)


@pytest.mark.parametrize("keep", [0, 1000, -1], ids=["empty", "cut short", "last byte lost"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, keep: int) -> None:
    """With the way out; nothing is trained over it."""
    checkpoint = tmp_path / "training.resume"
    train(supernet.create(SPACE, seed=1), source, Recipe(epochs=1, batch=64), seed=1, checkpoint=checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:keep])
    with pytest.raises(ConfigError, match=r"training\.resume: not a whole checkpoint"):
        train(supernet.create(SPACE, seed=1), source, Recipe(epochs=1, batch=64), seed=1, checkpoint=checkpoint)


def test_the_learning_rate_rises_then_falls_to_nothing() -> None:
    """A short warm-up, then half a cosine."""
    recipe = Recipe(epochs=10, learning_rate=1.0, warmup_share=0.1)
    rates = [rate(recipe, done) for done in np.linspace(0, 1, 101)]
    assert 10 == int(np.argmax(rates)) and 1.0 == rates[10]
    assert 0 < rates[0] < 0.1 and 0 == pytest.approx(rates[100])


def test_genes_outside_the_phase_stay_at_their_largest() -> None:
    """Weights that only smaller widths or depths would train the normalisation of keep their first statistics."""
    net = supernet.create(SPACE, seed=1)
    seen: list[tuple[int, ...]] = []
    inner = net.forward  # type: ignore[attr-defined]

    def forward(x: torch.Tensor, genes: np.ndarray) -> torch.Tensor:
        seen.append(tuple(int(g) for g in genes))
        return inner(x, genes)

    net.forward = forward  # type: ignore[attr-defined]
    phases = (Phase(groups=("kernel",)), Phase(groups=("kernel", "depth")))
    train(net, source, Recipe(epochs=2, batch=64, phases=phases), seed=1)
    varied = [
        {SPACE.genes[i].group for genes in part for i, g in enumerate(genes) if g != SPACE.largest()[i]}
        for part in (seen[: len(seen) // 2], seen[len(seen) // 2 :])
    ]
    assert [{"kernel"}, {"kernel", "depth"}] == varied
