"""What one backbone answers for every sample of `val`: its final classifier and, where asked, every exit.

Reads the file `checkpoint` (a supernet); what is asked stands in `Args`.  Arrays of the result, N samples, S answers:

- answer (N, S) int16, score (N, S) float32 (higher = surer), label (N,) int16, difficulty (N,) float32,
- positions (S,) int16: index into Space.positions, ascending; −1 = the final classifier, always the last,
- with exits, the state that an export needs: `norm/NAME` the backbone's recalibrated statistics, `head/NAME` the heads.

Values: accuracy (of the final classifier on `val`), samples, params (of the backbone).
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

version = 1


class Args(BaseModel):
    """What is asked.

    genes: canonical.  exits: train an exit at each position that exists, too.  seed: of the heads' initial weights, the
    order of training and the recalibration; nothing else is random.  dataset: a name in models.datasets.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    space: str
    genes: tuple[int, ...]
    dataset: str
    exits: bool
    seed: int
