"""Torch on this machine's processor, and on its GPU where it has one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwbench.backend import Backend
from hwbench.backends import torch_cuda
from hwbench.errors import ConfigError, PermanentDeviceError
from hwbench.link import Link
from hwbench.links import local
from hwbench.session import Prepared, Session
from hwbench.setting import Setting
from hwbench.workload import Bundle
from tests.contracts.backend import BackendContract
from tests.contracts.session import SessionContract
from tests.hwbench.exit_graphs import CPU1, chain_plan

torch = pytest.importorskip("torch", reason="torch is not installed")
HALF = replace(CPU1, precision="fp16")
GPU = Setting(unit="gpu", precision="fp32")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device in this machine")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Two exits."""
    from tests.hwbench.torch_exits import torch_bundle

    return torch_bundle(tmp_path_factory.mktemp("torch"))


@pytest.fixture
def link(tmp_path: Path) -> Link:
    """This machine."""
    return local.open({"workdir": tmp_path / "board"})


class OnUnit(BackendContract):
    """The contract, wherever it runs."""

    @pytest.fixture
    def link(self, link: Link) -> Link:
        """The module's."""
        return link

    @pytest.fixture
    def backend(self) -> Backend:
        """As a target without options opens it."""
        return torch_cuda.open({})

    @pytest.fixture
    def bundle(self, bundle: Bundle) -> Bundle:
        """The module's."""
        return bundle


class TestTorchOnTheProcessor(OnUnit):
    """The contract with real torch."""

    @pytest.fixture
    def settings(self) -> list[Setting]:
        """fp32; fp16 answers below."""
        return [CPU1]


@pytest.mark.device
@needs_gpu
class TestTorchOnTheGpu(OnUnit):
    """The contract where each program is captured as a CUDA graph."""

    @pytest.fixture
    def settings(self) -> list[Setting]:
        """Both precisions."""
        return [GPU, replace(GPU, precision="fp16")]


class Sessions(SessionContract):
    """The contract of sessions, wherever they run."""

    setting = CPU1

    @pytest.fixture
    def session(self, link: Link) -> Iterator[Session]:
        """A real agent."""
        with torch_cuda.open({}).session(link, self.setting) as opened:
            yield opened

    @pytest.fixture
    def prepared(self, link: Link, bundle: Bundle) -> Mapping[str, Prepared]:
        """Both exits."""
        backend = torch_cuda.open({})
        return {w.block_key: backend.prepare(link, bundle, w, self.setting) for w in bundle.workloads}


class TestTorchSession(Sessions):
    """On the processor."""


@pytest.mark.device
@needs_gpu
class TestTorchSessionOnTheGpu(Sessions):
    """As captured graphs."""

    setting = GPU


def answers_as_torch_does(link: Link, bundle: Bundle, setting: Setting, folder: Path, tolerance: float) -> None:
    """first → next → next, leaving after the first where its score is above the median."""
    from tests.hwbench.torch_exits import exits

    modules = exits()
    data = np.random.default_rng(5).standard_normal((40, 3, 8, 8)).astype(np.float32)
    np.save(folder / "data.npy", data)
    with torch.no_grad():
        x, logits, scores = torch.from_numpy(data), [], []
        for key in ("first", "next", "next"):
            x, told, score = modules[key](x)
            logits.append(told.argmax(1).numpy())
            scores.append(score.numpy())
    # Between two scores that rounding cannot swap.
    ranked = np.sort(scores[0])
    gap = int(np.argmax(np.diff(ranked)[10:30])) + 10
    at = float(ranked[gap] + ranked[gap + 1]) / 2
    backend = torch_cuda.open({})
    with backend.session(link, setting) as session:
        for workload in bundle.workloads:
            session.load(backend.prepare(link, bundle, workload, setting))
        answers = session.answer(chain_plan(at, 2.0), folder / "data.npy", ())
    node = np.where(scores[0] >= at, 0, 2)
    assert {0, 2} == set(node.tolist())
    assert node.tolist() == answers.node.tolist()
    expected = np.stack(scores)[node, np.arange(40)]
    np.testing.assert_allclose(expected, answers.score, atol=tolerance)
    same = np.stack(logits)[node, np.arange(40)] == answers.answer
    assert same.mean() >= (1.0 if tolerance < 1e-4 else 0.9)


@pytest.mark.parametrize("setting", [CPU1, HALF], ids=["fp32", "fp16"])
def test_a_cascade_answers_as_torch_alone_does(link: Link, bundle: Bundle, setting: Setting, tmp_path: Path) -> None:
    """Each stage fed by the one before; a graph that stands twice keeps its outputs apart."""
    answers_as_torch_does(link, bundle, setting, tmp_path, 1e-5 if setting == CPU1 else 5e-3)


@pytest.mark.device
@needs_gpu
def test_a_cascade_answers_alike_as_captured_graphs(link: Link, bundle: Bundle, tmp_path: Path) -> None:
    """Each graph reads the output of the one before in place."""
    answers_as_torch_does(link, bundle, GPU, tmp_path, 1e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_machine_without_a_gpu_says_so_in_one_line(link: Link, bundle: Bundle) -> None:
    """When the first workload is prepared, with what to check."""
    with pytest.raises(PermanentDeviceError, match=r"finds no CUDA device; check nvidia-smi") as caught:
        torch_cuda.open({}).prepare(link, bundle, bundle.workload("first"), GPU)
    assert 4 == caught.value.exit_code
    assert "\n" not in str(caught.value)


def test_a_python_without_torch_is_named(tmp_path: Path) -> None:
    """With its own last words and what to install."""
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\necho 'ModuleNotFoundError: No module named torch' >&2\nexit 1\n")
    bare.chmod(0o755)
    link = local.open({"workdir": tmp_path / "board", "python": str(bare)})
    with pytest.raises(PermanentDeviceError, match=r"cannot import torch \(ModuleNotFoundError.*extra `cuda`"):
        torch_cuda.open({}).session(link, GPU)


def test_a_processor_needs_a_number_of_threads(link: Link) -> None:
    """As with every other runtime on a processor."""
    with pytest.raises(ConfigError, match="threads"):
        torch_cuda.open({}).session(link, replace(CPU1, threads=None))


def test_another_batch_than_exported_is_refused(link: Link, bundle: Bundle) -> None:
    """A row of batch 4 must not hold times of batch 1."""
    setting = replace(CPU1, batch=4)
    backend = torch_cuda.open({})
    with (
        backend.session(link, setting) as session,
        pytest.raises(PermanentDeviceError, match="made for batch 1, not 4"),
    ):
        session.load(backend.prepare(link, bundle, bundle.workload("first"), setting))
