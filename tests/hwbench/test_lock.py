"""A lock falls with its process, and names its holder while it stands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hwbench.errors import ConfigError
from hwbench.lock import Lock

_HOLD = """
import sys, time
from pathlib import Path
from hwbench.lock import Lock
lock = Lock(Path(sys.argv[1]), "thing")
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path, root: Path):
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path / "lock")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_taken_lock_names_process_user_and_time(tmp_path: Path, holder: subprocess.Popen[bytes]) -> None:
    """Whoever waits knows for whom."""
    with pytest.raises(ConfigError, match=rf"thing is in use by process {holder.pid} of \S+ since \d{{4}}-"):
        Lock(tmp_path / "lock", "thing").acquire()


def test_killed_holder_leaves_no_lock(tmp_path: Path, holder: subprocess.Popen[bytes]) -> None:
    """kill -9 frees it at once; the note it left behind does not count."""
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "lock.holder").exists()
    with Lock(tmp_path / "lock", "thing"):
        assert f'"pid": {os.getpid()}' in (tmp_path / "lock.holder").read_text()


def test_released_lock_can_be_taken_and_leaves_no_note(tmp_path: Path) -> None:
    """Two in a row."""
    for _ in range(2):
        with Lock(tmp_path / "folder" / "lock", "thing"):
            pass
    assert not (tmp_path / "folder" / "lock.holder").exists()


def test_unreadable_note_still_gives_a_message(tmp_path: Path) -> None:
    """The note is only a help."""
    with Lock(tmp_path / "lock", "thing"):
        (tmp_path / "lock.holder").write_text("{")
        with pytest.raises(ConfigError, match="in use by another process"):
            Lock(tmp_path / "lock", "thing").acquire()


def test_waiting_takes_it_when_it_is_free(tmp_path: Path, holder: subprocess.Popen[bytes]) -> None:
    """`wait` sleeps until the holder is gone."""
    waiting = subprocess.Popen(
        [sys.executable, "-c", _HOLD.replace("acquire()", "acquire(wait=True)"), str(tmp_path / "lock")],
        stdout=subprocess.PIPE,
        env=os.environ,
    )
    assert waiting.stdout is not None
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=0.5)
        holder.kill()
        assert waiting.stdout.readline() == b"held\n"
    finally:
        waiting.kill()
        waiting.wait()
        waiting.stdout.close()
