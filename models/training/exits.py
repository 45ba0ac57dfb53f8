"""Trains all exits of one backbone on its frozen features, and reads what each exit answers for every sample.

The loss is HADAS eq. 4: for every exit the negative log-likelihood of the labels plus the distillation of the network's
own classifier, at a temperature inside both softmaxes (and its square outside, after Phuong and Lampert, ICCV 2019, to
which HADAS refers). The backbone is frozen and exits share no weights, so the sum over exits falls apart: each head
learns by itself from the same batches in the same order, and only one feature map is in memory at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwbench.errors import ConfigError
from models.datasets import Split
from models.exits import ExitNetwork, new_heads
from models.supernet import Supernet, run
from models.training.inference import BATCH, batch, shuffled
from models.training.recalibrate import recalibrate

_FIRST_BETA, _SECOND_BETA = 0.9, 0.99  # a second moment that follows within the few hundred steps there are


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitRecipe:
    """How heads are trained. samples: of the training split; learning_rate: falls to 0 in a half cosine.

    The rate is high for Adam: a head's pooled features are small numbers, and its convolution's scale does not matter
    before the normalisation. At 0.01 the exits of `digits` stay 3 to 30 points less accurate after as many steps.
    """

    samples: int = 2048
    epochs: int = 3
    batch: int = 64
    learning_rate: float = 0.15
    temperature: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """What every exit answers: N samples, S answers. slots: (S,) which each exit stands behind, last the classifier's.

    answer: (N, S) int16 classes. score: (N, S) float32, higher = surer, of the kind that was asked.
    """

    slots: tuple[int, ...]
    answer: npt.NDArray[np.int16]
    score: npt.NDArray[np.float32]


def train_exits(
    supernet: Supernet, genes: Sequence[int], data: Split, *, seed: int, recipe: ExitRecipe | None = None
) -> ExitNetwork:
    """The subnet with a trained head at each of its exits, in eval mode; its normalisation is recalibrated.

    data: the training split. The supernet stays as it is. Equal seeds and thread counts give equal heads.
    Raises ConfigError where the training split has less than a batch.
    """
    recipe = recipe or ExitRecipe()
    data = shuffled(data, seed)
    parts = supernet.extract(genes)
    recalibrate(parts, data)
    network = ExitNetwork(parts, new_heads(supernet.space, genes, seed)).eval()
    data = data.take(slice(0, recipe.samples))
    if len(data) < recipe.batch:
        raise ConfigError(f"training exits takes a batch of {recipe.batch} samples, the training split has {len(data)}")
    labels = torch.from_numpy(data.labels)
    starts = range(0, len(data), BATCH)
    with torch.no_grad():
        taught = torch.cat([run(parts, batch(data, i, i + BATCH)) for i in starts])
        taught = F.softmax(taught / recipe.temperature, 1)
        features = [batch(data, i, i + BATCH) for i in starts]
    left = len(network.slots)
    for part in parts:
        if not left:
            break
        with torch.no_grad():
            features = [part.module(x) for x in features]
        if part.slots[-1] in network.slots:
            left -= 1
            head = network.heads[str(part.slots[-1])]
            _train_head(head, torch.cat(features), labels, taught, recipe, np.random.default_rng(seed))
    return network.eval()


@torch.no_grad()
def answer(network: ExitNetwork, split: Split, score_name: str = "max_softmax") -> Answers:
    """What every exit of the network and its own classifier say about every sample."""
    answers, scores = [], []
    for i in range(0, len(split), BATCH):
        logits = torch.stack(network.eval()(batch(split, i, i + BATCH)), 1)
        answers.append(logits.argmax(2))
        scores.append(network.scores(logits, score_name))
    return Answers(
        slots=(*network.slots, network.parts[-1].slots[-1]),
        answer=torch.cat(answers).numpy().astype(np.int16),
        score=torch.cat(scores).numpy().astype(np.float32),
    )


def exit_loss(logits: Tensor, labels: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """HADAS eq. 4 for one exit. taught: (N, classes) the classifier's probabilities at this temperature."""
    return F.cross_entropy(logits, labels) + temperature**2 * F.cross_entropy(logits / temperature, taught)


def _train_head(
    head: nn.Module, features: Tensor, labels: Tensor, taught: Tensor, recipe: ExitRecipe, rng: np.random.Generator
) -> None:
    """Train one head in place. features: (N, C, H, W), what it reads of every sample."""
    head.train()
    optimizer = torch.optim.Adam(head.parameters(), lr=recipe.learning_rate, betas=(_FIRST_BETA, _SECOND_BETA))
    steps = len(labels) // recipe.batch
    for step in range(steps * recipe.epochs):
        if step % steps == 0:
            order = torch.from_numpy(rng.permutation(len(labels)))
        at = step % steps * recipe.batch
        rows = order[at : at + recipe.batch]
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * (0.5 + 0.5 * math.cos(math.pi * step / (steps * recipe.epochs)))
        optimizer.zero_grad()
        loss = exit_loss(head(features[rows]), labels[rows], taught[rows], recipe.temperature)
        torch.autograd.backward(loss)
        optimizer.step()
    head.eval()
