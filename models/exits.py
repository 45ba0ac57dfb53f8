"""Early exits: a network with a head behind some of its parts, its segments for deployment, and the scores they give.

A score says how sure an answer is, higher = surer, in 0 to 1. It is a function of the logits, the same at each exit, or
`learned`, what an exit's own trained gate says (`models.gate`). It is computed in the exported graph, so that the host
and the board can only agree; whoever decides compares one float.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwbench.errors import ConfigError, nearest
from models.gate import LEARNED, Gate
from models.space import Block, Space
from models.supernet import Part, build


def max_softmax(logits: Tensor) -> Tensor:
    """(N,) the largest probability."""
    return logits.softmax(-1).amax(-1)


def entropy(logits: Tensor) -> Tensor:
    """(N,) one minus the entropy of the probabilities as a share of its largest value, log(classes)."""
    log_p = F.log_softmax(logits, -1)
    return 1 + (log_p.exp() * log_p).sum(-1) / math.log(logits.shape[-1])


def margin(logits: Tensor) -> Tensor:
    """(N,) the largest probability minus the second largest; without sorting, which LiteRT has no operator for."""
    p = logits.softmax(-1)
    first = torch.arange(p.shape[-1], device=p.device) == p.argmax(-1, keepdim=True)
    return p.amax(-1) - torch.where(first, -1.0, p).amax(-1)


SCORES: Mapping[str, Callable[[Tensor], Tensor]] = {"max_softmax": max_softmax, "entropy": entropy, "margin": margin}


def score(name: str) -> Callable[[Tensor], Tensor]:
    """The score function of that name; raises ConfigError naming the nearest known one."""
    if name not in SCORES:
        raise ConfigError(f"unknown score {name!r}{nearest(name, [*SCORES, LEARNED])}")
    return SCORES[name]


def new_gates(space: Space, genes: Sequence[int]) -> dict[int, Gate]:
    """A gate that has learned nothing for each exit of this subnet, to be filled with weights."""
    return {slot: Gate(block.out_shape[0]) for slot, block in head_blocks(space, genes).items()}


def head_blocks(space: Space, genes: Sequence[int]) -> dict[int, Block]:
    """The heads that this subnet can have: block by the slot that the exit stands behind, in running order."""
    ids = space.head_ids(np.asarray(space.canonical(genes)))[0].tolist()
    return {slot: space.blocks[b] for slot, b in zip(space.positions, ids, strict=True) if b >= 0}


def new_heads(space: Space, genes: Sequence[int], seed: int = 0) -> dict[int, nn.Module]:
    """A fresh head for each exit of this subnet; seed and slot decide its weights."""
    blocks = head_blocks(space, genes)
    return {slot: build(space, block, salt=f"slot {slot} seed {seed}") for slot, block in blocks.items()}


class ExitSegment(nn.Module):
    """The parts since the last exit and this exit's head, as one graph: x -> features, logits, score.

    features: what the next segment reads; logits: (N, classes); score: (N,).
    """

    def __init__(self, parts: Sequence[Part], head: nn.Module, score: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body = nn.Sequential(*(part.module for part in parts))
        self.head = head
        self.score = score

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x: images, or the features of the segment before."""
        features = self.body(x)
        logits = self.head(features)
        return features, logits, self.score(logits)


class FinalSegment(nn.Module):
    """The parts since the last exit with the network's own classifier: x -> pooled features, logits, score."""

    def __init__(self, parts: Sequence[Part], score: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body = nn.Sequential(*(part.module for part in parts[:-1]))
        self.tail: Any = parts[-1].module
        self.score = score

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x: images, or the features of the segment before."""
        features = self.tail.pooled(self.body(x))
        logits = self.tail.classifier(features)
        return features, logits, self.score(logits)


class ExitNetwork(nn.Module):
    """An extracted network with heads behind some of its parts, to train all heads at once and to read all answers.

    The backbone is frozen: its weights take no gradient and its batch normalisation stays in eval mode, whatever mode
    the network is put in. heads: by the slot that the exit stands behind; raises ConfigError when it does not run.
    gates: the same, of exits that have learned whether to leave; trained ones are put into `gates` later, too.
    """

    def __init__(
        self, parts: Sequence[Part], heads: Mapping[int, nn.Module], gates: Mapping[int, nn.Module] | None = None
    ) -> None:
        super().__init__()
        self.parts = tuple(parts)
        running = {part.slots[-1] for part in parts[:-1]}
        if not set(heads) <= running:
            raise ConfigError(f"exits behind slots {sorted(set(heads) - running)}, which this network does not run")
        self.backbone = nn.ModuleList(part.module for part in parts).requires_grad_(False)
        self.heads = nn.ModuleDict({str(slot): heads[slot] for slot in sorted(heads)})
        self.gates = nn.ModuleDict({str(slot): gate for slot, gate in sorted((gates or {}).items())})
        self.train(self.training)

    @property
    def slots(self) -> tuple[int, ...]:
        """The slots that an exit stands behind, in running order."""
        return tuple(int(slot) for slot in self.heads)

    def train(self, mode: bool = True) -> ExitNetwork:
        """Put the heads, and only them, in training mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits of every exit in running order, then of the network's own classifier: each (N, classes)."""
        logits = []
        x = x.contiguous(memory_format=torch.channels_last)
        for part, module in zip(self.parts, self.backbone, strict=True):
            # No graph is kept for the backbone; a head's gradient ends at the features it reads.
            with torch.no_grad():
                x = module(x)
            if str(part.slots[-1]) in self.heads:
                logits.append(self.heads[str(part.slots[-1])](x))
        return [*logits, x]

    def score(self, name: str, slot: int | None = None) -> Callable[[Tensor], Tensor]:
        """How the exit behind that slot says how sure it is, or where there is none the network's own classifier.

        That one decides nothing and has no gate: with `learned` it tells its largest probability.
        Raises ConfigError for an unknown name, and where an exit has no gate.
        """
        if name != LEARNED:
            return score(name)
        if slot is None:
            return max_softmax
        if str(slot) not in self.gates:
            raise ConfigError(f"the exit behind slot {slot} has no trained gate; models.training.gates trains some")
        return self.gates[str(slot)]

    def scores(self, logits: Tensor, name: str) -> Tensor:
        """(N, S) of all answers' logits (N, S, classes), in the order of `forward`."""
        if name != LEARNED:
            return score(name)(logits)
        judges = [self.score(name, slot) for slot in (*self.slots, None)]
        return torch.stack([judge(logits[:, s]) for s, judge in enumerate(judges)], 1)

    def segments(self, placed: Sequence[int], score_name: str = "max_softmax") -> list[ExitSegment | FinalSegment]:
        """The network cut behind the exits that are placed (slots): what is exported, one graph for each stage.

        They hold this network's own modules and put them in eval mode.
        Raises ConfigError when there is no head behind a slot, or no gate where the score is learned.
        """
        missing = sorted(set(placed) - set(self.slots))
        if missing:
            raise ConfigError(f"no exit behind slots {missing}; there are heads behind {list(self.slots)}")
        found: list[ExitSegment | FinalSegment] = []
        start = 0
        for end, part in enumerate(self.parts, 1):
            slot = part.slots[-1]
            if slot in placed and end < len(self.parts):
                found.append(ExitSegment(self.parts[start:end], self.heads[str(slot)], self.score(score_name, slot)))
                start = end
        found.append(FinalSegment(self.parts[start:], self.score(score_name)))
        for segment in found:
            segment.eval()
        return found
