"""models.decoders.fbnet: 22 indices, and what they execute."""

from __future__ import annotations

import pytest

from hwbench.errors import ConfigError
from models.decoders.fbnet import decode, parse, size


@pytest.mark.parametrize("between", [" ", ",", ", ", "-"])
def test_indices_are_read_however_they_are_separated(between: str) -> None:
    """With or without brackets."""
    text = between.join(["0", "8"] * 11)
    assert (0, 8) * 11 == parse(text) == parse(f"[{text}]")


@pytest.mark.parametrize("text", ["", "0 1", "0 " * 21 + "9", "0 " * 21 + "x", "0 " * 23])
def test_another_number_of_layers_or_candidates_is_refused(text: str) -> None:
    """With what is expected."""
    with pytest.raises(ConfigError, match="22 numbers from 0 to 8"):
        parse(text)


def test_skips_execute_nothing() -> None:
    """All else is counted in its layer."""
    (reading,) = decode(["8 " * 21 + "3", "8 " * 22]).readings
    assert [1, 0] == reading.counts.sum(axis=1).tolist()
    assert 1 == reading.counts[0, reading.ops.index("layer21_k3_e6")]
    assert 9**22 == size()
