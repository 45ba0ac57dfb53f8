"""A trained network with exits as a bundle: its plan, walked by the runtime, answers as torch does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from hwbench import plugin
from hwbench.deploy import run_plan
from hwbench.errors import ConfigError
from hwbench.links import local
from hwbench.onnx_graph import runtime_session
from hwbench.session import Prepared, Session
from hwbench.setting import Setting
from hwbench.workload import Bundle, Leave, Patience, Preprocessing, Workload
from models import exits, supernet
from models.export import deployment
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
    # Gates as they are made would say nearly the same of every input.
    gates = exits.new_gates(SPACE, GENES)
    for gate in gates.values():
        torch.nn.init.normal_(gate.hidden.weight, 0, 0.3, torch.Generator().manual_seed(5))
        torch.nn.init.normal_(gate.out.weight, 0, 0.3, torch.Generator().manual_seed(6))
    return exits.ExitNetwork(net.extract(GENES), exits.new_heads(SPACE, GENES), gates).eval()


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
    assert all(n.leave.output == "score" for n in plan.nodes if isinstance(n.leave, Leave))
    assert 1 == json.loads((tmp_path / "bundle" / "bundle.json").read_text())["schema"]
    assert bundle.data == DATA


def test_a_patient_plan_counts_exits_in_a_row(network: exits.ExitNetwork, images: torch.Tensor, tmp_path: Path) -> None:
    """The same number at every exit, none at the last stage; such a bundle says that older versions cannot run it."""
    bundle = deploy(network, images, tmp_path / "bundle", thresholds=(2.0, 2.0), patience=True)
    assert Bundle.read(tmp_path / "bundle") == bundle
    (plan,) = bundle.plans
    assert [node.leave for node in plan.nodes] == [Patience(agree=2), Patience(agree=2), None]
    assert 2 == json.loads((tmp_path / "bundle" / "bundle.json").read_text())["schema"]


@pytest.mark.parametrize("score_name", [*exits.SCORES, "learned"])
def test_walking_the_plan_answers_as_torch_does(
    network: exits.ExitNetwork, images: torch.Tensor, tmp_path: Path, score_name: str
) -> None:
    """Every stage's logits and scores on real inputs, fed through the exported chain, whatever decides."""
    bundle = deploy(network, images, tmp_path / "bundle", score=score_name)
    (plan,) = bundle.plans
    with torch.no_grad():
        expected = [network(images)[i] for i in (0, 1, -1)]
    for n, image in enumerate(images):
        x = image[None].numpy()
        for stage, node in enumerate(plan.nodes):
            session = runtime_session(onnx.load(bundle.path(bundle.workload(node.block_key), "onnx")))
            x, logits, score = session.run(["features", "logits", "score"], {session.get_inputs()[0].name: x})
            np.testing.assert_allclose(logits[0], expected[stage][n].numpy(), rtol=1e-4, atol=1e-5)
            judge = network.score(score_name, (*PLACED, None)[stage])
            surety = judge(expected[stage][n][None]).item()
            np.testing.assert_allclose(score[0], surety, rtol=1e-4, atol=1e-6)


class Host:
    """This machine with one runtime."""

    def __init__(self, runtime: str) -> None:
        self.link = local.open({})
        self.backend = plugin.load("hwbench.backends", runtime).open({})

    def prepare_together(self, bundle: Bundle, workloads: Sequence[Workload], setting: Setting) -> list[Prepared]:
        """The files on the board."""
        return self.backend.prepare_together(self.link, bundle, workloads, setting)

    def session(self, setting: Setting) -> Session:
        """A fresh agent."""
        return self.backend.session(self.link, setting)


@pytest.mark.parametrize(
    ("runtime", "precision", "format", "score_name"),
    [
        ("onnxruntime", "fp32", "onnx", "max_softmax"),
        ("onnxruntime", "int8", "onnx_int8", "max_softmax"),
        ("litert", "int8", "tflite_int8", "max_softmax"),
        ("torch_cuda", "fp32", "pt2", "max_softmax"),
        ("onnxruntime", "fp32", "onnx", "learned"),
        ("onnxruntime", "int8", "onnx_int8", "learned"),
        ("litert", "int8", "tflite_int8", "learned"),
        ("litert", "fp32", "tflite", "margin"),
    ],
)
def test_a_board_leaves_where_torch_does(
    network: exits.ExitNetwork,
    images: torch.Tensor,
    tmp_path: Path,
    runtime: str,
    precision: str,
    format: str,
    score_name: str,
) -> None:
    """A real agent walks the plan: same exits and answers as a loop in torch; int8 nearly so."""
    with torch.no_grad():
        early, late = (network(images)[i] for i in (2, -1))
        scores = network.score(score_name, 3)(early)
    two = scores.sort().values[[9, 10]]
    at = float(two.mean())  # in the middle of the gap between two inputs, half of them leave
    asked = {"placed": (3,), "thresholds": (at,), "formats": (format,), "score": score_name}
    bundle = deploy(network, images, tmp_path / "b", **asked)
    setting = Setting(unit="cpu", precision=precision, threads=1)
    answers = run_plan(Host(runtime), bundle, bundle.plans[0], setting, images.numpy())
    leaves = (scores >= at).numpy()
    expected = np.where(leaves, early.argmax(-1).numpy(), late.argmax(-1).numpy())
    same = (answers.answer == expected) & (answers.node == np.where(leaves, 0, 1))
    found = answers.node_scores[:, 0]
    if precision == "int8":
        # An untrained network scores all inputs alike, so a few of those near the threshold change sides.
        assert same.mean() >= 0.75
        assert np.abs(found - scores.numpy()).max() < 0.02
        assert len(np.unique(found)) > 10  # a real number, not one of a few steps
    else:
        assert same.all()
        np.testing.assert_allclose(found, scores.numpy(), atol=1e-5)
    assert set(answers.node.tolist()) == {0, 1}


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
