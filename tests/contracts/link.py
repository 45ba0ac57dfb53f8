"""What every link must do; a link's test class inherits this and gives the fixture `link`."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwbench.errors import PermanentDeviceError, TransientDeviceError
from hwbench.link import Link


class LinkContract:
    """Commands, files and processes on one board; the board has a POSIX shell and the link's Python."""

    @pytest.fixture
    def link(self) -> Link:
        """The link under test."""
        raise pytest.UsageError("a link's test class gives the fixture `link`")

    def test_a_command_that_fails_returns_its_status_and_output(self, link: Link) -> None:
        """Nothing is raised for a non-zero status."""
        done = link.run(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout_s=10)
        assert (3, b"out\n", b"err\n") == (done.returncode, done.stdout, done.stderr)

    def test_arguments_arrive_unchanged(self, link: Link) -> None:
        """Quoting is the link's business."""
        odd = "a b'c\"d$HOME;*\\"
        assert odd.encode() == link.run(["printf", "%s", odd], timeout_s=10).stdout

    def test_standard_input_reaches_the_command(self, link: Link) -> None:
        """And ends, so `cat` ends."""
        assert b"line\0\xff" == link.run(["cat"], stdin=b"line\0\xff", timeout_s=10).stdout

    def test_an_absent_program_is_status_127(self, link: Link) -> None:
        """As a shell says it."""
        assert 127 == link.run(["hwbench-no-such-program"], timeout_s=10).returncode

    def test_a_command_past_its_deadline_is_transient(self, link: Link) -> None:
        """The caller is not left waiting."""
        with pytest.raises(TransientDeviceError, match="sleep"):
            link.run(["sleep", "60"], timeout_s=0.2)

    def test_what_was_written_is_read(self, link: Link) -> None:
        """Replaced as a whole, not appended to."""
        path = link.workdir() + "/note"
        link.write(path, b"a longer text")
        link.write(path, b"short")
        assert b"short" == link.read(path)

    def test_an_absent_file_is_not_found(self, link: Link) -> None:
        """The one error that callers tell apart, to try another path."""
        with pytest.raises(FileNotFoundError):
            link.read(link.workdir() + "/absent")

    def test_a_file_above_the_limit_is_refused(self, link: Link) -> None:
        """Never cut short in silence."""
        path = link.workdir() + "/note"
        link.write(path, b"12345")
        assert b"12345" == link.read(path, max_bytes=5)
        with pytest.raises(PermanentDeviceError, match="4 bytes"):
            link.read(path, max_bytes=4)

    def test_equal_content_is_pushed_to_one_place(self, link: Link, tmp_path: Path) -> None:
        """Content-addressed: the name of the source does not matter, its content does."""
        first, again, other = tmp_path / "a.bin", tmp_path / "b.bin", tmp_path / "c.bin"
        first.write_bytes(b"same")
        again.write_bytes(b"same")
        other.write_bytes(b"other")
        assert link.push(first) == link.push(again)
        assert link.push(first) != link.push(other)
        assert b"other" == link.read(link.push(other))

    def test_a_damaged_copy_is_sent_again(self, link: Link, tmp_path: Path) -> None:
        """Power may fail on a board in the middle of a write."""
        file = tmp_path / "a.bin"
        file.write_bytes(b"whole content")
        path = link.push(file)
        link.write(path, b"whole")
        assert path == link.push(file)
        assert b"whole content" == link.read(path)

    def test_a_pulled_file_is_the_boards(self, link: Link, tmp_path: Path) -> None:
        """Byte for byte."""
        link.write(link.workdir() + "/result", bytes(range(256)))
        link.pull(link.workdir() + "/result", tmp_path / "result")
        assert bytes(range(256)) == (tmp_path / "result").read_bytes()

    def test_lines_go_to_a_process_and_come_back(self, link: Link) -> None:
        """And its end of output is an empty line's absence: b""."""
        pipe = link.spawn(["cat"], env={})
        pipe.send(b"one")
        pipe.send(b"two")
        assert [b"one", b"two"] == [pipe.receive(10), pipe.receive(10)]
        assert 0 == pipe.close()

    def test_the_end_of_a_process_is_the_end_of_its_lines(self, link: Link) -> None:
        """What it wrote before is not lost."""
        pipe = link.spawn(["sh", "-c", "echo last; echo why >&2; exit 4"], env={})
        assert [b"last", b""] == [pipe.receive(10), pipe.receive(10)]
        assert "why" == pipe.stderr_tail()
        assert 4 == pipe.close()

    def test_a_line_that_was_cut_short_is_transient(self, link: Link) -> None:
        """Half an answer is none: its process died while it wrote."""
        pipe = link.spawn(["printf", "whole\\nhalf"], env={})
        assert b"whole" == pipe.receive(10)
        with pytest.raises(TransientDeviceError, match="in the middle of a line"):
            pipe.receive(10)
        pipe.close(0.1)

    def test_the_environment_given_arrives(self, link: Link) -> None:
        """Settings of a runtime travel this way."""
        pipe = link.spawn(["sh", "-c", "echo $OMP_NUM_THREADS"], env={"OMP_NUM_THREADS": "3"})
        assert b"3" == pipe.receive(10)
        pipe.close()

    def test_a_silent_process_is_transient(self, link: Link) -> None:
        """And closing it kills it."""
        pipe = link.spawn(["sleep", "60"], env={})
        with pytest.raises(TransientDeviceError, match="no answer"):
            pipe.receive(0.1)
        assert 0 != pipe.close(0.1)

    def test_a_line_above_one_mebibyte_is_refused(self, link: Link) -> None:
        """A board gone mad must not fill the host's memory."""
        pipe = link.spawn([link.python, "-c", "print('x' * (1 << 21))"], env={})
        with pytest.raises(TransientDeviceError, match="1 MiB"):
            pipe.receive(10)
        pipe.close(0.1)

    def test_a_process_that_is_gone_takes_no_lines(self, link: Link) -> None:
        """It is worth another try, with another process."""
        pipe = link.spawn(["true"], env={})
        assert b"" == pipe.receive(10)
        with pytest.raises(TransientDeviceError):
            for _ in range(100):
                pipe.send(b"x" * 1000)
        pipe.close()

    def test_an_absent_program_cannot_be_spawned(self, link: Link) -> None:
        """Another try would not find it either."""
        with pytest.raises(PermanentDeviceError, match="hwbench-no-such-program"):
            link.spawn(["hwbench-no-such-program"], env={})
