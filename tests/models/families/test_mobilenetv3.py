"""models.families.mobilenetv3: the elastic network is each of its subnets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hwbench.errors import ConfigError
from models import supernet
from models.block import mbconv_block
from models.families.mobilenetv3 import MobileNetV3
from models.space import Gene, Slot, Space, load_space
from models.stages import Exits, Stage, StageSpace, Stem, Tail

SMALL = StageSpace(
    name="small",
    classes=5,
    channels=1,
    resolutions=(12, 16, 20),
    native=16,
    stem=Stem(widths=(8, 12), kernel=5),
    stages=(
        Stage(widths=(8, 12), depths=(1, 2), kernels=(3, 5), expands=(1, 2), squeeze=True, act="relu"),
        Stage(widths=(12, 24), depths=(1, 3), kernels=(3, 5, 7), expands=(2, 4), stride=2, shortcut=True, act="swish"),
        Stage(widths=(16,), depths=(2,), kernels=(3,), expands=(3,), act="relu6"),
    ),
    tail=Tail(expand=2, widths=(24, 32)),
    exits=Exits(width=8),
).space()


def warm(space: Space) -> MobileNetV3:
    """A supernet whose normalisation has seen data, so that a wrong channel shows."""
    net = supernet.create(space, seed=3)
    assert isinstance(net, MobileNetV3)
    for parameter in net.parameters():
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    with torch.no_grad():
        for genes in (space.largest(), *space.sample(3, np.random.default_rng(1))):
            net(torch.randn(8, space.blocks[0].in_shape[0], 16, 16), genes)
    return net.eval()


@pytest.fixture(scope="module")
def net() -> MobileNetV3:
    torch.manual_seed(0)
    return warm(SMALL)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_supernet_answers_as_the_extracted_network(net: MobileNetV3, data: st.DataObject) -> None:
    genes = SMALL.canonical([data.draw(st.integers(0, n - 1)) for n in SMALL.sizes])[0]
    x = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        shared, own = net(x, genes), supernet.run(net.extract(genes), x)
    assert (2, 5) == tuple(own.shape)
    assert own.abs().max() > 1e-3
    assert torch.allclose(shared, own, atol=1e-5, rtol=1e-5)


def test_in_training_both_see_the_same_batch_statistics(net: MobileNetV3) -> None:
    genes, x = SMALL.largest(), torch.randn(4, 1, 16, 16)
    twin = warm(SMALL).train()
    parts = twin.extract(genes)
    assert all(part.module.training for part in parts)
    with torch.no_grad():
        assert torch.allclose(twin(x, genes), supernet.run(parts, x), atol=1e-4)


def test_extracted_weights_share_no_memory(net: MobileNetV3, rng: np.random.Generator) -> None:
    def memory(modules: list[torch.nn.Module]) -> set[int]:
        tensors = [t for m in modules for t in (*m.parameters(), *m.buffers())]
        return {t.untyped_storage().data_ptr() for t in tensors}

    for genes in SMALL.sample(5, rng):
        first, second = ([p.module for p in net.extract(genes)] for _ in range(2))
        assert not memory(first) & memory([net])
        assert not memory(first) & memory(second)


def test_parts_are_the_running_slots_with_their_parameters(net: MobileNetV3, rng: np.random.Generator) -> None:
    for genes in SMALL.sample(10, rng):
        parts = net.extract(genes)
        ids = SMALL.block_ids(genes[None])[0]
        assert [(i,) for i, b in enumerate(ids) if b >= 0] == [p.slots for p in parts]
        assert [SMALL.blocks[b] for b in ids if b >= 0] == [p.block for p in parts]
        count = sum(t.numel() for p in parts for t in p.module.parameters())
        assert SMALL.params(genes[None])[0] == count
        x = torch.zeros(1, *parts[0].in_shape)
        for part in parts[:-1]:
            x = part.module(x)
            assert part.out_shape == tuple(x.shape[1:])


def test_a_gradient_reaches_only_the_part_in_use(net: MobileNetV3) -> None:
    twin = supernet.create(SMALL, seed=0)
    twin(torch.randn(2, 1, 16, 16), SMALL.smallest()).sum().backward()
    depthwise = twin.layers[1].depthwise.conv.weight.grad
    assert depthwise[:8, :, 1:4, 1:4].abs().max() > 0
    assert depthwise[8:].abs().max() == 0
    assert depthwise[:, :, 0].abs().max() == 0
    assert twin.layers[2].depthwise.conv.weight.grad is None


def test_images_are_scaled_to_the_resolution(net: MobileNetV3) -> None:
    genes = SMALL.smallest()
    stem = net.extract(genes)[0]
    assert (12, (8, 6, 6)) == (stem.block.resize, stem.out_shape)
    x = torch.randn(1, 1, 16, 16)
    scaled = torch.nn.functional.interpolate(x, size=(12, 12), mode="bilinear", align_corners=False)
    with torch.no_grad():
        assert torch.allclose(net(x, genes), net(scaled, genes), atol=1e-6)


@pytest.mark.parametrize("name", ["sdu", "attentivenas"])
def test_every_slot_of_a_built_in_space_can_be_realised(name: str) -> None:
    """On the meta device: shapes and names of all layers without their memory."""
    space = load_space(name)
    with torch.device("meta"):
        whole = MobileNetV3(space)
        for slot, layer in zip(space.slots, whole.layers, strict=True):
            shapes = {n: t.shape for n, t in layer.state_dict().items()}
            for b in np.unique(slot.block[slot.block >= 0])[::7]:
                own = type(layer)(space.blocks[b]).state_dict()
                assert set(own) <= set(shapes)
                assert all(a <= n for k, t in own.items() for a, n in zip(t.shape, shapes[k], strict=True))


def test_the_sdu_supernet_answers_as_its_extracted_networks(rng: np.random.Generator) -> None:
    space = load_space("sdu")
    whole = supernet.create(space).eval()
    x = torch.randn(2, 3, 32, 32)
    for genes in (space.smallest(), *space.sample(2, rng)):
        with torch.no_grad():
            assert torch.allclose(whole(x, genes), supernet.run(whole.extract(genes), x), atol=1e-5)


def test_blocks_that_cannot_share_weights_are_refused() -> None:
    blocks = (mbconv_block((8, 4, 4), 8, kernel=3, expand=2), mbconv_block((8, 4, 4), 8, kernel=3, expand=2, stride=2))
    space = Space(
        name="odd",
        genes=(Gene(name="stride", values=(1, 2), group="stride"),),
        slots=(Slot(genes=(0,), block=np.array([0, 1])),),
        blocks=blocks,
    )
    with pytest.raises(ConfigError, match="cannot share weights"):
        MobileNetV3(space)
