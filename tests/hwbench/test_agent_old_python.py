"""The agent under the oldest Python of this machine that has a runtime, as on a Jetson Nano (3.6) or a Coral (3.7)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from hwbench import agent_session
from hwbench.backends import onnxruntime as ort_backend
from hwbench.links import local
from hwbench.session import WindowSpec
from hwbench.setting import Setting
from hwbench.workload import Bundle
from hwbench.wrap import wrap
from tests.doubles.networks import matmul_bundle

CPU1 = Setting(unit="cpu", precision="fp32", threads=1)


@pytest.fixture
def old_python() -> str:
    """The oldest one that is older than ours and can import numpy and ONNX Runtime."""
    for minor in range(6, sys.version_info.minor):
        python = shutil.which(f"python3.{minor}")
        if python and subprocess.run([python, "-c", "import numpy, onnxruntime"], capture_output=True).returncode == 0:
            return python
    pytest.skip("no older Python on this machine has numpy and onnxruntime")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A graph that ONNX Runtime 1.10 knows, the last one for Python 3.6: opset 13."""
    matmul_bundle(tmp_path / "new", [32])
    model = onnx.load(tmp_path / "new" / "matmul-32.onnx")
    model.opset_import[0].version, model.ir_version = 13, 7
    onnx.save(model, tmp_path / "old.onnx")
    return wrap(tmp_path / "old.onnx", tmp_path / "bundle")


def test_an_old_python_loads_and_times(old_python: str, bundle: Bundle, tmp_path: Path) -> None:
    """The whole dialogue: greeting, load, a long window, drop."""
    link = local.open({"workdir": tmp_path / "board", "python": old_python})
    prepared = ort_backend.open({}).prepare(link, bundle, bundle.workloads[0], CPU1)
    with agent_session.start(link, "ort", CPU1) as session:
        assert session.hello.python.startswith(f"3.{old_python.rpartition('.')[2]}.")
        session.load(prepared)
        window = session.window([prepared.block_key], WindowSpec(warmup=5, min_runs=1000, min_time_s=0.0), ())
        assert 1000 <= window.run_ns.size == window.start_ns.size
        session.drop(prepared.block_key)
