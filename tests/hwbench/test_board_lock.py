"""A board's lock lies on the board, falls with its holder, and names him while it stands."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwbench import board_lock
from hwbench.board_lock import BoardLock, lock_folders
from hwbench.errors import ConfigError, PermanentDeviceError
from hwbench.links import adb, local
from hwbench.target import Plugin
from tests.doubles.links import cut
from tests.doubles.phones import Phone, Server

_HOLD = """
import sys, time
from hwbench.board_lock import BoardLock
from hwbench.links import adb, local
lock = BoardLock(local.open({"workdir": sys.argv[1] + "/work"}), sys.argv[1:], "board desk")
lock.acquire(wait=True)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_lock, "_GRACE_S", 0.3)


@pytest.fixture
def link(tmp_path: Path) -> local.LocalLink:
    return local.open({"workdir": tmp_path / "work"})


def _start(folder: Path, root: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(folder)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(root)}
    )


@pytest.fixture
def holder(tmp_path: Path, root: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = _start(tmp_path, root)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def _lock(link: local.LocalLink, folder: Path) -> BoardLock:
    return BoardLock(link, [str(folder)], "board desk")


def test_taken_board_names_process_user_host_and_time(
    link: local.LocalLink, tmp_path: Path, holder: subprocess.Popen[bytes]
) -> None:
    """Whoever waits knows for whom."""
    told = rf"board desk is in use by process {holder.pid} of \S+ on \S+ since \d{{4}}-.*--wait"
    with pytest.raises(ConfigError, match=told):
        _lock(link, tmp_path).acquire()


def test_killed_holder_leaves_neither_lock_nor_note(
    link: local.LocalLink, tmp_path: Path, holder: subprocess.Popen[bytes]
) -> None:
    """The shell on the board sees its input end, whatever became of the program."""
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    lock = _lock(link, tmp_path)
    lock.acquire()
    assert lock.held()
    lock.release()
    assert [f.name for f in tmp_path.glob("hwbench-board.*")] == ["hwbench-board.lock"]


def test_waiting_takes_it_when_it_is_free(
    link: local.LocalLink, tmp_path: Path, holder: subprocess.Popen[bytes], root: Path
) -> None:
    """And not before."""
    waiting = _start(tmp_path, root)
    assert waiting.stdout is not None
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=1.0)
        holder.kill()
        assert waiting.stdout.readline() == b"held\n"
    finally:
        waiting.kill()
        waiting.wait()
        waiting.stdout.close()


def test_what_a_lost_link_left_behind_does_not_lock_us_out(tmp_path: Path) -> None:
    """The board has not noticed the loss: its shell still holds the lock, and is ended by whoever it held it for."""
    link = cut.open(local.Options(workdir=tmp_path / "work"))
    lock = _lock(link, tmp_path)
    lock.acquire()
    link.cut()
    link.mend()
    assert not lock.held()
    with pytest.raises(ConfigError, match="in use by process"):
        _lock(link, tmp_path).acquire()
    lock.renew()
    assert lock.held()
    lock.release()
    link.end()


def test_killed_shell_is_noticed(link: local.LocalLink, tmp_path: Path) -> None:
    """A board that restarted has dropped the lock; the dialogue says so."""
    lock = _lock(link, tmp_path)
    lock.acquire()
    (note,) = tmp_path.glob("hwbench-board.lock.*")
    os.kill(int(note.read_text().split()[0]), signal.SIGKILL)
    end = time.monotonic() + 5
    while lock.held() and time.monotonic() < end:
        time.sleep(0.01)
    assert not lock.held()
    with _held(_lock(link, tmp_path)):
        pass
    lock.release()


