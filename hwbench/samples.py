"""Whole networks beside the blocks that they execute: what a composition is fitted on, or held against."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from hwbench.composition import Blocks, Composition
from hwbench.errors import ConfigError

Parts = Mapping[str, tuple[tuple[str, int], ...]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """(n,) whole networks and segments whose parts all have rows, in one metric and setting.

    blocks: which rows they add, how often.  elements: that each returns, less those that its blocks return; None
    where a table does not say.  measured: their values.
    """

    blocks: Blocks
    elements: np.ndarray | None
    measured: np.ndarray

    @property
    def sums(self) -> np.ndarray:
        """(n,) plain sums of rows."""
        return np.asarray(self.blocks.counts @ self.blocks.rows)

    @property
    def counts(self) -> np.ndarray:
        """(n,) numbers of rows."""
        return np.asarray(self.blocks.counts.sum(axis=1))

    def predict(self, by: Composition) -> np.ndarray:
        """(n,) values by a composition; ConfigError when it needs elements and they are unknown."""
        if self.elements is None and by.layout:
            raise ConfigError(
                f"{by.metric} at {by.setting}: the table does not say what its graphs return; profile again"
            )
        sums = self.blocks.counts @ (self.blocks.rows * by.factors(self.blocks.keys))
        return by.from_sums(sums, self.counts, 0.0 if self.elements is None else self.elements)


def gather(
    values: Mapping[str, float],
    parts: Parts,
    returned: Mapping[str, int],
    *,
    weights: Mapping[str, int] | None = None,
) -> Samples:
    """Every whole network and segment of `parts` that has a value, and whose parts all have one.

    values: by block key, in one metric and setting.  returned: elements of each graph's outputs at batch 1.
    weights: of each block, needed to fit on them, not to predict.
    """
    executions: list[dict[str, int]] = []
    elements, measured = [], []
    for key, executed in parts.items():
        if key in values and all(part in values for part, _ in executed):
            executions.append(dict(executed))
            elements.append(returned_beyond(returned, key, executed))
            measured.append(values[key])
    keys = sorted({part for executed in executions for part in executed})
    complete = [e for e in elements if e is not None]
    heavy = None if weights is None or not weights.keys() >= set(keys) else [weights[key] for key in keys]
    return Samples(
        blocks=Blocks(
            keys=keys,
            rows=np.array([values[key] for key in keys], dtype=np.float64),
            counts=np.array([[e.get(k, 0) for k in keys] for e in executions]).reshape(len(executions), len(keys)),
            weights=None if heavy is None else np.array(heavy, dtype=np.float64),
        ),
        elements=np.asarray(complete) if len(complete) == len(elements) else None,
        measured=np.asarray(measured),
    )


def returned_beyond(returned: Mapping[str, int], key: str, executed: Iterable[tuple[str, int]]) -> int | None:
    """Elements that a graph returns, less those that its blocks return; None where one is unknown."""
    executed = tuple(executed)
    if key not in returned or any(part not in returned for part, _ in executed):
        return None
    return returned[key] - sum(returned[part] * count for part, count in executed)
