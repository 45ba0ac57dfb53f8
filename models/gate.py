"""The learned controller of one exit: a small network over the exit's logits that says whether to leave there.

Its score stands where those of `models.exits.SCORES` do, in 0 to 1, in the exported graph, held against the same
levels. It reads logits and probabilities, unsorted: which classes an exit confuses is what a fixed function of them
cannot know; and the largest probability, so that it need not learn to find it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.block import GATE_HIDDEN

LEARNED = "learned"  # the router's name


class Gate(nn.Module):
    """Logits (N, classes) -> (N,) how likely leaving with this answer does no harm; one hidden layer.

    Fresh weights know nothing; `models.training.gates` trains them.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * classes + 1, GATE_HIDDEN)
        self.out = nn.Linear(GATE_HIDDEN, 1)

    def forward(self, logits: Tensor) -> Tensor:
        """The score (N,)."""
        return torch.sigmoid(self.out(torch.relu(self.hidden(seen(logits)))).squeeze(-1))


def seen(logits: Tensor) -> Tensor:
    """What a gate reads of logits (…, classes): (…, 2 · classes + 1)."""
    probabilities = logits.softmax(-1)
    return torch.cat([logits, probabilities, probabilities.amax(-1, keepdim=True)], -1)
