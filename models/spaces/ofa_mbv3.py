"""The space of once-for-all's MobileNetV3 at width 1.0 (Cai et al., ICLR 2020, §4.1; arXiv:1908.09791).

Five units of two to four layers, each layer with its own kernel (3, 5, 7) and expansion (3, 4, 6), and sides from 128
to 224 in steps of 4. Kernels and expansions of layers that the depth leaves out are inert, so a unit has
9² + 9³ + 9⁴ = 7,371 forms and the space 7,371⁵ ≈ 2.18×10^19 for each of its 25 resolutions; the paper prints 2×10^19.
Widths, strides, activations and squeeze-and-excitation are those of MobileNetV3-Large, as in OFA's published code; one
fixed layer stands between stem and units. Unlike there, the layer before the classifier has a bias.
"""

from __future__ import annotations

from models.space import Space
from models.stages import Exits, Stage, StageSpace, Stem, Tail

_UNITS = (  # width, stride, squeeze-and-excitation, activation
    (24, 2, False, "relu"),
    (40, 2, True, "relu"),
    (80, 2, False, "hswish"),
    (112, 1, True, "hswish"),
    (160, 2, True, "hswish"),
)


def space() -> Space:
    """ImageNet, 1000 classes; images arrive at the network's own resolution, exits from the fifth layer on."""
    fixed = Stage(widths=(16,), depths=(1,), kernels=(3,), expands=(1,), act="relu")
    units = tuple(
        Stage(
            widths=(width,),
            depths=(2, 3, 4),
            kernels=(3, 5, 7),
            expands=(3, 4, 6),
            stride=stride,
            squeeze=squeeze,
            per_layer=True,
            act=act,
        )
        for width, stride, squeeze, act in _UNITS
    )
    return StageSpace(
        name="ofa_mbv3",
        classes=1000,
        resolutions=tuple(range(128, 225, 4)),
        stem=Stem(widths=(16,)),
        stages=(fixed, *units),
        tail=Tail(expand=6, widths=(1280,)),
        exits=Exits(width=256, first=5),
    ).space()
