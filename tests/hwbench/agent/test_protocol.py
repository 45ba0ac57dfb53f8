"""Lines and arrays between host and agent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwbench.agent import protocol
from hwbench.agent.protocol import AgentError


def arrays(n: int) -> dict[str, np.ndarray]:
    """Large integers, NaN and two dimensions."""
    return {
        "run_ns": np.arange(n, dtype=np.int64) + 2**60,
        "scores": np.full((n, 2), np.nan, dtype=np.float32),
        "node": np.arange(n, dtype=np.int16),
    }


@pytest.mark.parametrize("n", [0, 10, 5000])
def test_arrays_come_back_as_they_went(n: int, tmp_path: Path) -> None:
    """Type, shape and every bit, inline or as a file."""
    packed = protocol.decode(protocol.encode(protocol.pack(arrays(n), str(tmp_path / "a.npz"))))
    assert ("npz" in packed) == (n == 5000)
    found = dict(np.load(packed["npz"], allow_pickle=False)) if "npz" in packed else protocol.unpack_inline(packed)
    for name, expected in arrays(n).items():
        np.testing.assert_array_equal(expected, found[name])
        assert expected.dtype == found[name].dtype


def test_a_message_longer_than_a_line_is_refused() -> None:
    """Before it is sent."""
    with pytest.raises(AgentError, match="1 MiB"):
        protocol.encode({"text": "x" * protocol.MAX_LINE_BYTES})


@pytest.mark.parametrize("line", [b"", b"hello", b"[1]", b"\xff", b'{"a":'])
def test_what_is_no_object_is_no_message(line: bytes) -> None:
    """One kind of error for all of it."""
    with pytest.raises(ValueError):
        protocol.decode(line)
