"""One tiny training as a program for `torchrun`: FOLDER; each rank leaves its weights there."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from models import supernet
from models.training.ranks import joined
from models.training.sandwich import Epoch, train
from tests.models.training.test_sandwich import RECIPE, SPACE, source


def main(folder: Path) -> None:
    """Train; the first rank tells its losses."""
    torch.set_num_threads(1)
    net = supernet.create(SPACE, seed=1)

    def told(epoch: Epoch) -> None:
        print(f"loss {epoch.loss!r}", flush=True)

    with joined() as ranks:
        train(net, source, RECIPE, seed=1, checkpoint=folder / "training.resume", progress=told, ranks=ranks)
    torch.save(net.state_dict(), folder / f"rank{ranks.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
