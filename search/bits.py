"""Sets of samples as bits, 64 to a word, so that one instruction asks or changes 64 samples."""

from __future__ import annotations

import numpy as np

_WORD_BITS = 64


def pack(sets: np.ndarray) -> np.ndarray:
    """Bit sets (…, W) of the last axis of (…, N) bool, in whole words padded with zeros."""
    packed = np.packbits(sets, axis=-1)
    missing = -packed.shape[-1] % (_WORD_BITS // 8)
    padded = np.pad(packed, [(0, 0)] * (packed.ndim - 1) + [(0, missing)])
    return np.ascontiguousarray(padded).view(np.uint64)


def count(sets: np.ndarray) -> np.ndarray:
    """How many bits are set in each row of (B, W)."""
    # einsum adds bytes of a row twice as fast as sum().
    return np.asarray(np.einsum("bw->b", _popcount(sets), dtype=np.int64))


_BYTE_COUNTS = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)


def popcount_by_table(words: np.ndarray) -> np.ndarray:
    """Set bits of every byte of (B, W) words, (B, 8·W): what numpy before 2.0 has to do."""
    return _BYTE_COUNTS[words.view(np.uint8)]


_popcount = getattr(np, "bitwise_count", popcount_by_table)
