"""What one backbone answers for every sample of `val`: its final classifier and, where asked, every exit.

Reads the file `checkpoint` (a supernet) and, where backbones do not train exits of their own, `exits` (shared ones);
or, as arrays, the `norm/NAME`, `head/NAME` and `gate/NAME` of an earlier result, whose network then answers again. What
is asked stands in `Args`.  Arrays of the result, N samples, S answers:

- answer (N, S) int16, score (N, S) float32 (higher = surer), label (N,) int16, difficulty (N,) float32 (NaN = unknown),
  source (N,) int64, what a sample was rendered from, where the data set knows it,
- positions (S,) int16: index into Space.positions, ascending; −1 = the final classifier, always the last,
- with exits, what the trained network is built from again: `norm/NAME` the recalibrated statistics of the backbone,
  `head/NAME` the exits' weights and, where the score is learned, `gate/NAME` those of their gates; names as in
  `ExitNetwork.backbone`, `.heads` and `.gates`.

Values: accuracy (of the final classifier), samples, params (of the backbone).
`val` decides about designs, so it trains nothing here; `test` is opened only where `split` says so: no search does.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from hwbench.errors import ConfigError
from hwbench.store import Result
from models import datasets
from models.datasets import Split
from models.exits import ExitNetwork
from models.gate import LEARNED
from models.space import Space, load_space
from models.supernet import Supernet, load
from models.training.exits import answer, train_exits
from models.training.gates import train_gates
from models.training.inference import shuffled
from models.training.recalibrate import recalibrate, statistics
from models.training.shared_exits import load_shared, with_shared_exits
from search.export import network as built
from search.task import File, Task

version = 1


class Args(BaseModel):
    """What is asked.

    space, dataset: names in models.spaces and models.datasets.  genes: canonical.  exits: train an exit at each
    position that exists, too.  score: a name in models.exits, or `learned`: a gate is trained at each exit.  seed:
    of the first weights of exits and gates, the order of training and the samples of the recalibration; nothing else is
    random.  split: whose samples are answered.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    space: str
    genes: tuple[int, ...]
    dataset: str
    exits: bool
    score: str = "max_softmax"
    seed: int
    split: Literal["val", "test"] = "val"


def run(task: Task, rng: np.random.Generator) -> Result:
    """Extract, recalibrate, train the exits where asked, answer `val`."""
    args = Args.model_validate(dict(task.args))
    with _repeatable():
        supernet = _supernet(args.space, task.files["checkpoint"])
        space = supernet.space
        train, asked = (_split(args.dataset, split, _side(space)) for split in ("train", args.split))
        if task.arrays:
            network = built(task.files["checkpoint"].path, args.space, args.genes, task.arrays)
        elif args.exits and "exits" in task.files:
            heads = _heads(args.space, task.files["checkpoint"], task.files["exits"])
            network = with_shared_exits(supernet, heads, args.genes, train, seed=args.seed)
        elif args.exits:
            network = train_exits(supernet, args.genes, train, seed=args.seed)
        else:
            parts = supernet.extract(args.genes)
            recalibrate(parts, shuffled(train, args.seed))
            network = ExitNetwork(parts, {}).eval()
        if args.score == LEARNED and args.exits and not network.gates:
            train_gates(network, train, seed=args.seed)
        answers = answer(network, asked, args.score)
    positions = [space.positions.index(slot) for slot in network.slots]
    unknown = np.full(len(asked), np.nan, np.float32)
    return Result(
        values={
            "accuracy": float(np.mean(answers.answer[:, -1] == asked.labels)),
            "samples": len(asked),
            "params": int(space.params(np.array([args.genes]))[0]),
        },
        arrays={
            "answer": answers.answer,
            "score": answers.score,
            "label": asked.labels.astype(np.int16),
            "difficulty": unknown if asked.difficulty is None else asked.difficulty,
            "positions": np.array([*positions, -1], np.int16),
            **({} if asked.source is None else {"source": asked.source}),
            **(_state(network) if args.exits else {}),
        },
    )


def _state(network: ExitNetwork) -> dict[str, np.ndarray]:
    kinds = {"norm/": statistics(network.backbone), "head/": network.heads.state_dict()}
    kinds |= {"gate/": network.gates.state_dict()}
    return {prefix + name: t.numpy().copy() for prefix, named in kinds.items() for name, t in named.items()}


@functools.lru_cache(maxsize=1)
def _supernet(space: str, checkpoint: File) -> Supernet:
    """Once per process: every candidate of a search is a subnet of the same weights."""
    if File.of(checkpoint.path) != checkpoint:
        raise ConfigError(f"{checkpoint.path} changed while it was searched; put it back, then: search resume")
    return load(checkpoint.path, load_space(space))[0]


@functools.lru_cache(maxsize=1)
def _heads(space: str, checkpoint: File, exits: File) -> nn.ModuleDict:
    if File.of(exits.path) != exits:
        raise ConfigError(f"{exits.path} changed while it was searched; put it back, then: search resume")
    return load_shared(exits.path, _supernet(space, checkpoint))


@functools.lru_cache(maxsize=2)
def _split(dataset: str, split: str, side: int) -> Split:
    return datasets.load(dataset, split, side=side)


def _side(space: Space) -> int:
    """Of the images that the space's stem takes."""
    return space.blocks[int(space.slots[0].block.flat[0])].in_shape[-1]


@contextlib.contextmanager
def _repeatable() -> Iterator[None]:
    """One thread and deterministic kernels, so that one worker and many, now and later, give the same bytes."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