class _held:
    def __init__(self, lock: BoardLock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_nothing_is_written_through_what_another_put_there(link: local.LocalLink, tmp_path: Path) -> None:
    """Links in a folder where anybody may write are no way to have our files overwritten."""
    treasure = tmp_path / "treasure"
    treasure.write_text("gold")
    (tmp_path / f"hwbench-board.lock.{os.getuid()}").symlink_to(treasure)
    with _held(_lock(link, tmp_path)):
        assert treasure.read_text() == "gold"
    (tmp_path / "hwbench-board.lock").unlink()
    (tmp_path / "hwbench-board.lock").symlink_to(treasure)
    with pytest.raises(PermanentDeviceError, match=r"hwbench-board.lock' is not a plain file"):
        _lock(link, tmp_path).acquire()
    assert treasure.read_text() == "gold"


@pytest.mark.parametrize("note", ["", "{", "12 {}", '12 {"pid": "\\u001b[2J", "user": 1, "host": [], "token": "x"}'])
def test_odd_note_still_gives_a_message(link: local.LocalLink, tmp_path: Path, note: str) -> None:
    """It is only a help, and anybody may have written it: nothing of it reaches a terminal unprintable."""
    with _held(_lock(link, tmp_path)):
        (tmp_path / f"hwbench-board.lock.{os.getuid()}").write_text(note + "\n")
        with pytest.raises(ConfigError, match="in use by another process") as caught:
            _lock(link, tmp_path).acquire()
    assert str(caught.value).isprintable()


def test_board_without_flock_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that does not lock would be worse than none."""
    (tmp_path / "bin").mkdir()
    for tool in ("sh", "id"):
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / "bin" / tool).symlink_to(found)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(PermanentDeviceError, match="has no `flock`"):
        _lock(local.open({"workdir": tmp_path / "work"}), tmp_path).acquire()


def test_all_users_of_a_machine_meet(link: local.LocalLink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that they share, but for a link that names a folder of its own."""
    assert lock_folders(Plugin(kind="local"), link) == (str(tmp_path / "locks"),)
    monkeypatch.delenv("HWBENCH_LOCKS")
    assert lock_folders(Plugin(kind="local"), link) == ("/run/lock", "/tmp", str(tmp_path / "work"))
    assert lock_folders(Plugin(kind="local", workdir="x"), link) == (str(tmp_path / "work"),)


def test_lock_lies_in_the_first_shared_folder(link: local.LocalLink, tmp_path: Path) -> None:
    """Shared is where anybody may write and nobody may remove another's files."""
    own, shared, last = (tmp_path / name for name in ("own", "shared", "last"))
    for folder in (own, shared, last):
        folder.mkdir()
    shared.chmod(0o1777)
    for folders, expected in (([own, shared, last], shared), ([own, last], last)):
        lock = BoardLock(link, [str(f) for f in folders], "board desk")
        with _held(lock):
            assert (expected / "hwbench-board.lock").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")
def test_another_users_hold_holds(link: local.LocalLink) -> None:
    """His files may be read, not written; his note names him, and what it says of us is not believed."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o1777)
        note = {"token": "t", "pid": 7, "user": "nobody", "host": "desk", "since": "2026-01-01 00:00:00"}
        other = subprocess.Popen(
            ["sh", "-c", board_lock._HOLD, "hwbench-board.lock", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            user=65534,
            group=65534,
            extra_groups=[],
        )
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.write(json.dumps(note).encode() + b"\n")
        other.stdin.flush()
        assert other.stdout.readline() == b"held\n"
        lock = _lock(link, folder)
        # Even a stolen token is of no use in a note of another user.
        lock._token = "t"
        with pytest.raises(ConfigError, match="in use by process 7 of nobody on desk since 2026"):
            lock.acquire()
        other.communicate()
        with _held(lock):
            pass


@pytest.mark.parametrize("shell", ["dash", "bash", "mksh", "busybox"])
def test_every_boards_shell_can_hold_it(tmp_path: Path, shell: str) -> None:
    """Debian's, a desktop's, Android's, and that of the smallest systems."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    argv = [shell, *(["sh"] if shell == "busybox" else []), "-c", board_lock._HOLD, "hwbench-board.lock", str(tmp_path)]
    first = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert first.stdin is not None
    assert first.stdout is not None
    first.stdin.write(b'{"a \\n b": 1}\nthere?\n')
    first.stdin.flush()
    assert [first.stdout.readline(), first.stdout.readline()] == [b"held\n", b"there?\n"]
    second = subprocess.run(argv, input=b"{}\n", capture_output=True, timeout=10, check=False)
    assert second.stdout == b'own %d {"a \\n b": 1}\n' % first.pid
    first.kill()
    first.wait()
    third = subprocess.run(argv, input=b"{}\n", capture_output=True, timeout=10, check=False)
    assert third.stdout == b"held\n"
    first.communicate()


def test_lock_holds_on_a_phone(adb_server: Server, phone: Phone) -> None:
    """Over the real adb server, in the only folder that a phone's shell may write; unplugging it frees the lock."""
    adb_server.meet(phone)
    links = [adb.open({"port": adb_server.port, "serial": phone.serial, "python": sys.executable}) for _ in range(2)]
    first, second = (BoardLock(link, lock_folders(Plugin(kind="adb", workdir="x"), link), "board p") for link in links)
    try:
        first.acquire()
        assert (phone.root / "data/local/tmp/hwbench/hwbench-board.lock").exists()
        with pytest.raises(ConfigError, match=f"board p is in use by process {os.getpid()}"):
            second.acquire()
        phone.leave()
        phone.come_back()
        adb_server.meet(phone)
        assert not first.held()
        first.renew()
        assert first.held()
        with pytest.raises(ConfigError, match="in use"):
            second.acquire()
        first.release()
        second.acquire()
        second.release()
    finally:
        adb_server.forget(phone)
