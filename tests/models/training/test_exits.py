"""models.training.exits: heads that learn on a backbone that does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import models
from hwbench.errors import ConfigError
from models import datasets, supernet
from models.datasets import Split
from models.exits import ExitNetwork
from models.space import load_space
from models.supernet import run
from models.training.exits import ExitRecipe, answer, exit_loss, train_exits
from models.training.inference import shuffled
from models.training.recalibrate import recalibrate

SPACE = load_space("digits")
GENES = SPACE.canonical(np.array([[0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0]]))[0].tolist()
QUICK = ExitRecipe(samples=1024, epochs=4)


@pytest.fixture(scope="module")
def data() -> Split:
    """One epoch of training images."""
    return datasets.load("digits32", "train")


@pytest.fixture(scope="module")
def net() -> supernet.Supernet:
    """The weights that ship."""
    return supernet.load(Path(models.__file__).parent / "checkpoints" / "digits.safetensors")[0].eval()


@pytest.fixture(scope="module")
def network(net: supernet.Supernet, data: Split) -> ExitNetwork:
    """A subnet of five layers, all four exits trained."""
    return train_exits(net, GENES, data, seed=0, recipe=QUICK)


def test_the_backbone_and_the_supernet_stay_bit_identical(net: supernet.Supernet, data: Split) -> None:
    """Frozen means frozen: weights and statistics are those of the recalibrated subnet, to the bit."""
    shared = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    parts = net.extract(GENES)
    recalibrate(parts, shuffled(data, 0))
    expected = [part.module.state_dict() for part in parts]
    found = train_exits(net, GENES, data, seed=0, recipe=QUICK)
    for part, state in zip(found.parts, expected, strict=True):
        assert all(torch.equal(state[name], tensor) for name, tensor in part.module.state_dict().items())
    assert all(torch.equal(shared[name], tensor) for name, tensor in net.state_dict().items())


def test_heads_learn(net: supernet.Supernet, network: ExitNetwork, data: Split) -> None:
    """Every exit recognises digits it was not trained on far better than chance, and better than before training."""
    val = datasets.load("digits32", "val").take(slice(0, None, 4))
    fresh = train_exits(net, GENES, data, seed=0, recipe=ExitRecipe(samples=128, epochs=0))
    before, after = ((answer(n, val).answer[:, :-1] == val.labels[:, None]).mean(0) for n in (fresh, network))
    assert 4 == len(after)
    assert (after > before + 0.1).all() and after[-1] > 0.5, (before, after)


def test_the_same_seed_gives_the_same_heads_and_another_one_others(
    net: supernet.Supernet, network: ExitNetwork, data: Split
) -> None:
    """So a worker that died is simply run again."""
    again, other = (train_exits(net, GENES, data, seed=seed, recipe=QUICK).heads.state_dict() for seed in (0, 1))
    expected = network.heads.state_dict()
    assert all(torch.equal(expected[name], tensor) for name, tensor in again.items())
    assert not all(torch.equal(expected[name], tensor) for name, tensor in other.items())


def test_heads_trained_one_by_one_are_those_of_the_joint_loss(net: supernet.Supernet, data: Split) -> None:
    """The sum over exits falls apart: one step on all heads together gives each what it gets alone."""
    recipe = ExitRecipe(samples=128, epochs=1, batch=128, learning_rate=0.01)
    alone = train_exits(net, GENES, data, seed=0, recipe=recipe)
    joint = train_exits(net, GENES, data, seed=0, recipe=replace(recipe, epochs=0)).train()
    chosen = shuffled(data, 0).take(slice(0, 128))
    x = torch.from_numpy(chosen.inputs())
    with torch.no_grad():
        taught = torch.softmax(run(joint.parts, x) / recipe.temperature, 1)
    optimizer = torch.optim.Adam(joint.heads.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.99))
    *logits, _ = joint(x)
    sum(exit_loss(z, torch.from_numpy(chosen.labels), taught, recipe.temperature) for z in logits).backward()
    optimizer.step()
    expected = alone.heads.state_dict()
    for name, tensor in joint.heads.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-4)


def test_answers_are_those_of_the_network_sample_by_sample(network: ExitNetwork) -> None:
    """The last column is the network's own classifier; scores are the probability of the answer."""
    val = datasets.load("digits32", "val").take(slice(0, 300))
    found = answer(network, val)
    assert (*network.slots, network.parts[-1].slots[-1]) == found.slots
    assert (300, 5) == found.answer.shape == found.score.shape
    assert (np.int16, np.float32) == (found.answer.dtype, found.score.dtype)
    with torch.no_grad():
        alone = torch.stack(network(torch.from_numpy(val.inputs(slice(280, 281)))), 1)[0].softmax(1)
    np.testing.assert_allclose(found.score[280], alone.amax(1).numpy(), rtol=1e-4)
    np.testing.assert_array_equal(found.answer[280], alone.argmax(1).numpy())


def test_the_loss_is_smallest_for_the_teachers_own_answer() -> None:
    """At a temperature, and plainly the labels' where the teacher agrees with them for certain."""
    labels = torch.tensor([2, 0])
    teacher = torch.tensor([[0.0, 1.0, 6.0], [5.0, 0.0, 1.0]])
    taught = torch.softmax(teacher / 2, 1)
    distilled = [
        exit_loss(z, labels, taught, 2.0) - torch.nn.functional.cross_entropy(z, labels)
        for z in (teacher, teacher + torch.tensor([0.5, 0.0, 0.0]), -teacher)
    ]
    assert distilled[0] < distilled[1] < distilled[2]
    entropy = -(taught * taught.log()).sum(1).mean()
    torch.testing.assert_close(distilled[0], 4 * entropy)


def test_a_training_split_of_less_than_a_batch_is_refused(net: supernet.Supernet, data: Split) -> None:
    """With both numbers."""
    with pytest.raises(ConfigError, match="takes a batch of 2000 samples, the training split has 512"):
        train_exits(net, GENES, data.take(slice(0, 512)), seed=0, recipe=ExitRecipe(batch=2000))
