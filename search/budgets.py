"""How much a search may ask, in words: presets, and sizes such as `64x7`."""

from __future__ import annotations

import re
from dataclasses import replace

from hwbench.errors import ConfigError, nearest
from search.strategy import Budget

PRESETS = {
    "small": Budget(outer_generations=3, outer_population=10, survivors=3, inner_generations=20, inner_population=50),
    "medium": Budget(outer_generations=6, outer_population=24, survivors=6, inner_generations=50, inner_population=100),
    # HADAS says 450 outer and 3,500 inner evaluations. Its published configuration has 64 backbones × 7 generations,
    # and for the best 10 of each 50 choices × 7 generations inside: 3,500 are those of one generation together.
    "paper": Budget(outer_generations=7, outer_population=64, survivors=10, inner_generations=7, inner_population=50),
    # The other reading: 3,500 for each backbone that survives.
    "paper-each": Budget(
        outer_generations=7, outer_population=64, survivors=10, inner_generations=70, inner_population=50
    ),
}

_SIZE = re.compile(r"([1-9]\d{0,5})[x×]([1-9]\d{0,5})", re.ASCII)


def budget(name: str, *, outer: str | None = None, inner: str | None = None, survivors: int | None = None) -> Budget:
    """The preset of that name with what is said beside it; outer, inner: POPULATIONxGENERATIONS.

    Raises ConfigError for an unknown name, a size that is none, or more survivors than there are backbones.
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown budget {name!r}{nearest(name, PRESETS)}")
    found = PRESETS[name]
    if outer is not None:
        population, generations = size("--outer", outer)
        found = replace(found, outer_population=population, outer_generations=generations)
    if inner is not None:
        population, generations = size("--inner", inner)
        if population < 2:
            raise ConfigError(f"--inner {inner}: an inner search mates, so its population is 2 or more")
        found = replace(found, inner_population=population, inner_generations=generations)
    # What a preset keeps of its generations is no wish of the user's, so a smaller generation keeps fewer.
    found = replace(found, survivors=survivors or min(found.survivors, found.outer_population))
    if found.survivors > found.outer_population:
        raise ConfigError(f"--survivors {survivors}: a generation has {found.outer_population} backbones")
    return found


def size(option: str, text: str) -> tuple[int, int]:
    """(population, generations) of `64x7`; ConfigError otherwise."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ConfigError(f"{option} {text!r}: give POPULATIONxGENERATIONS, such as 64x7")
    return int(match[1]), int(match[2])


def extended(present: Budget, outer: str) -> Budget:
    """More generations of the same population; ConfigError where a search could not have begun that way."""
    population, generations = size("--outer", outer)
    if population != present.outer_population or generations < present.outer_generations:
        asked = f"{present.outer_population}x{present.outer_generations}"
        raise ConfigError(
            f"--outer {outer}: the run has {asked}, which can only get more generations, such as "
            f"{present.outer_population}x{2 * present.outer_generations}; for other sizes start a new run"
        )
    return replace(present, outer_generations=generations)
