"""Several processes train one supernet: under `torchrun` each is a rank, and all take the same steps.

Every rank draws the same subnets and the same order of samples and takes its own part of each batch; gradients are
averaged once a step, after all subnets of the sandwich, and a normalisation sees the whole batch. So the number of
ranks changes rounding alone. `torch.nn.parallel.DistributedDataParallel` would average after each of the sandwich's
backward passes, and wants to be told which weights a subnet leaves out; `torch.nn.SyncBatchNorm` runs on no CPU.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from hwbench.errors import ConfigError

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """Which of how many processes this is, and the device that is its own."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this process writes and tells."""
        return self.rank == 0

    def part(self, batch: int) -> slice:
        """This rank's part of a batch; ConfigError where the parts would differ in size."""
        if batch % self.size:
            raise ConfigError(
                f"a batch of {batch} samples cannot be shared evenly by {self.size} processes; "
                "start as many as divide it (torchrun --nproc-per-node)"
            )
        share = batch // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def told(self, value: _T) -> _T:
        """What the first rank has."""
        if self.size == 1:
            return value
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        told: _T = box[0]
        return told

    def mean(self, value: float) -> float:
        """The mean over all ranks."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return float(total) / self.size

    def average(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace gradients by their mean over all ranks, in one exchange: the same bytes everywhere."""
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        flat /= self.size
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """The group that `torchrun` started this process in, NCCL where each rank has a GPU, else gloo; or none."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    here, local = int(os.environ.get("LOCAL_WORLD_SIZE", size)), int(os.environ.get("LOCAL_RANK", "0"))
    gpus = torch.cuda.is_available() and torch.cuda.device_count() >= here
    device = torch.device("cuda", local) if gpus else torch.device("cpu")
    if gpus:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if gpus else "gloo")
    try:
        yield Ranks(rank=dist.get_rank(), size=size, device=device)
    finally:
        dist.destroy_process_group()
