"""The AttentiveNAS space in HADAS's encoding: 28 genes (HADAS Table II; AttentiveNAS, arXiv:2011.09011, Table 1).

Genes: resolution, 9 widths (stem, 7 stages, tail), 7 depths, 7 kernels, 4 expansions (stages 2 to 5; stage 1 has 1 and
stages 6 and 7 have 6). AttentiveNAS and HADAS both print 2.94×10^11 networks; these choices give 4.40×10^11, 3/2 of
that, so their count knows one choice of three as two. The published networks a0 to a6 are points of this space; their
published MFLOPs are met within 0.5 with a 1×1 convolution in the shortcut of each layer that changes the shape
(without it all are 2 % too small). 39 slots: stem, 37 MBConv layers, tail. 896 blocks (8 stems, 872 MBConv layers,
16 tails) and the heads of exits.
"""

from __future__ import annotations

from models.space import Space
from models.stages import Exits, Stage, StageSpace, Stem, Tail

_STAGES = (  # widths, depths, expansions, stride, squeeze-and-excitation
    ((16, 24), (1, 2), (1,), 1, False),
    ((24, 32), (3, 4, 5), (4, 5, 6), 2, False),
    ((32, 40), (3, 4, 5, 6), (4, 5, 6), 2, True),
    ((64, 72), (3, 4, 5, 6), (4, 5, 6), 2, False),
    ((112, 120, 128), (3, 4, 5, 6, 7, 8), (4, 5, 6), 1, True),
    ((192, 200, 208, 216), (3, 4, 5, 6, 7, 8), (6,), 2, True),
    ((216, 224), (1, 2), (6,), 1, True),
)


def space() -> Space:
    """ImageNet, 1000 classes; images arrive at the network's own resolution, exits from the fifth MBConv layer on."""
    return StageSpace(
        name="attentivenas",
        classes=1000,
        resolutions=(192, 224, 256, 288),
        stem=Stem(widths=(16, 24), act="swish"),
        stages=tuple(
            Stage(
                widths=widths,
                depths=depths,
                kernels=(3, 5),
                expands=expands,
                stride=stride,
                squeeze=squeeze,
                shortcut=True,
                act="swish",
            )
            for widths, depths, expands, stride, squeeze in _STAGES
        ),
        tail=Tail(expand=6, widths=(1792, 1984), act="swish"),
        exits=Exits(width=256, act="swish", first=5),
    ).space()
