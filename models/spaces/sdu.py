"""The search space of "Neural Architecture Search for Dynamic Inference" (SDU), §3.2.

The paper gives a fixed stem, N searchable blocks and, for each, width ×{0.25, 0.5, 0.75, 1}, depth 1–4, kernel 3/5/7
and expansion 1/2/4/6; it leaves N, the full widths, strides, activations and the stem open. Ours: N = 5 stages in the
manner of MobileNetV3-Large (ReLU early, hard-swish late, squeeze-and-excitation in stages 2, 4 and 5) for the 32×32
images of CIFAR, hence a stem of stride 1 and three halvings. Its "little classifier" is an exit; exits stand behind
every layer but the last.
"""

from __future__ import annotations

from models.space import Space
from models.stages import Exits, Stage, StageSpace, Stem, Tail

_SCALES = (0.25, 0.5, 0.75, 1.0)
_STAGES = (  # full width, stride, squeeze-and-excitation, activation
    (32, 1, False, "relu"),
    (48, 2, True, "relu"),
    (80, 2, False, "hswish"),
    (112, 1, True, "hswish"),
    (160, 2, True, "hswish"),
)


def space() -> Space:
    """20 genes, (4 widths × 4 depths × 3 kernels × 4 expansions)^5 = 192^5 subnets; 3×32×32 images, 10 classes."""
    return StageSpace(
        name="sdu",
        classes=10,
        resolutions=(32,),
        stem=Stem(widths=(16,), stride=1),
        stages=tuple(
            Stage(
                widths=tuple(int(width * scale) for scale in _SCALES),
                depths=(1, 2, 3, 4),
                kernels=(3, 5, 7),
                expands=(1, 2, 4, 6),
                stride=stride,
                squeeze=squeeze,
                act=act,
            )
            for width, stride, squeeze, act in _STAGES
        ),
        tail=Tail(expand=4, widths=(512,)),
        exits=Exits(width=64),
    ).space()
