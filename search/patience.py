"""Patience: a sample leaves at the first exit at which enough exits in a row have answered alike.

Whether an exit ends a run depends on which others stand, so no score of an exit alone can say it; which two stages
answer alike does not, and is computed once. Shapes: N samples, S stages, W words of a bit set, T candidates.
Source: W. Zhou et al., "BERT Loses Patience" (PABEE), NeurIPS 2020. Its t counts agreements of neighbours; here the
patience counts the exits that agree, one more: 1 leaves at the first exit, 2 where two in a row say the same.
"""

from __future__ import annotations

import numpy as np

from search.bits import pack

_ALL = np.iinfo(np.uint64).max


def levels(stages: int) -> np.ndarray:
    """(L, S) what a search may choose from: a patience of 1 up to the number of exits, as `Cascade.levels`."""
    return np.repeat(np.arange(1, max(stages, 2), dtype=np.float32)[:, None], stages, axis=1)


def runs(answer: np.ndarray, placed: np.ndarray) -> np.ndarray:
    """How many placed exits in a row, up to each one, have answered alike: (N, S), 0 where none is placed.

    answer (N, S), −1 abstains and ends a run; placed (S,) bool, where the last stage is no exit.
    """
    lengths = np.zeros(answer.shape, dtype=np.int64)
    length, before = np.zeros(len(answer), dtype=np.int64), np.full(len(answer), -1)
    for stage in np.flatnonzero(placed[:-1]):
        now = answer[:, stage]
        length = np.where(now == -1, 0, np.where(now == before, length + 1, 1))
        lengths[:, stage], before = length, now
    return lengths


class Agreement:
    """Which samples two stages answer alike, as bit sets. answer (N, S); −1 abstains, and agrees with nobody."""

    def __init__(self, answer: np.ndarray) -> None:
        self._stages = answer.shape[1]
        answers = answer != -1
        self._abstains = not answers.all()
        # Row i · S + j: stages i and j answer alike; row i · S + i: stage i answers.
        alike = [pack((answer == answer[:, i : i + 1]).T & answers[:, i]) for i in range(self._stages)]
        self._alike = np.concatenate(alike)

    def start(self, patience: np.ndarray, visit: np.ndarray) -> Runs:
        """Follow T candidates, each with its patience (T,) ≥ 1, past the stages of its exits (T, K)."""
        return Runs(self._alike, self._abstains, self._stages, patience, visit)


class Runs:
    """The samples whose run of agreeing exits began where, for some candidates, as they walk from exit to exit."""

    def __init__(self, alike: np.ndarray, abstains: bool, stages: int, patience: np.ndarray, visit: np.ndarray) -> None:
        self._alike, self._abstains, self._stages = alike, abstains, stages
        self._patience, self._visit = patience, visit
        self._longest = int(patience.max())
        count, exits = visit.shape
        # Entry m + 1: who answered alike from the m-th exit to the one just passed; first nobody, last who answers now.
        self._since = np.empty((exits + 1, count, alike.shape[1]), dtype=np.uint64)
        self._since[0], self._since[-1] = 0, _ALL
        self._rows = self._since.reshape(-1, alike.shape[1])

    def pass_exit(self, k: int, n: int, out: np.ndarray) -> None:
        """Pass the k-th exit, which the first n candidates have; out (n, W): whose run has now reached the patience.

        Bits beyond the last sample may be set.
        """
        stage = self._visit[:n, k]
        if k:
            agree = self._since[k, :n]
            np.take(self._alike, self._visit[:n, k - 1] * self._stages + stage, axis=0, out=agree, mode="clip")
            # A run that began further back than the longest patience has reached it before.
            self._since[max(k + 2 - self._longest, 1) : k, :n] &= agree
        if self._abstains:
            np.take(self._alike, stage * (self._stages + 1), axis=0, out=self._since[-1, :n], mode="clip")
        begun = np.maximum(k + 2 - self._patience[:n], 0)
        begun[self._patience[:n] == 1] = len(self._since) - 1
        np.take(self._rows, begun * self._since.shape[1] + np.arange(n), axis=0, out=out, mode="clip")
