"""What a network's name says: the contract of decoders, which turn architectures of a family into what is executed.

hwbench knows no networks. A decoder is a function `decode(archs) -> Decoded`, found by an entry point of the group
`hwbench.decoders` whose name is the family; ours stand in `models/decoders`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points

import numpy as np

from hwbench.errors import ConfigError, nearest
from hwbench.workload import Op

GROUP = "hwbench.decoders"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Executed:
    """Operations of n networks: the different ones (U), and times (n, U), how often each network executes each."""

    ops: tuple[Op, ...]
    times: np.ndarray

    @classmethod
    def of(cls, networks: Sequence[Mapping[Op, int]]) -> Executed:
        """From how often each network executes what."""
        place = {op: i for i, op in enumerate(dict.fromkeys(op for network in networks for op in network))}
        times = np.zeros((len(networks), len(place)))
        for row, network in zip(times, networks, strict=True):
            for op, count in network.items():
                row[place[op]] = count
        return cls(ops=tuple(place), times=times)

    def part(self, which: np.ndarray | slice) -> Executed:
        """Some of the networks."""
        return Executed(ops=self.ops, times=self.times[which])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """One way to read n architectures: runtimes differ in what they leave out.

    ops: names of what is executed.  counts: (n, len(ops)) how often each is.  places: (n, P) what stands in each place,
    as a whole number, 0 = nothing; else only equal or not matters.  kinds: (n, P) the same more coarsely, where
    operations of one kind behave alike; None = nothing is coarser.  traits: (n, F) what else tells, as counts.
    executed: what each network executes in elements and multiply-accumulates; None = this decoder does not say.
    """

    name: str
    ops: tuple[str, ...]
    counts: np.ndarray
    places: np.ndarray
    traits: np.ndarray
    kinds: np.ndarray | None = None
    executed: Executed | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decoded:
    """Architectures of one family.

    readings: the first is the most usual one.  constant: (n,) whether the output does not depend on the input, so that
    a runtime may compute it beforehand.  signs: (n, S) counts of what runtimes are known to stumble over.
    function: what the output computes, whatever that costs, so that it tells accuracy: groups of features (n, F) that
    belong together. Architectures that compute the same have the same features.
    """

    readings: tuple[Reading, ...]
    constant: np.ndarray
    signs: np.ndarray
    function: tuple[np.ndarray, ...]

    def apart(self, reading: Reading) -> np.ndarray:
        """(n,) networks of which nothing is executed in a reading, as their output is constant: all cost the same."""
        return np.asarray(self.constant & ~reading.places.any(axis=1))


Decode = Callable[[Sequence[str]], Decoded]


def families() -> tuple[str, ...]:
    """The families that have a decoder."""
    return tuple(sorted({entry.name for entry in entry_points(group=GROUP)}))


def decoder(family: str) -> Decode:
    """The decoder of a family; ConfigError naming the nearest one that is installed."""
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if family not in found:
        raise ConfigError(f"unknown family {family!r}{nearest(family, found)}; a decoder is an entry point of {GROUP}")
    decode: Decode = found[family].load()
    return decode
