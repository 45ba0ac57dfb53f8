"""What single operations of a convolutional network read, weigh, compute and write, counted by hand; batch 1, no torch.

Batch normalisation is folded into the convolution before it. Shapes are (C, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence

from hwbench.workload import Op

Shape = tuple[int, int, int]


def conv(shape: Shape, out: Shape, kernel: int, groups: int = 1) -> Op:
    """A convolution with bias, dense inside each of its groups of channels."""
    weights = shape[0] * out[0] * kernel**2 // groups
    macs = weights * out[1] * out[2]
    return Op(kind="conv", macs=macs, weight_count=weights + out[0], read_count=size(shape), write_count=size(out))


def depthwise(shape: Shape, out: Shape, kernel: int) -> Op:
    """One k×k filter for each channel, with bias."""
    return Op(
        kind="dwconv",
        macs=size(out) * kernel**2,
        weight_count=out[0] * (kernel**2 + 1),
        read_count=size(shape),
        write_count=size(out),
    )


def linear(channels: int, width: int) -> Op:
    """A fully connected layer with bias."""
    return Op(
        kind="linear",
        macs=channels * width,
        weight_count=channels * width + width,
        read_count=channels,
        write_count=width,
    )


def activation(shape: Shape) -> Op:
    """Element by element."""
    return Op(kind="activation", macs=0, weight_count=0, read_count=size(shape), write_count=size(shape))


def pool(shape: Shape, out: Shape) -> Op:
    """Averages or maxima; of the whole picture where `out` is (C, 1, 1)."""
    return Op(kind="pool", macs=0, weight_count=0, read_count=size(shape), write_count=size(out))


def add(shape: Shape) -> Op:
    """Two tensors of a shape."""
    return Op(kind="add", macs=0, weight_count=0, read_count=2 * size(shape), write_count=size(shape))


def shuffle(shape: Shape) -> Op:
    """Channels in another order."""
    return Op(kind="shuffle", macs=0, weight_count=0, read_count=size(shape), write_count=size(shape))


def resize(shape: Shape, out: Shape) -> Op:
    """A picture at another size."""
    return Op(kind="resize", macs=0, weight_count=0, read_count=size(shape), write_count=size(out))


def squeeze_excite(shape: Shape, bottleneck: int) -> list[Op]:
    """Two layers look at the mean of each channel and say by what to multiply it (Hu et al., CVPR 2018)."""
    channels = shape[0]
    times = Op(kind="multiply", macs=0, weight_count=0, read_count=size(shape) + channels, write_count=size(shape))
    return [
        pool(shape, (channels, 1, 1)),
        linear(channels, bottleneck),
        activation((bottleneck, 1, 1)),
        linear(bottleneck, channels),
        activation((channels, 1, 1)),
        times,
    ]


def size(shape: Sequence[int]) -> int:
    """How many elements."""
    count = 1
    for length in shape:
        count *= length
    return count
