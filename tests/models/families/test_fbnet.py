"""models.families.fbnet: candidates of their own, extracted and exported as they compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from hwbench.errors import ConfigError
from hwbench.onnx_graph import runtime_session
from hwbench.wrap import wrap
from models import supernet
from models.block import head_block, inverted_block, mbconv_block, reduce_block, stem_block, tail_block
from models.export import exporter
from models.families.fbnet import build, shuffled
from models.space import Gene, Slot, Space

SHAPE = (8, 6, 6)
BLOCKS = (
    stem_block((1, 12, 12), 12, 8, kernel=3, stride=2, act="relu"),
    inverted_block(SHAPE, 8, kernel=3, expand=1, stride=1, groups=2),
    inverted_block(SHAPE, 8, kernel=5, expand=3, stride=1, groups=1),
    inverted_block(SHAPE, 12, kernel=3, expand=1, stride=2, groups=2),
    reduce_block(SHAPE, 12, stride=2),
    tail_block((12, 3, 3), 4, hidden=16, last=0, act="relu"),
    head_block(SHAPE, 4, width=8, kernel=1, act="relu"),
)
SMALL = Space(
    name="small",
    family="fbnet",
    genes=tuple(Gene(name=f"layer.{i}", values=values, group="candidate") for i, values in
                enumerate((("skip", "k3_e1_g2", "k5_e3"), ("skip", "k3_e1_g2")))),
    slots=(
        Slot(genes=(), block=np.array(0)),
        Slot(genes=(0,), block=np.array([-1, 1, 2])),
        Slot(genes=(1,), block=np.array([4, 3])),
        Slot(genes=(), block=np.array(5)),
    ),
    blocks=BLOCKS,
    positions=(1,),
    heads=(Slot(genes=(0,), block=np.array([-1, 6, 6])),),
)  # fmt: skip
EVERY = [(a, b) for a in range(3) for b in range(2)]


def test_each_subnet_taken_out_answers_as_the_supernet() -> None:
    """Also after training has moved the normalisation."""
    net = supernet.create(SMALL, seed=2)
    assert isinstance(net, supernet.Supernet)
    x = torch.randn(4, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for genes in EVERY:
            net.train()(x, genes)
        answers = []
        for genes in EVERY:
            shared, own = net.eval()(x, genes), supernet.run(net.extract(genes), x)
            torch.testing.assert_close(shared, own)
            answers.append(shared)
    assert all(not torch.allclose(answers[0], other) for other in answers[1:])


def test_what_is_counted_by_hand_is_what_the_exported_graph_holds(tmp_path: Path) -> None:
    """Parameters, multiply-accumulates in groups, and the answers, of every block."""
    SMALL.write(tmp_path / "small.json")
    bundle = exporter(f"space:{tmp_path / 'small.json'}", formats=("onnx",), out=tmp_path / "bundle")
    for i, block in enumerate(BLOCKS):
        module, workload = build(block), bundle.workload(block.key)
        assert block.params == sum(p.numel() for p in module.parameters())
        assert block.macs == wrap(bundle.path(workload, "onnx"), tmp_path / f"{i}").workloads[-1].macs
        x = torch.randn(1, *block.in_shape)
        session = runtime_session(onnx.load(bundle.path(workload, "onnx")))
        (found,) = session.run([workload.outputs[0].name], {workload.inputs[0].name: x.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(found, module(x).numpy(), rtol=1e-4, atol=1e-5)


def test_shuffling_interleaves_the_groups() -> None:
    """Each of the next groups has channels of both."""
    x = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert [0, 3, 1, 4, 2, 5] == shuffled(x, 2).flatten().tolist()
    assert shuffled(x, 1) is x


def test_a_block_of_another_family_is_refused() -> None:
    """By its kind."""
    with pytest.raises(ConfigError, match="kind 'mbconv' is none of stem, inverted"):
        build(mbconv_block(SHAPE, 8, kernel=3, expand=2))
