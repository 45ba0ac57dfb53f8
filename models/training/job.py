"""Trains the supernet of a space on a data set, from names to a weights file: what `search train` runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch

from hwbench.errors import ConfigError
from models import datasets
from models.datasets import Split
from models.space import Space, load_space
from models.supernet import create, load, run, save
from models.training.augment import augmented
from models.training.inference import accuracy, logits, shuffled
from models.training.ranks import joined
from models.training.recalibrate import recalibrate
from models.training.sandwich import Epoch, Recipe, Source, train
from models.training.shared_exits import SharedRecipe, save_shared, train_shared_exits

RECIPES: Mapping[str, Recipe] = {"digits32": Recipe(epochs=24)}
RECORDED = Recipe(epochs=200, batch=128, learning_rate=2e-3)  # what a data set without a recipe of its own gets
_EPOCHS_A_SEED = 100_000  # a generated data set renders other images for another seed


def supernet_job(
    space: str,
    dataset: str,
    *,
    out: Path,
    seed: int = 0,
    root: Path | None = None,
    side: int | None = None,
    recipe: Recipe | None = None,
    threads: int = 1,
    command: str = "",
    progress: Callable[[Epoch], None] | None = None,
) -> dict[str, str] | None:
    """Train, write the weights to `out`, and return what was written beside them: command, seed, seconds, accuracies.

    Stopped and called again with the same arguments it goes on where it was, from `out` + `.resume`, and writes the
    same weights; that file is removed at the end. Accuracies are those on `val` of the largest and the smallest subnet.
    threads: another number rounds otherwise and gives other weights. One trains `digits` in about 11 minutes; two that
    share their cores with other work mostly wait for each other.
    Under `torchrun` all processes train one supernet (`ranks`); the first writes and returns, the others return None.
    Raises ConfigError where names are unknown, files are missing, or the images do not fit the space.
    """
    described = load_space(space)
    source, val = open_data(described, dataset, seed=seed, root=root, side=side)
    recipe = recipe or RECIPES.get(dataset, RECORDED)
    resume = out.with_name(out.name + ".resume")
    supernet = create(described, seed)
    with _threads(threads), joined() as ranks:
        spent = train(supernet, source, recipe, seed=seed, checkpoint=resume, progress=progress, ranks=ranks)
    if not ranks.first:
        return None
    metadata = {
        "dataset": dataset,
        "seed": str(seed),
        "seconds": f"{spent.seconds:.0f}",
        "cpu_seconds": f"{spent.cpu_seconds:.0f}",
        "threads": str(threads),
        **({"ranks": str(ranks.size)} if ranks.size > 1 else {}),
        "torch": str(torch.__version__),
        "recipe": repr(recipe),
        **({"command": command} if command else {}),
    }
    calibration = shuffled(source(0), seed)
    for name, genes in (("largest", described.largest()), ("smallest", described.smallest())):
        parts = supernet.extract(genes.tolist())
        recalibrate(parts, calibration)
        metadata[f"val_accuracy_{name}"] = f"{accuracy(logits(partial(run, parts), val), val):.4f}"
    save(out, supernet, metadata)
    resume.unlink(missing_ok=True)
    return metadata


def exits_job(
    checkpoint: Path,
    dataset: str,
    *,
    out: Path,
    seed: int = 0,
    root: Path | None = None,
    recipe: SharedRecipe | None = None,
    threads: int = 1,
    command: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, str]:
    """Train the exits that all subnets of a trained supernet share, write them to `out`, and say what was written.

    Raises ConfigError where files are missing or the images do not fit the space.
    """
    supernet, _ = load(checkpoint)
    source, _ = open_data(supernet.space, dataset, seed=seed, root=root)
    recipe = recipe or SharedRecipe()
    began, cpu_began = time.monotonic(), time.process_time()
    with _threads(threads):
        heads = train_shared_exits(supernet, source(0), seed=seed, recipe=recipe, progress=progress)
    metadata = {
        "dataset": dataset,
        "seed": str(seed),
        "seconds": f"{time.monotonic() - began:.0f}",
        "cpu_seconds": f"{time.process_time() - cpu_began:.0f}",
        "threads": str(threads),
        "torch": str(torch.__version__),
        "recipe": repr(recipe),
        **({"command": command} if command else {}),
    }
    save_shared(out, heads, supernet, metadata)
    return metadata


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    # Weights that fade to denormal numbers slow every product.
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)


def open_data(
    space: Space, dataset: str, *, seed: int = 0, root: Path | None = None, side: int | None = None
) -> tuple[Source, Split]:
    """The training split of every epoch, and `val`. Raises ConfigError where the images do not fit the space."""
    val = datasets.load(dataset, "val", root=root, side=side)
    stem, tail = space.blocks[int(space.slots[0].block.flat[0])], space.blocks[int(space.slots[-1].block.flat[0])]
    needed, found = (stem.in_shape[0], tail.out_shape[0]), (val.shape[0], len(val.classes))
    if needed != found:
        raise ConfigError(
            f"space {space.name!r} takes images of {needed[0]} channels in {needed[1]} classes, "
            f"data set {dataset!r} has {found[0]} channels and {found[1]} classes; choose another data set or space"
        )
    if datasets.generated(dataset):
        return lambda epoch: datasets.load(dataset, "train", epoch=seed * _EPOCHS_A_SEED + epoch), val
    recorded = datasets.load(dataset, "train", root=root, side=side)
    return lambda epoch: augmented(recorded, np.random.default_rng([seed, epoch])), val
