"""Budgets in words."""

from __future__ import annotations

import pytest

from hwbench.errors import ConfigError
from search.budgets import PRESETS, budget, extended
from search.strategy import Budget


def test_what_is_said_replaces_that_part_of_the_preset() -> None:
    """The rest stays the preset's."""
    found = budget("paper", inner="50x70")
    assert PRESETS["paper-each"] == found
    assert Budget(
        outer_generations=2, outer_population=5, survivors=1, inner_generations=4, inner_population=3
    ) == budget("medium", outer="5x2", inner="3×4", survivors=1)


def test_the_paper_in_both_readings() -> None:
    """448 backbones; 3,500 choices for a generation's ten together, or for each."""
    together, each = PRESETS["paper"], PRESETS["paper-each"]
    assert 448 == together.outer_population * together.outer_generations
    assert 3500 == together.survivors * together.inner_population * together.inner_generations
    assert 3500 == each.inner_population * each.inner_generations


def test_a_small_generation_keeps_fewer_survivors() -> None:
    """Unless more are asked for."""
    assert 2 == budget("small", outer="2x3").survivors
    with pytest.raises(ConfigError, match="--survivors 3: a generation has 2"):
        budget("small", outer="2x3", survivors=3)


@pytest.mark.parametrize("text", ["", "64", "64x", "x7", "64x0", "0x7", "-1x2", "64 x 7", "64x7x2", "٣x٣", "64X7\n"])
def test_a_size_that_is_none(text: str) -> None:
    """Says how one looks."""
    with pytest.raises(ConfigError, match="give POPULATIONxGENERATIONS, such as 64x7"):
        budget("small", outer=text)


def test_an_inner_search_mates() -> None:
    """So one choice alone is none."""
    with pytest.raises(ConfigError, match="2 or more"):
        budget("small", inner="1x9")


def test_only_generations_can_be_added() -> None:
    """A larger population would have begun otherwise."""
    present = budget("small", outer="8x3")
    assert budget("small", outer="8x5") == extended(present, "8x5")
    for outer in ("9x5", "8x2"):
        with pytest.raises(ConfigError, match="such as 8x6"):
            extended(present, outer)
