"""The file that goes to the board."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hwbench import agent_archive


def test_equal_sources_give_equal_bytes(tmp_path: Path) -> None:
    """Whatever the files' times, so a board that has it gets it no second time."""
    first, second = agent_archive.build(tmp_path / "a"), agent_archive.build(tmp_path / "b")
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


def test_it_is_written_once(tmp_path: Path) -> None:
    """A second call leaves the file alone."""
    archive = agent_archive.build(tmp_path)
    os.utime(archive, (0, 0))
    assert 0 == agent_archive.build(tmp_path).stat().st_mtime


def test_it_runs_without_the_rest_of_hwbench(tmp_path: Path) -> None:
    """All of hwbench that it imports lies inside it."""
    script = (
        "import sys; from hwbench.agent.__main__ import main; from hwbench.agent.runtimes import ort\n"
        "print(*sorted(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'hwbench'), sep='\\n')"
    )
    archive = agent_archive.build(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(archive)!r})\n{script}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    files = done.stdout.split()
    assert len(files) > 5
    assert all(file.startswith(str(archive)) for file in files)
