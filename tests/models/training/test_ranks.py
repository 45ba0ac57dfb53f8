"""Two real processes train one supernet over gloo."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hwbench.errors import ConfigError
from models import datasets, supernet
from models.training.ranks import Ranks
from models.training.sandwich import Epoch, train
from tests.models.training import ranks_run
from tests.models.training.test_sandwich import RECIPE, SPACE, source

ROOT = Path(__file__).parents[3]


def by_two(folder: Path) -> list[float]:
    """The losses that a training by two ranks in `folder` told."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*start, "-m", ranks_run.__name__, str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    return [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("loss ")]


def by_one(checkpoint: Path | None = None, epochs: int = 4) -> tuple[supernet.Supernet, list[float]]:
    """The supernet that one process has trained for so many epochs of four, and its losses."""
    net = supernet.create(SPACE, seed=1)
    losses: list[float] = []

    def told(epoch: Epoch) -> None:
        losses.append(epoch.loss)
        if epoch.epoch == epochs:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        train(net, source, RECIPE, seed=1, checkpoint=checkpoint, progress=told)
    return net, losses


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """Two."""
    folder = tmp_path_factory.mktemp("pair")
    return folder, by_two(folder)


def assert_equal_ranks(folder: Path) -> None:
    """Bit for bit."""
    first, second = (torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@torch.no_grad()
def outputs(net: supernet.Supernet) -> torch.Tensor:
    """Probabilities of the largest and the smallest subnet on unseen images, in batch statistics."""
    net.train()
    x = torch.from_numpy(datasets.load("digits32", "val").take(slice(0, None, 10)).inputs())
    return torch.stack([net(x, genes.tolist()).softmax(1) for genes in (SPACE.largest(), SPACE.smallest())])


def test_both_ranks_end_with_the_same_weights(pair: tuple[Path, list[float]]) -> None:
    """Statistics of normalisations included; the first rank alone tells."""
    assert_equal_ranks(pair[0])
    assert 4 == len(pair[1])


def test_the_number_of_ranks_changes_rounding_alone(pair: tuple[Path, list[float]]) -> None:
    """The same batches, subnets and statistics: what the network says differs by rounding after twenty steps.

    Not each weight: AdamW lets those walk that no output depends on, as a shift before a normalisation.
    """
    folder, losses = pair
    alone, expected = by_one()
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    both = supernet.create(SPACE, seed=2)
    both.load_state_dict(torch.load(folder / "rank0.pt", weights_only=True))
    torch.testing.assert_close(outputs(both), outputs(alone), rtol=0.0, atol=5e-3)


def test_what_one_process_began_two_finish(pair: tuple[Path, list[float]], tmp_path: Path) -> None:
    """The checkpoint knows nothing of ranks, and all ranks go on from it."""
    _, begun = by_one(tmp_path / "training.resume", epochs=2)
    rest = by_two(tmp_path)
    assert (2, 2) == (len(begun), len(rest))
    np.testing.assert_allclose([*begun, *rest], pair[1], rtol=1e-4)
    assert_equal_ranks(tmp_path)


def test_parts_of_a_batch_are_equal_and_complete() -> None:
    """Else the mean over ranks would not be that over samples."""
    rows = np.arange(12)
    assert [*rows] == [int(i) for rank in range(3) for i in rows[Ranks(rank=rank, size=3).part(12)]]
    with pytest.raises(ConfigError, match="a batch of 64 samples cannot be shared evenly by 3 processes"):
        Ranks(size=3).part(64)
