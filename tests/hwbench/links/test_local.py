"""This machine as a board."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from hwbench.errors import PermanentDeviceError
from hwbench.link import Link
from hwbench.links import local
from tests.contracts.link import LinkContract


class TestLocal(LinkContract):
    """The contract, and what is particular here."""

    @pytest.fixture
    def link(self, tmp_path: Path) -> Link:
        """A link whose folder is the test's own."""
        return local.open({"workdir": tmp_path / "board"})

    def test_our_environment_does_not_reach_the_process(self, link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
        """A thread count of the shell would be measured in silence."""
        monkeypatch.setenv("OMP_NUM_THREADS", "7")
        monkeypatch.setenv("PYTHONPATH", "/elsewhere")
        done = link.run(["sh", "-c", "echo [$OMP_NUM_THREADS$PYTHONPATH]"], timeout_s=10)
        assert b"[]\n" == done.stdout

    def test_children_of_a_killed_process_die_with_it(self, link: Link) -> None:
        """The whole group is ended."""
        pipe = link.spawn(["sh", "-c", "sleep 60 & echo $!; wait"], env={})
        child = int(pipe.receive(10))
        pipe.close(0.1)
        assert _ends(child)

    def test_a_folder_that_cannot_be_made_is_one_clear_line(self, tmp_path: Path) -> None:
        """It names the folder."""
        (tmp_path / "taken").write_bytes(b"")
        link = local.open({"workdir": tmp_path / "taken"})
        with pytest.raises(PermanentDeviceError, match="taken"):
            link.push(Path(__file__))

    def test_an_unknown_option_is_refused(self) -> None:
        """A typo in a target must not pass."""
        with pytest.raises(ValidationError):
            local.open({"work_dir": "/tmp"})


def _ends(pid: int) -> bool:
    """Whether a process ends soon: the signal has been sent, and dying takes its moment."""
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False
