"""A trained network with exits as a bundle: its plan, walked by the runtime, answers as torch does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from hwbench.errors import ConfigError
from hwbench.onnx_graph import runtime_session
from hwbench.workload import Bundle, Preprocessing
from models import exits, supernet
from models.export import deployment
from models.export.tflite_format import channels_last, outputs
from models.space import Space
from models.stages import Exits, Stage, StageSpace, Stem

SPACE: Space = StageSpace(
    name="tiny",
    classes=3,
    channels=1,
    resolutions=(8,),
    stem=Stem(widths=(8,)),
    stages=(
        Stage(widths=(8,), depths=(1, 2), kernels=(3,), expands=(2,), squeeze=True),
        Stage(widths=(16,), depths=(2,), kernels=(3,), expands=(2,), stride=2),
    ),
    exits=Exits(width=8, first=1),
).space()
GENES = tuple(int(g) for g in SPACE.largest())
DATA = Preprocessing(shape=(1, 8, 8), mean=(0.5,), std=(0.25,), labels=("a", "b", "c"))
PLACED = (1, 2)


@pytest.fixture
def network() -> exits.ExitNetwork:
    """A network whose batch statistics are those of its inputs, with heads behind all positions."""
    net = supernet.create(SPACE, seed=1)
    torch.manual_seed(0)
    with torch.no_grad():
        for _ in range(20):
            net(torch.randn(32, 1, 8, 8), GENES)
    return exits.ExitNetwork(net.extract(GENES), exits.new_heads(SPACE, GENES)).eval()


@pytest.fixture
def images() -> torch.Tensor:
    """Twenty inputs."""
    return torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(3))


def deploy(network: exits.ExitNetwork, images: torch.Tensor, out: Path, **changed: Any) -> Bundle:
    """The bundle of two exits and the final classifier."""
    asked: dict[str, Any] = {"placed": PLACED, "thresholds": (0.6, 0.5), "formats": ("onnx",), **changed}
    placed, thresholds = asked.pop("placed"), asked.pop("thresholds")
    return deployment(SPACE, GENES, network, placed, thresholds, out=out, data=DATA, images=images, **asked)


def test_the_plan_is_a_chain_that_leaves_by_score(
    network: exits.ExitNetwork, images: torch.Tensor, tmp_path: Path
) -> None:
    """One node a stage, each fed by the one before; the last is never left early."""
    bundle = deploy(network, images, tmp_path / "bundle")
    assert Bundle.read(tmp_path / "bundle") == bundle
    (plan,) = bundle.plans
    assert [(n.node, n.after, n.leave and n.leave.at) for n in plan.nodes] == [
        ("exit1", None, 0.6),
        ("exit2", "exit1", 0.5),
        ("final", "exit2", None),
    ]
    assert all(n.answers for n in plan.nodes)
    assert all(n.leave.output == "score" for n in plan.nodes if n.leave)
    assert bundle.data == DATA


def test_walking_the_plan_answers_as_torch_does(
    network: exits.ExitNetwork, images: torch.Tensor, tmp_path: Path
) -> None:
    """Every stage's logits and scores on real inputs, fed through the exported chain."""
    bundle = deploy(network, images, tmp_path / "bundle")
    (plan,) = bundle.plans
    with torch.no_grad():
        expected = [network(images)[i] for i in (0, 1, -1)]
    for n, image in enumerate(images):
        x = image[None].numpy()
        for stage, node in enumerate(plan.nodes):
            session = runtime_session(onnx.load(bundle.path(bundle.workload(node.block_key), "onnx")))
            x, logits, score = session.run(["features", "logits", "score"], {session.get_inputs()[0].name: x})
            np.testing.assert_allclose(logits[0], expected[stage][n].numpy(), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(score[0], expected[stage][n].softmax(-1).max().item(), rtol=1e-4)


def test_tflite_chains_channels_last_and_int8_answers_alike(
    network: exits.ExitNetwork, images: torch.Tensor, tmp_path: Path
) -> None:
    """The image enters as everywhere, features travel channels last; int8 agrees with float on most inputs."""
    bundle = deploy(network, images, tmp_path / "b", placed=(2,), thresholds=(0.5,), formats=("tflite", "tflite_int8"))
    with torch.no_grad():
        expected = [network(images)[i] for i in (1, -1)]
    first, last = (bundle.workload(node.block_key) for node in bundle.plans[0].nodes)
    agree = 0
    for n, image in enumerate(images):
        for format in ("tflite", "tflite_int8"):
            features, early, score = outputs(bundle.path(first, format).read_bytes(), image[None].numpy())
            _, late, _ = outputs(bundle.path(last, format).read_bytes(), features)
            assert features.shape == channels_last(torch.zeros(first.outputs[0].shape)).shape
            if format == "tflite":
                np.testing.assert_allclose(early[0], expected[0][n].numpy(), rtol=1e-4, atol=1e-4)
                np.testing.assert_allclose(late[0], expected[1][n].numpy(), rtol=1e-4, atol=1e-4)
                np.testing.assert_allclose(score, expected[0][n].softmax(-1).max().item(), rtol=1e-4)
            else:
                agree += int(late[0].argmax() == expected[1][n].argmax())
    assert agree >= 16


def test_without_exits_the_network_is_one_segment(
    network: exits.ExitNetwork, images: torch.Tensor, tmp_path: Path
) -> None:
    """A static design is a plan of one node."""
    bundle = deploy(network, images, tmp_path / "bundle", placed=(), thresholds=())
    assert [n.node for n in bundle.plans[0].nodes] == ["final"]
    assert len(bundle.workloads) == 1


def test_deploying_twice_gives_the_same_bytes(
    network: exits.ExitNetwork, images: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an empty cache each time."""
    first = deploy(network, images, tmp_path / "a")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    assert first.workloads == deploy(network, images, tmp_path / "b").workloads


def test_other_weights_are_another_file_under_the_same_key(
    network: exits.ExitNetwork, images: torch.Tensor, tmp_path: Path
) -> None:
    """The key says what runs; the cache tells weights apart."""
    before = deploy(network, images, tmp_path / "a").workloads[0]
    with torch.no_grad():
        network.heads["1"].classifier.bias.add_(1)
    after = deploy(network, images, tmp_path / "b").workloads[0]
    assert after.block_key == before.block_key
    assert after.artifacts["onnx"].sha256 != before.artifacts["onnx"].sha256


def test_what_does_not_fit_is_refused(network: exits.ExitNetwork, images: torch.Tensor, tmp_path: Path) -> None:
    """Thresholds, order, positions without head, images of another shape."""
    with pytest.raises(ConfigError, match="one each"):
        deploy(network, images, tmp_path, thresholds=(0.5,))
    with pytest.raises(ConfigError, match="in order"):
        deploy(network, images, tmp_path, placed=(2, 1))
    with pytest.raises(ConfigError, match=r"no exit behind slots \[7\]"):
        deploy(network, images, tmp_path, placed=(1, 7))
    with pytest.raises(ConfigError, match="do not fit inputs"):
        deploy(network, images[:, :, :4], tmp_path)
