"""The space of the embedded `digits32` images: from 3.8 k parameters in some microseconds to 0.7 M in half a ms.

A cascade of its networks pays: the smallest answers easy digits as well as the largest. Three stages at 16×16, 8×8 and
4×4; squeeze-and-excitation in the first two; one kernel of 5 in the last, where 5×5 sees the whole map. Depth and exits
add no blocks, so the space has far more networks than a table of it has rows.
"""

from __future__ import annotations

from models.space import Space
from models.stages import Exits, Stage, StageSpace, Stem, Tail


def space() -> Space:
    """1×32×32 images, 10 classes; exits behind every layer."""
    return StageSpace(
        name="digits",
        classes=10,
        channels=1,
        resolutions=(32,),
        stem=Stem(widths=(8, 16)),
        stages=(
            Stage(widths=(8, 24), depths=(1, 2, 3, 4), kernels=(3, 5), expands=(1, 4), squeeze=True),
            Stage(widths=(16, 48), depths=(1, 2, 3, 4, 5, 6), kernels=(3, 5), expands=(2, 4), stride=2, squeeze=True),
            Stage(widths=(24, 48, 72), depths=(1, 2, 3, 4, 5, 6), kernels=(5,), expands=(2, 4, 6), stride=2),
        ),
        tail=Tail(),
        exits=Exits(width=32),
    ).space()
