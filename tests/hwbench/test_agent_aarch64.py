"""The agent on a 64-bit ARM processor, such as a Raspberry Pi has: under qemu-user, where there is a Python for it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from hwbench import agent_session
from hwbench.backends import onnxruntime as ort_backend
from hwbench.links import local
from hwbench.session import WindowSpec
from hwbench.setting import Setting
from tests.doubles.networks import matmul_bundle

CPU1 = Setting(unit="cpu", precision="fp32", threads=1)


@pytest.fixture
def arm_python() -> str:
    """HWBENCH_AARCH64_PYTHON: runs such a Python with numpy and ONNX Runtime, through qemu or on such a machine."""
    python = shutil.which(os.environ.get("HWBENCH_AARCH64_PYTHON", ""))
    if python is None:
        pytest.skip(
            "HWBENCH_AARCH64_PYTHON names no Python of aarch64; tests/doubles/aarch64_python.sh FOLDER fetches one"
        )
    asked = "import platform, numpy, onnxruntime; print(platform.machine())"
    done = subprocess.run([python, "-c", asked], capture_output=True, text=True)
    assert (0, "aarch64") == (done.returncode, done.stdout.strip()), done.stderr
    return python


def test_the_agent_measures_on_aarch64(arm_python: str, tmp_path: Path) -> None:
    """The whole dialogue: greeting, load, window, drop, bye; nothing stays behind."""
    bundle = matmul_bundle(tmp_path / "bundle", [32])
    link = local.open({"workdir": tmp_path / "board", "python": arm_python})
    prepared = ort_backend.open({}).prepare(link, bundle, bundle.workloads[0], CPU1)
    with agent_session.start(link, "ort", CPU1) as session:
        assert "aarch64" == session.hello.board["machine"]
        loaded = session.load(prepared)
        assert (1, 32, 32) == loaded.outputs[0].shape
        window = session.window([prepared.block_key], WindowSpec(warmup=2, min_runs=20, min_time_s=0.0), ())
        assert 20 <= window.run_ns.size == window.start_ns.size
        assert (np.diff(window.start_ns) > 0).all()
        session.drop(prepared.block_key)
    assert [] == list((tmp_path / "board" / "sessions").iterdir())
