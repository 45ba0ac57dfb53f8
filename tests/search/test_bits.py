"""Bits are packed and counted alike on every numpy."""

from __future__ import annotations

import numpy as np

from search import bits


def test_bits_are_counted_alike_by_numpy_and_by_table() -> None:
    """The table serves numpy below 2.0, which has no bitwise_count."""
    words = np.random.default_rng(12).integers(0, 2**64, (5, 7), dtype=np.uint64)
    expected = [sum(bin(int(w)).count("1") for w in row) for row in words]
    assert expected == bits.popcount_by_table(words).sum(axis=1).tolist()
    assert expected == bits.count(words).tolist()


def test_sets_are_padded_with_nobody() -> None:
    """Whole words, and as many members as before."""
    sets = np.random.default_rng(13).random((4, 70)) < 0.5
    packed = bits.pack(sets)
    assert (4, 2) == packed.shape
    assert sets.sum(axis=1).tolist() == bits.count(packed).tolist()
