"""The CUDA runtime through ctypes, against a stand-in that comes with that of TensorRT."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DOUBLE = ROOT / "tests" / "doubles" / "tensorrt_module"


def run(program: str, *, double: bool = True) -> str:
    """What a fresh Python prints: the stand-in takes the place of a library for the whole process."""
    paths = [str(ROOT)] + ([str(DOUBLE)] if double else [])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TENSORRT_DOUBLE": "10.3.0"}
    start = "import numpy as np\n" + ("import tensorrt\n" if double else "") + "from hwbench.agent import cudart\n"
    done = subprocess.run([sys.executable, "-c", start + program], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_memory_comes_back_as_it_went_and_is_freed() -> None:
    """Bytes on the device, counted while they are held."""
    program = """
cuda = cudart.Cuda()
free = cuda.free_bytes()
memory = cudart.Memory(cuda, np.arange(6, dtype=np.float32))
memory.send()
memory.host[:] = 0
print(memory.fetch().tolist(), free - cuda.free_bytes())
del memory
print(free - cuda.free_bytes())
"""
    assert ["[0.0, 1.0, 2.0, 3.0, 4.0, 5.0] 24", "0"] == run(program).splitlines()


def test_an_error_is_named_with_the_call_and_its_number() -> None:
    """As the library words it."""
    program = """
try:
    cudart.Memory(cudart.Cuda(), np.lib.stride_tricks.as_strided(np.zeros(1), (1 << 30,), (0,)))
except cudart.AgentError as error:
    print(error)
"""
    assert "cudaMalloc: out of memory (2)" == run(program)


def test_recorded_work_is_done_once_a_launch_and_not_while_it_is_recorded() -> None:
    """The stream does it when somebody waits."""
    program = """
cuda, done = cudart.Cuda(), []
give = tensorrt._CUDART.streams[cuda.stream].give
graph = cuda.record(lambda: give(lambda: done.append(1)) is None)
cuda.synchronize()
before = len(done)
for _ in range(3):
    graph.launch()
cuda.synchronize()
print(before, len(done), cuda.record(lambda: False))
"""
    assert "0 3 None" == run(program)


def test_a_board_without_cuda_or_without_a_device_says_so() -> None:
    """The real library where this machine has it: an absent runtime, or its own words for what is missing."""
    program = """
try:
    cudart.Cuda()
    print("runtime cudaSetDevice: there is a device (0)")
except cudart.AgentError as error:
    print(error.kind, error)
"""
    told = run(program, double=False)
    assert re.fullmatch(r"absent this board has no CUDA runtime \(libcudart\.so\)|runtime cuda\w+: .+ \([0-9]+\)", told)
