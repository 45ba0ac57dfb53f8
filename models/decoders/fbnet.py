"""FBNet: 22 layers, each one of nine candidates (Wu et al., CVPR 2019, tables 1 and 2), as 22 indices.

Nothing is left out by any runtime, so there is one reading; its operations are the candidates layer by layer, since
what a candidate costs depends on the layer's shapes. The ninth, `skip`, executes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from hwbench.decoder import Decoded, Reading
from hwbench.errors import ConfigError

LAYERS = 22
CANDIDATES = ("k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip")
_SKIP = CANDIDATES.index("skip")


def size() -> int:
    """How many architectures there are."""
    return len(CANDIDATES) ** LAYERS


def parse(arch: str) -> tuple[int, ...]:
    """22 indices from `[0, 8, …]`, `0 8 …`, `0-8-…` or `0,8,…`; ConfigError otherwise."""
    text = arch.strip().removeprefix("[").removesuffix("]")
    words = re.split(r"[\s,.\-]+", text.strip()) if re.fullmatch(r"[\d\s,.\-]+", text) else []
    found = tuple(int(w) for w in words if w)
    if len(found) != LAYERS or any(v >= len(CANDIDATES) for v in found):
        raise ConfigError(f"fbnet architecture {arch[:80]!r}: expected {LAYERS} numbers from 0 to {_SKIP}")
    return found


def decode(archs: Sequence[str]) -> Decoded:
    """Candidates in each layer; no output is constant, as input and output have layers of their own."""
    places = np.array([parse(a) for a in archs], dtype=np.int64).reshape(-1, LAYERS)
    counts = (places[:, :, None] == np.arange(_SKIP)).reshape(len(places), -1)
    reading = Reading(
        name="layers",
        ops=tuple(f"layer{layer}_{c}" for layer in range(LAYERS) for c in CANDIDATES[:_SKIP]),
        counts=counts.astype(np.float64),
        places=(places + 1) % len(CANDIDATES),  # of which 0 is nothing
        traits=np.stack([(places == c).sum(1) for c in range(_SKIP)], axis=1).astype(np.float64),
    )
    return Decoded(
        readings=(reading,),
        constant=np.zeros(len(places), dtype=bool),
        signs=reading.traits,
        function=(reading.traits, reading.counts),
    )
