"""What networks and stages of a space cost, by vectorised look-ups in a latency table.

Rows add up as the table's Composition says: a segment that runs in one call costs call + Σ scale · (row − call), and
each element that it returns costs something where its blocks inside save it; a network is the sum of its segments. So
each block has one *addend*, each call is paid once, and an exit pays for the features that it hands on.
Shapes: P settings, B candidates, G genes, S stages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hwbench.errors import ConfigError, MissingRows
from hwbench.evidence import DECLARED, Evidence, join
from hwbench.setting import Setting
from hwbench.table import LatencyTable
from models.block import gate_ops
from models.space import Space

TABLE_METRICS = ("latency_ms", "energy_mj")
# Known from the space alone; the network's description is the only witness.
MODEL_METRICS = ("macs", "size_bytes", "memory_bytes")
_BYTES = {"fp32": 4, "fp16": 2, "int8": 1}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StageCosts:
    """Costs of one backbone's stages as a Cascade takes them.

    step, ask: metric -> (P, S): the blocks between the previous exit and this one; the exit's head and one more call.
    resident: metric -> (S,): bytes that a placed exit adds; the last stage holds the backbone.
    """

    step: Mapping[str, np.ndarray]
    ask: Mapping[str, np.ndarray]
    resident: Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Costs:
    """A space priced by a table at P settings of one precision; make it with `Costs.of`.

    addend: metric -> (P, n_blocks), what a block adds to the segment it runs in.
    call: metric -> (P,), what a segment that ends with the classifier costs beside its blocks.
    layout: metric -> (P,), what each further element costs that a segment returns.  evidence: by metric.
    """

    space: Space
    settings: tuple[Setting, ...]
    addend: Mapping[str, np.ndarray]
    call: Mapping[str, np.ndarray]
    layout: Mapping[str, np.ndarray]
    evidence: Mapping[str, Evidence]
    _params: np.ndarray = field(init=False, repr=False)
    _peaks: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        blocks = self.space.blocks
        object.__setattr__(self, "_params", np.array([*(b.params for b in blocks), 0]))
        object.__setattr__(self, "_peaks", np.array([*(b.peak_activation_count for b in blocks), 0]))

    @classmethod
    def of(cls, space: Space, table: LatencyTable, settings: Sequence[Setting], needed: Sequence[str]) -> Costs:
        """Look up every block of the space, heads of exits included, once.

        needed: metrics that must be known; another metric of the table is taken along where it is complete.
        Raises MissingRows naming ten rows and the command that fills them, ConfigError without a composition.
        """
        if len({s.precision for s in settings}) != 1:
            raise ConfigError("costs need settings of one precision")
        keys = [block.key for block in space.blocks]
        macs = np.array([[block.macs for block in space.blocks]], dtype=np.float64)
        addend = {"macs": np.repeat(macs, len(settings), axis=0)}
        call, layout = {"macs": np.zeros(len(settings))}, {"macs": np.zeros(len(settings))}
        returned = np.array([math.prod(block.out_shape) for block in space.blocks], dtype=np.float64)
        classes = returned[space.slots[-1].block.max()]
        evidence = dict.fromkeys(MODEL_METRICS, DECLARED)
        for metric in TABLE_METRICS:
            try:
                rows, origin = table.rows(metric, keys, settings)
                parts = table.composition_at(metric, settings)
            except (MissingRows, ConfigError):
                if metric in needed:
                    raise
                continue
            addend[metric] = np.stack(
                [part.addend(row * part.factors(keys), returned) for part, row in zip(parts, rows, strict=True)]
            )
            layout[metric] = np.array([part.layout for part in parts])
            call[metric] = np.array([part.call for part in parts]) + layout[metric] * classes
            evidence[metric] = join(origin)
        return cls(space=space, settings=tuple(settings), addend=addend, call=call, layout=layout, evidence=evidence)

    def network_at(self, genes: np.ndarray, point: int) -> dict[str, np.ndarray]:
        """Whole backbones (B, G) at one operating point, each metric (B,): one look-up for all."""
        ids = self.space.block_ids(genes).T  # (slots, B); −1, nothing runs, reads the value that is appended
        counts = np.array([[slot.count] for slot in self.space.slots])
        found = {
            m: self.call[m][point] + (np.append(a[point], 0.0)[ids] * counts).sum(axis=0)
            for m, a in self.addend.items()
        }
        weights = (self._params[ids] * counts).sum(axis=0) * self._element_bytes
        peak = self._peaks[ids].max(axis=0) * self._element_bytes
        return found | {"size_bytes": weights, "memory_bytes": weights + peak}

    def network(self, genes: np.ndarray) -> dict[str, np.ndarray]:
        """Whole backbones (B, G), each in one call: metric -> (P, B); bytes do not depend on the point: (B,)."""
        each = [self.network_at(genes, point) for point in range(len(self.settings))]
        return {m: np.stack([at[m] for at in each]) if m in self.addend else v for m, v in each[0].items()}

    def least(self, metric: str) -> np.ndarray:
        """(P,) what every design of the space costs at least, on average: where all leave at one exit, or at the end.

        metric: of the table, or macs. A bound from below: each slot counts with its cheapest block, whatever others do.
        """
        addend, call, layout = self.addend[metric], self.call[metric], self.layout[metric]
        found = []
        spent = np.zeros(len(call))
        heads = dict(zip(self.space.positions, self.space.heads, strict=True))
        for place, slot in enumerate(self.space.slots):
            # Index −1, nothing runs, reads the 0 that is appended.
            spent = spent + slot.count * np.column_stack([addend, np.zeros(len(call))])[:, slot.block.ravel()].min(
                axis=1
            )
            exits = np.unique(heads[place].block) if place in heads else np.empty(0, int)
            if len(exits := exits[exits >= 0]):
                features = np.array([math.prod(self.space.blocks[h].in_shape) for h in exits], dtype=np.float64)
                asked = addend[:, exits] + np.multiply.outer(layout, features + 1)
                found.append(spent + call + asked.min(axis=1))
        return np.asarray(np.stack([*found, spent + call]).min(axis=0))

    def stages(self, genes: np.ndarray, positions: Sequence[int], *, gated: bool = False) -> StageCosts:
        """One backbone (G,) cut behind the slots of these exit positions: S = len(positions) + 1 stages.

        positions: ascending indices into Space.positions. gated: each exit has a learned gate, of which multiply-
        accumulates and bytes count; no row tells its time, which is about that of the score in whose place it stands.
        Raises ConfigError where an exit does not exist.
        """
        slots = np.array([count.count for count in self.space.slots])
        blocks, heads = self.space.block_ids(genes[None])[0], self.space.head_ids(genes[None])[0]
        heads = heads[list(positions)]
        if (heads < 0).any() or list(positions) != sorted(set(positions)):
            raise ConfigError(f"space {self.space.name!r}: no exits at positions {list(positions)} of {genes.tolist()}")
        runs = blocks >= 0
        # Segment i ends behind the slot of exit i; the last one at the network's end.
        segment = np.searchsorted([self.space.positions[p] for p in positions], np.flatnonzero(runs), side="left")
        features = np.array([math.prod(self.space.blocks[h].in_shape) for h in heads], dtype=np.float64)
        step, ask = {}, {}
        for metric, addend in self.addend.items():
            step[metric] = np.zeros((len(self.settings), len(positions) + 1))
            np.add.at(step[metric].T, segment, (addend[:, blocks[runs]] * slots[runs]).T)
            ask[metric] = np.repeat(self.call[metric][:, None], len(positions) + 1, axis=1)
            # An exit's graph returns the features that the next one reads, and a score.
            ask[metric][:, :-1] += addend[:, heads] + np.multiply.outer(self.layout[metric], features + 1)
        resident = self._resident(genes, heads)
        if gated:
            gates = [gate_ops(self.space.blocks[h].out_shape[0]) for h in heads]
            ask["macs"][:, :-1] += [sum(op.macs for op in gate) for gate in gates]
            weights = np.array([sum(op.weight_count for op in gate) for gate in gates]) * self._element_bytes
            for held in resident.values():
                held[:-1] += weights
        return StageCosts(step=step, ask=ask, resident=resident)

    def soft_terms(self, metric: str, point: int = 0) -> tuple[float, list[tuple[tuple[int, ...], np.ndarray]]]:
        """The exact cost as a multilinear function, for a differentiable search: a constant, and for each slot the
        genes it depends on with the cost of their joint values. Cost = constant + Σ_slots Σ_v Π_g p(v_g) · table[v]."""
        values = np.append(self.addend[metric][point], 0.0)  # index −1, nothing runs, costs nothing
        terms = [(slot.genes, slot.count * values[slot.block]) for slot in self.space.slots]
        return float(self.call[metric][point]), terms

    @property
    def _element_bytes(self) -> int:
        precision = self.settings[0].precision
        if precision not in _BYTES:
            raise ConfigError(f"precision {precision!r} has no known size (known: {', '.join(_BYTES)})")
        return _BYTES[precision]

    def _resident(self, genes: np.ndarray, heads: np.ndarray) -> dict[str, np.ndarray]:
        head = [self.space.blocks[h] for h in heads]
        weights = np.append([h.params for h in head], self.space.params(genes[None])) * self._element_bytes
        peak = int(self.space.peak_activation_count(genes[None])[0])
        # A head whose activations exceed the backbone's raises the peak; the sum over several such is an upper bound.
        beyond = np.append([max(h.peak_activation_count - peak, 0) for h in head], peak) * self._element_bytes
        return {"size_bytes": weights, "memory_bytes": weights + beyond}
