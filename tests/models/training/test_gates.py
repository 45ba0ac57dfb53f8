"""models.training.gates: gates learn where leaving does harm, each as if it were alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import models
from hwbench.errors import ConfigError
from models import datasets
from models.datasets import Split
from models.exits import ExitNetwork
from models.space import load_space
from models.supernet import load
from models.training import gates
from models.training.exits import answer
from models.training.gates import GateRecipe, train_gates
from models.training.inference import batch, shuffled
from models.training.shared_exits import load_shared, with_shared_exits

SPACE = load_space("digits")
GENES = SPACE.canonical(np.array([[0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0]]))[0].tolist()
CHECKPOINTS = Path(models.__file__).parent / "checkpoints"


@pytest.fixture(scope="module")
def train() -> Split:
    return datasets.load("digits32", "train")


@pytest.fixture(scope="module")
def network(train: Split) -> ExitNetwork:
    """Four exits of the weights that ship, with trained gates."""
    net, _ = load(CHECKPOINTS / "digits.safetensors", SPACE)
    found = with_shared_exits(net, load_shared(CHECKPOINTS / "exits" / "digits.safetensors", net), GENES, train, seed=0)
    train_gates(found, train, seed=0)
    return found


def weights(network: ExitNetwork) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.gates.state_dict().items()}


def cross_entropy(said: np.ndarray, true: np.ndarray) -> float:
    return float(-np.where(true, np.log(said), np.log1p(-said)).mean())


def test_gates_know_on_unseen_images_where_leaving_does_harm(network: ExitNetwork) -> None:
    """Better than the share of such images, and than the probability of the answer, taken for that of no harm."""
    val = datasets.load("digits32", "val").take(slice(0, None, 2))
    found, plain = answer(network, val, "learned"), answer(network, val)
    right = found.answer == val.labels[:, None]
    for s in range(len(network.slots)):
        harmless = right[:, s] | ~right[:, -1]
        said = cross_entropy(np.clip(found.score[:, s].astype(float), 1e-6, 1 - 1e-6), harmless)
        assert said < cross_entropy(np.full(len(harmless), harmless.mean()), harmless) - 0.05
        assert said < cross_entropy(np.clip(plain.score[:, s].astype(float), 1e-6, 1 - 1e-6), harmless)
    np.testing.assert_array_equal(plain.answer, found.answer)
    np.testing.assert_array_equal(plain.score[:, -1], found.score[:, -1])


def test_only_gates_change_and_equal_seeds_give_equal_ones(network: ExitNetwork, train: Split) -> None:
    """So a worker that died is simply run again."""
    before, state = weights(network), {n: t.clone() for n, t in network.state_dict().items() if "gates" not in n}
    quick = GateRecipe(samples=512, epochs=2)
    found = []
    for seed in (1, 1, 2):
        train_gates(network, train, seed=seed, recipe=quick)
        found.append(weights(network))
    assert all(torch.equal(found[0][name], found[1][name]) for name in before)
    assert not any(torch.equal(found[0][name], found[2][name]) for name in before)
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in state.items())
    network.gates.load_state_dict(before)


def test_gates_trained_together_are_those_trained_alone() -> None:
    """The same batches in the same order; exits share no weights."""
    logits = torch.randn(3, 200, 5, generator=torch.Generator().manual_seed(0))
    harmless = (logits.amax(2) > 1).float()
    recipe = GateRecipe(epochs=5, batch=50)

    def fitted(exits: slice) -> list[dict[str, torch.Tensor]]:
        rng = np.random.default_rng(0)
        return [g.state_dict() for g in gates._fit(logits[exits], harmless[exits], recipe, rng, [0, 1, 2][exits])]

    together, alone = fitted(slice(0, 3)), fitted(slice(0, 1))
    for name, tensor in alone[0].items():
        torch.testing.assert_close(together[0][name], tensor, rtol=1e-4, atol=1e-5)


def test_a_gate_reads_logits_as_they_are() -> None:
    """Inputs are standardised in training only: an exit's large logits, and a class that it never tells."""
    logits = torch.randn(1, 400, 3, generator=torch.Generator().manual_seed(0)) * 30 + 200
    logits[..., 2] = -500
    harmless = (logits[..., 0] > logits[..., 1]).float()
    (gate,) = gates._fit(logits, harmless, GateRecipe(epochs=60, batch=100), np.random.default_rng(0), [0])
    assert ((gate(logits[0]) > 0.5) == (harmless[0] > 0.5)).float().mean() > 0.97


def test_gates_learn_from_samples_that_heads_did_not_see(
    network: ExitNetwork, train: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last ones in the order of which heads take the first."""
    seen: list[np.ndarray] = []

    def noted(split: Split, start: int, stop: int) -> torch.Tensor:
        seen.append(split.labels[start:stop])
        return batch(split, start, stop)

    monkeypatch.setattr(gates, "batch", noted)
    before = weights(network)
    train_gates(network, train, seed=3, recipe=GateRecipe(samples=128, epochs=1))
    network.gates.load_state_dict(before)
    np.testing.assert_array_equal(shuffled(train, 3).labels[-128:], np.concatenate(seen))


def test_without_exits_or_samples(network: ExitNetwork, train: Split) -> None:
    """No exits, nothing to do; no samples, nothing to learn from."""
    bare = ExitNetwork(network.parts, {})
    train_gates(bare, train, seed=0)
    assert not bare.gates
    with pytest.raises(ConfigError, match="has none"):
        train_gates(network, train.take(slice(0, 0)), seed=0)
