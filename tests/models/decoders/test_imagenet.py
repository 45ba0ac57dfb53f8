"""models.decoders.imagenet: each network computes what the same network built by timm computes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hwbench.errors import ConfigError
from models.decoders.imagenet import KINDS, decode, operations
from models.vision import import_timm
from tests.models.test_block import macs_by_hooks


@pytest.mark.parametrize(
    ("arch", "built", "side"),
    [
        ("mobilenet-v1-1.0-224", "mobilenetv1_100", 224),
        ("mobilenet-v2-1.0-192", "mobilenetv2_100", 192),
        ("mobilenet-v2-1.4-224", "mobilenetv2_140", 224),
        ("mobilenet-v3-large_224_1.0", "tf_mobilenetv3_large_100", 224),
        ("mobilenet-v3-large_224_0.75", "tf_mobilenetv3_large_075", 224),
        ("mobilenet-v3-large-minimalistic_224_1.0", "tf_mobilenetv3_large_minimal_100", 224),
        ("mobilenet-v3-small_224_1.0", "tf_mobilenetv3_small_100", 224),
        ("efficientnet-lite0", "tf_efficientnet_lite0", 224),
        ("efficientnet-lite4", "tf_efficientnet_lite4", 300),
        ("resnet50", "resnet50", 224),
    ],
)
def test_a_network_computes_what_timm_builds(arch: str, built: str, side: int) -> None:
    """To the last multiply-accumulate; its weights but for two or four numbers a channel of batch normalisation."""
    with torch.device("meta"):
        network: nn.Module = import_timm().create_model(built, num_classes=1001).eval()
        expected = macs_by_hooks(network, torch.zeros(1, 3, side, side))
    ops = operations(arch)
    assert expected == sum(op.macs for op in ops)
    weights = sum(op.weight_count for op in ops)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(weights, rel=0.01)


def test_smaller_and_plainer_networks_do_less() -> None:
    """A narrower one, one that sees less, and one without squeeze-and-excitation."""
    archs = ["mobilenet-v3-large_224_1.0", "mobilenet-v3-large_224_0.75", "mobilenet-v3-large-minimalistic_224_1.0"]
    full, narrow, plain = ([op.kind for op in operations(arch)] for arch in archs)
    assert len(full) == len(narrow) > len(plain)
    assert "multiply" in full and "multiply" not in plain
    wide, less = (sum(op.macs for op in operations(f"mobilenet-v2-1.0-{side}")) for side in (224, 192))
    assert less / wide == pytest.approx((192 / 224) ** 2, rel=0.02)


def test_endings_tell_the_precision_only() -> None:
    """As submitters write them; counts by kind add up to the operations."""
    archs = ("efficientnet-lite1", "efficientnet-lite1-quantized", "efficientnet-lite1-non-quantized")
    (reading,) = decode(archs).readings
    assert (reading.counts == reading.counts[0]).all()
    assert KINDS == reading.ops
    assert reading.executed is not None
    assert reading.counts.sum(axis=1).tolist() == reading.executed.times.sum(axis=1).tolist()
    assert not decode(archs).constant.any()


@pytest.mark.parametrize("arch", ["", "mobilenet-v4-1.0-224", "efficientnet-lite9", "mobilenet-v2-1.0", "resnet18"])
def test_other_names_are_refused(arch: str) -> None:
    """With those that are known."""
    with pytest.raises(ConfigError, match="expected mobilenet-v1-WIDTH-SIDE"):
        decode([arch])
