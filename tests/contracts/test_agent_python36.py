"""The agent goes to boards whose Python is 3.6 (JetPack 4): it must parse and run there."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.contracts.python36 import problems

NEWER = {
    "walrus": "if (n := 3) > 2: pass",
    "positional only": "def f(a, /): pass",
    "future annotations": "from __future__ import annotations",
    "nanosecond clock": "import time\ntime.perf_counter_ns()",
    "nanosecond clock, imported": "from time import monotonic_ns as now",
    "renamed module": "import time as t\nt.time_ns()",
    "dataclass": "from dataclasses import dataclass",
    "capture_output": "import subprocess\nsubprocess.run(['true'], capture_output=True)",
    "removeprefix": "'file:/sys'.removeprefix('file:')",
    "builtin generic": "def f(x: list[int]) -> None: pass",
    "union": "def f() -> int | None: pass",
    "annotated variable": "x: dict[str, int] = {}",
    "math.prod": "import math\nmath.prod([1, 2])",
    "numpy.typing": "import numpy.typing",
}
FINE = """
import time
from typing import Dict, List, Optional

def mean(values: List[float], *, unit: Optional[str] = None) -> Dict[str, float]:
    started = time.perf_counter()
    flags = 1 | 2
    try:
        from importlib import metadata
    except ImportError:
        metadata = None
    return {f"{unit or 'ms'}": sum(values) / len(values) + started * flags}
"""


def agent_files(root: Path) -> list[Path]:
    return sorted((root / "hwbench" / "agent").rglob("*.py"))


@pytest.mark.parametrize("source", NEWER.values(), ids=NEWER.keys())
def test_the_check_finds_what_python_36_lacks(source: str) -> None:
    """Without this the check below could pass by seeing nothing."""
    assert problems(source)


def test_the_check_lets_python_36_code_pass() -> None:
    """Typing's capital generics, keyword-only arguments and f-strings are all 3.6."""
    assert problems(FINE) == []


def test_the_agent_uses_nothing_newer_than_python_36(root: Path) -> None:
    """Every module of the agent, syntax and library names."""
    files = agent_files(root)
    assert files
    assert [p for f in files for p in problems(f.read_text(), str(f.relative_to(root)))] == []


def test_a_real_python_36_compiles_the_agent(root: Path) -> None:
    """The word of the interpreter itself, where one is installed."""
    python = shutil.which("python3.6")
    if python is None or subprocess.run([python, "-c", ""], capture_output=True).returncode != 0:
        pytest.skip("no working python3.6 on this machine")
    program = "import sys\nfor p in sys.argv[1:]: compile(open(p, encoding='utf-8').read(), p, 'exec')"
    command = [python, "-c", program, *map(str, agent_files(root))]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    assert (done.returncode, done.stderr) == (0, "")
