"""models.block: what is counted by hand equals what the module holds and computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hwbench.workload import Op
from models import supernet
from models.block import Block, divisible, head_block, mbconv_block, stem_block, tail_block
from models.space import load_space

BLOCKS = [
    stem_block((3, 32, 32), 24, 16, kernel=3, stride=2, act="hswish"),
    stem_block((1, 31, 31), 31, 8, kernel=5, stride=2, act="relu"),
    mbconv_block((16, 13, 13), 24, kernel=5, expand=4, stride=2, squeeze=True, shortcut=True),
    mbconv_block((16, 8, 8), 16, kernel=3, expand=1),
    mbconv_block((24, 8, 8), 24, kernel=7, expand=6, squeeze=True, act="swish"),
    mbconv_block((24, 8, 8), 32, kernel=3, expand=2, shortcut=True, act="relu6"),
    tail_block((24, 4, 4), 10, hidden=0, last=0, act="relu"),
    tail_block((24, 4, 4), 10, hidden=96, last=0, act="hswish"),
    tail_block((24, 4, 4), 10, hidden=96, last=128, act="hswish"),
    tail_block((24, 4, 4), 10, hidden=0, last=128, act="hswish"),
    head_block((24, 8, 8), 10, width=32, kernel=3, act="hswish"),
]


def macs_by_hooks(module: nn.Module, x: torch.Tensor) -> int:
    """Multiply-accumulates of one run, from the shapes that the layers really saw."""
    total = 0

    def count(layer: nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            total += out.numel() * layer.weight[0].numel()
        elif isinstance(layer, nn.Linear):
            total += layer.weight.numel()

    for layer in module.modules():
        layer.register_forward_hook(count)
    with torch.no_grad():
        module(x)
    return total


def outcome(block: Block) -> tuple[int, int, tuple[int, ...]]:
    """Parameters, multiply-accumulates and output shape of the built module."""
    module = supernet.build(load_space("sdu"), block)
    x = torch.zeros(1, *block.in_shape)
    with torch.no_grad():
        shape = tuple(module(x).shape[1:])
    return sum(p.numel() for p in module.parameters()), macs_by_hooks(module, x), shape


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: b.key)
def test_counts_equal_the_module(block: Block) -> None:
    shape = block.out_shape if block.kind in ("stem", "mbconv") else block.out_shape[:1]
    assert (block.params, block.macs, shape) == outcome(block)


@pytest.mark.parametrize("name", ["sdu", "attentivenas"])
def test_counts_equal_the_module_for_blocks_of_a_space(name: str, rng: np.random.Generator) -> None:
    """Ten of the smaller blocks, drawn: the whole space would take minutes."""
    small = [b for b in load_space(name).blocks if b.macs < 2e7]
    for i in rng.choice(len(small), 10, replace=False):
        block = small[i]
        shape = block.out_shape if block.kind in ("stem", "mbconv") else block.out_shape[:1]
        assert (block.params, block.macs, shape) == outcome(block)


def test_folding_normalisation_leaves_a_bias_per_channel() -> None:
    """Weights as deployed: 3·3·3·8 of the convolution and 8 biases, where training holds 16 of the normalisation."""
    block = stem_block((3, 8, 8), 8, 8, kernel=3, stride=2, act="relu")
    assert 27 * 8 + 8 == sum(op.weight_count for op in block.ops)
    assert 27 * 8 + 16 == block.params


def test_a_residual_keeps_its_input_alive() -> None:
    """8 channels, 4×4, expanded to 32: the depthwise filter holds 512 in, 512 out and the 128 of the input."""
    kept = mbconv_block((8, 4, 4), 8, kernel=3, expand=4, act="relu")
    gone = mbconv_block((8, 4, 4), 16, kernel=3, expand=4, act="relu")
    assert (512 + 512 + 128, 512 + 512) == (kept.peak_activation_count, gone.peak_activation_count)
    assert (
        8
        == Block(
            key="x",
            kind="stem",
            in_shape=(1, 2, 2),
            out_shape=(1, 2, 2),
            ops=(Op(kind="conv", macs=0, weight_count=0, read_count=4, write_count=4),),
            params=0,
        ).peak_activation_count
    )


def test_keys_say_what_runs() -> None:
    assert "mbconv-16x13x13-24x7x7-k5-e4-s2-se16-sc-hswish" == BLOCKS[2].key
    assert "stem-3x32x32-r24-16x12x12-k3-s2-hswish" == BLOCKS[0].key
    assert "tail-24x4x4-h96-l128-10-hswish" == BLOCKS[8].key
    assert "head-24x8x8-h32-k3-10-hswish" == BLOCKS[10].key
    assert len(BLOCKS) == len({b.key for b in BLOCKS})


@pytest.mark.parametrize(("channels", "near"), [(8, 8), (12, 16), (3, 8), (20, 24), (17.9, 24), (96, 96), (61, 64)])
def test_channels_are_rounded_to_eights_and_never_far_down(channels: float, near: int) -> None:
    assert near == divisible(channels)
    assert divisible(channels) >= 0.9 * channels
