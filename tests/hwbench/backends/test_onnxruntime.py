"""ONNX Runtime on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwbench.backend import Backend
from hwbench.backends import onnxruntime
from hwbench.errors import ConfigError
from hwbench.link import Link
from hwbench.links import local
from hwbench.setting import Setting
from hwbench.workload import Bundle
from tests.contracts.backend import BackendContract
from tests.hwbench.exit_graphs import CPU1, onnx_bundle


class TestOnnxRuntime(BackendContract):
    """The contract with the real runtime."""

    @pytest.fixture
    def link(self, tmp_path: Path) -> Link:
        """This machine."""
        return local.open({"workdir": tmp_path / "board"})

    @pytest.fixture
    def backend(self) -> Backend:
        """As a target without options opens it."""
        return onnxruntime.open({})

    @pytest.fixture
    def bundle(self, tmp_path: Path) -> Bundle:
        """Two exits."""
        return onnx_bundle(tmp_path / "bundle")

    @pytest.fixture
    def settings(self) -> list[Setting]:
        """fp32 on one and on two threads."""
        return [CPU1, Setting(unit="cpu", precision="fp32", threads=2)]

    def test_a_setting_without_threads_is_refused(self, backend: Backend, link: Link) -> None:
        """The runtime would take all cores, and the row would not say so."""
        with pytest.raises(ConfigError, match="threads"):
            backend.session(link, Setting(unit="cpu", precision="fp32"))
