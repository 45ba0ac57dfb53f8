"""An Android device over the real adb server; the device is a process that speaks the ADB wire protocol."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from pydantic import ValidationError

from hwbench.adb_pipe import ShellPipe
from hwbench.errors import ConfigError, DeviceError, PermanentDeviceError, TransientDeviceError
from hwbench.link import Link
from hwbench.links import adb
from tests.contracts.link import LinkContract
from tests.doubles.phones import Phone, Server

Open = Callable[..., adb.AdbLink]


@pytest.fixture
def reach(adb_server: Server) -> Iterator[Open]:
    """Opens links to phones of this server, with options; phones are forgotten afterwards."""
    met: list[Phone] = []

    def opened(phone: Phone, **options: object) -> adb.AdbLink:
        adb_server.meet(phone)
        met.append(phone)
        return adb.open({"port": adb_server.port, "serial": phone.serial, "python": sys.executable, **options})

    yield opened
    for phone in met:
        adb_server.forget(phone)


class TestAdb(LinkContract):
    """The contract, and what is particular here."""

    @pytest.fixture
    def link(self, phone: Phone, reach: Open) -> Link:
        """With the folder of a real phone."""
        return reach(phone)

    def test_its_folder_is_the_phones(self, link: Link, phone: Phone) -> None:
        """Nothing is written anywhere else."""
        link.write(link.workdir() + "/note", b"here")
        assert b"here" == (phone.root / "data/local/tmp/hwbench/note").read_bytes()

    def test_large_input_and_output_pass_each_other(self, link: Link) -> None:
        """Neither side waits for the other to be read."""
        data = os.urandom(3 << 20)
        assert data == link.run(["cat"], stdin=data, timeout_s=30).stdout

    def test_a_program_that_ignores_its_input_ends(self, link: Link) -> None:
        """Although megabytes still wait to be sent."""
        assert 0 == link.run(["true"], stdin=bytes(3 << 20), timeout_s=30).returncode

    def test_children_of_a_killed_process_die_with_it(self, link: Link) -> None:
        """The whole group is ended."""
        pipe = link.spawn(["sh", "-c", "sleep 600 & echo $!; wait"], env={})
        child = int(pipe.receive(10))
        pipe.close(0.1)
        assert _ends(child)

    def test_a_command_past_its_deadline_is_hung_up(self, link: Link) -> None:
        """A benchmark that nobody waits for must not heat the phone."""
        file = link.workdir() + "/pid"
        for deadline_s in (1, 5, 25):
            link.write(file, b"")
            with pytest.raises(TransientDeviceError, match=f"did not end within {deadline_s} s"):
                link.run(["sh", "-c", f"echo $$ > {file}; exec sleep 600"], timeout_s=float(deadline_s))
            if pid := link.read(file).strip():
                break  # else this machine was too busy to start it in time
        assert _ends(int(pid))

    def test_a_flood_is_cut_off(self, link: Link) -> None:
        """A device gone mad must not fill the host's memory."""
        with pytest.raises(PermanentDeviceError, match="more than 64 MiB"):
            link.run(["head", "-c", "80000000", "/dev/zero"], timeout_s=60)

    def test_a_name_of_a_variable_is_no_command(self, link: Link) -> None:
        """It stands before the program, unquoted."""
        with pytest.raises(ConfigError, match="no name of an environment variable"):
            link.spawn(["true"], env={"A;reboot;B": "1"})

    def test_an_unknown_option_is_refused(self) -> None:
        """A typo in a target must not pass."""
        with pytest.raises(ValidationError):
            adb.open({"serail": "1"})

    def test_what_cannot_be_written_is_named(self, link: Link) -> None:
        """With the device's own words."""
        with pytest.raises(PermanentDeviceError, match=r"cannot write .*/absent/x .*No such file|nonexistent"):
            link.write(link.workdir() + "/absent/x", b"")


class TestAdbBeforeAndroid7(LinkContract):
    """The contract for a device without the shell protocol."""

    @pytest.fixture
    def phone(self, tmp_path: Path) -> Iterator[Phone]:
        """Of 2015."""
        with Phone(tmp_path / "phone", features="cmd") as started:
            yield started

    @pytest.fixture
    def link(self, phone: Phone, reach: Open) -> Link:
        """With the folder of a real phone."""
        return reach(phone)

    def test_what_a_command_prints_cannot_pass_for_its_status(self, link: Link) -> None:
        """The line that ends the output holds a number nobody can guess."""
        done = link.run(["printf", "\n0 0\n%s 0\n"], timeout_s=10)
        assert (0, b"\n0 0\n 0\n") == (done.returncode, done.stdout)

    def test_nothing_is_left_behind(self, link: Link, phone: Phone) -> None:
        """Input and errors lay in files meanwhile."""
        link.run(["cat"], stdin=b"x", timeout_s=10)
        link.workdir()
        assert ["hwbench"] == [p.name for p in (phone.root / "data/local/tmp").iterdir()]

    def test_lines_go_to_a_process_and_come_back(self, link: Link) -> None:
        """A plain stream cannot end the input alone, so the status of a process that waits for that stays unknown."""
        pipe = link.spawn(["cat"], env={})
        pipe.send(b"one")
        pipe.send(b"two")
        assert [b"one", b"two"] == [pipe.receive(10), pipe.receive(10)]
        assert pipe.close() is None

    def test_a_process_has_time_to_end(self, link: Link) -> None:
        """It sees the end of its input, and is killed only when it takes too long."""
        end = "cat >/dev/null; sleep 0.3; echo done > " + link.workdir() + "/end"
        pipe = link.spawn(["sh", "-c", end], env={})
        pipe.close(5.0)
        assert b"done\n" == link.read(link.workdir() + "/end")


class TestChoice:
    """Which device."""

    def test_several_devices_and_none_named_lists_them(self, adb_server: Server, tmp_path: Path, reach: Open) -> None:
        """A user's error: which one cannot be guessed."""
        with Phone(tmp_path / "one") as one, Phone(tmp_path / "two") as two:
            reach(one)
            reach(two)
            with pytest.raises(ConfigError, match="several") as caught:
                adb.open({"port": adb_server.port}).workdir()
            assert one.serial in str(caught.value) and two.serial in str(caught.value)

    def test_the_only_device_needs_no_name(self, adb_server: Server, phone: Phone, reach: Open) -> None:
        """And messages name it from then on."""
        reach(phone)
        link = adb.open({"port": adb_server.port})
        assert 0 == link.run(["true"], timeout_s=10).returncode
        assert f"adb {phone.serial}" == link.name

    def test_no_device_says_what_to_do(self, adb_server: Server) -> None:
        """In one line."""
        with pytest.raises(PermanentDeviceError, match=r"no device is attached.*USB debugging.*adb devices"):
            adb.open({"port": adb_server.port}).workdir()

    def test_a_device_that_is_absent_is_transient(self, adb_server: Server) -> None:
        """It may be plugged in."""
        with pytest.raises(TransientDeviceError, match=r"adb 0123456789: the device does not answer"):
            adb.open({"port": adb_server.port, "serial": "0123456789"}).workdir()

    def test_a_device_that_does_not_trust_us_says_what_to_do(
        self, adb_server: Server, tmp_path: Path, reach: Open
    ) -> None:
        """Only a person can help."""
        with Phone(tmp_path / "phone", unauthorized=True) as phone:
            link = reach(phone)
            with pytest.raises(PermanentDeviceError, match="accept the key"):
                link.workdir()

    def test_a_server_of_another_machine_is_not_started_here(self) -> None:
        """It would be the wrong one."""
        with pytest.raises(TransientDeviceError, match=r"no adb server answers at 127\.0\.0\.2:9"):
            adb.open({"host": "127.0.0.2", "port": 9}).workdir()


class TestAccidents:
    """What happens to links."""

    @pytest.fixture
    def link(self, phone: Phone, reach: Open) -> Link:
        """With the folder of a real phone."""
        return reach(phone)

    def test_a_connection_that_breaks_is_transient_and_found_again(self, link: Link, phone: Phone) -> None:
        """In the middle of an answer; the next call reaches the device again by itself."""
        link.workdir()
        phone.drop_at("seq", after_bytes=100)
        with pytest.raises(TransientDeviceError, match="the link broke during seq"):
            link.run(["seq", "100000"], timeout_s=10)
        assert b"back\n" == link.run(["echo", "back"], timeout_s=20).stdout

    def test_a_file_that_breaks_off_is_not_a_short_file(self, link: Link, phone: Phone, tmp_path: Path) -> None:
        """Neither read nor pulled."""
        path = link.workdir() + "/file"
        link.write(path, bytes(300_000))
        for take in (lambda: link.read(path), lambda: link.pull(path, tmp_path / "file")):
            phone.drop_at("sync:", after_bytes=100_000)
            with pytest.raises(TransientDeviceError, match="the link broke"):
                take()
        assert 300_000 == len(link.read(path))

    def test_a_push_that_breaks_off_leaves_nothing_that_looks_whole(
        self, link: Link, phone: Phone, tmp_path: Path
    ) -> None:
        """And the next one sends it."""
        (tmp_path / "f.bin").write_bytes(os.urandom(300_000))
        link.workdir()
        phone.drop_at("sync:")
        with pytest.raises(TransientDeviceError):
            link.push(tmp_path / "f.bin")
        files = phone.root / "data/local/tmp/hwbench/files"
        assert not [p for p in files.iterdir() if p.suffix != ".part"]
        assert (tmp_path / "f.bin").read_bytes() == link.read(link.push(tmp_path / "f.bin"))

    def test_a_device_that_stalls_is_transient(self, link: Link, phone: Phone) -> None:
        """The deadline holds although the connection stands."""
        link.workdir()
        phone.stall()
        with pytest.raises(TransientDeviceError, match=r"did not end within 0\.5 s"):
            link.run(["true"], timeout_s=0.5)
        phone.resume()
        assert 0 == link.run(["true"], timeout_s=10).returncode

    def test_a_device_that_left_is_named_and_may_come_back(self, link: Link, phone: Phone) -> None:
        """Reached again at the next call."""
        link.workdir()
        phone.leave()
        with pytest.raises(TransientDeviceError):  # the server may not have noticed yet
            link.run(["true"], timeout_s=5)
        with pytest.raises(TransientDeviceError, match=f"{phone.serial}.*the device is gone.*cable"):
            link.run(["true"], timeout_s=5)
        phone.come_back()
        assert 0 == link.run(["true"], timeout_s=20).returncode

    def test_a_dialogue_ends_when_the_link_does(self, link: Link, phone: Phone) -> None:
        """Its pipe can only be closed, and what it left running is ended."""
        pipe = link.spawn(["cat"], env={})
        pipe.send(b"one")
        assert b"one" == pipe.receive(10)
        threading.Timer(0.2, phone.drop).start()
        with pytest.raises(TransientDeviceError, match="the link to the process is lost"):
            pipe.receive(10)
        with pytest.raises(TransientDeviceError, match="gone"):
            pipe.send(b"two")
        assert pipe.close(0.1) is None

    def test_what_a_dead_daemon_left_running_is_ended_before_anything_else_starts(
        self, link: Link, phone: Phone
    ) -> None:
        """An agent in a window hears no end of its input, and must not be measured beside the next."""
        old = link.spawn(["sleep", "600"], env={})
        phone.kill()
        old.close(0.0)
        assert Path(f"/proc/{old.pid}").exists()
        phone.restart()
        with suppress(TransientDeviceError):  # the server may not have noticed yet
            link.run(["true"], timeout_s=20)
        new = link.spawn(["cat"], env={})
        assert _ends(old.pid)
        new.send(b"one")
        assert b"one" == new.receive(10)
        new.close()

    def test_a_stranger_of_the_same_number_is_left_alone(self, link: Link, phone: Phone) -> None:
        """The device may have started anew since."""
        old = link.spawn(["sleep", "600"], env={})
        assert isinstance(old, ShellPipe)
        old.started = str(int(old.started) + 1)
        phone.kill()
        old.close(0.0)
        phone.restart()
        link.spawn(["true"], env={}).close()
        try:
            assert Path(f"/proc/{old.pid}").exists()
        finally:
            os.kill(old.pid, signal.SIGKILL)

    def test_a_server_that_dies_is_started_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """And the network device looked up again."""
        monkeypatch.setenv("HOME", str(tmp_path))
        with Phone(tmp_path / "phone") as phone, Server(tmp_path) as server:
            link = adb.open({"port": server.port, "serial": phone.serial})
            assert 0 == link.run(["true"], timeout_s=20).returncode
            server.kill()
            try:
                assert 0 == link.run(["true"], timeout_s=20).returncode
            finally:
                server.client.server_kill()


class TestRoot:
    """Root, where the device gives it."""

    @pytest.fixture
    def stand_ins(self, tmp_path: Path) -> Path:
        """A shell that is not root: `id` says so."""
        folder = tmp_path / "bin"
        folder.mkdir()
        _program(folder / "id", 'echo "${AS:-2000}"')
        return folder

    @pytest.fixture
    def link(self, stand_ins: Path, tmp_path: Path, reach: Open, request: pytest.FixtureRequest) -> Iterator[Link]:
        """To a phone with that shell; the test's parameter is the option `su`."""
        with Phone(tmp_path / "phone", stand_ins=stand_ins) as phone:
            yield reach(phone, su=getattr(request, "param", True))

    @pytest.mark.parametrize("link", [False], indirect=True)
    def test_without_it_the_message_says_where_to_ask(self, link: Link) -> None:
        """Before anything is run."""
        with pytest.raises(PermanentDeviceError, match=r"needs root.*su = true.*adb root"):
            link.write("/sys/x", b"1", root=True)

    def test_a_rooted_phones_su(self, link: Link, stand_ins: Path) -> None:
        """`su -c`, quoted twice."""
        _program(stand_ins / "su", '[ "$1" = -c ] || exit 1; export AS=0; exec sh -c "$2"')
        done = link.run(["printf", "%s|", "a b'c", "$HOME"], root=True, timeout_s=10)
        assert b"a b'c|$HOME|" == done.stdout

    def test_a_debug_builds_su(self, link: Link, stand_ins: Path) -> None:
        """`su 0 program …`."""
        _program(stand_ins / "su", '[ "$1" = 0 ] || exit 1; shift; export AS=0; exec "$@"')
        done = link.run(["printf", "%s|", "a b'c", "$HOME"], root=True, timeout_s=10)
        assert b"a b'c|$HOME|" == done.stdout

    def test_a_su_that_refuses_is_permanent(self, link: Link, stand_ins: Path) -> None:
        """The question waits on the phone's screen."""
        _program(stand_ins / "su", "exit 1")
        with pytest.raises(PermanentDeviceError, match="su does not make us root"):
            link.run(["true"], root=True, timeout_s=10)


class TestOldTools:
    """A device without `sha256sum`."""

    def test_what_was_pushed_is_fetched_to_be_checked(self, tmp_path: Path, reach: Open) -> None:
        """Slower, but as sure."""
        folder = tmp_path / "bin"
        folder.mkdir()
        _program(folder / "sha256sum", "exit 127")
        (tmp_path / "f.bin").write_bytes(b"content")
        with Phone(tmp_path / "phone", stand_ins=folder) as phone:
            link = reach(phone)
            path = link.push(tmp_path / "f.bin")
            link.write(path, b"damaged")
            assert path == link.push(tmp_path / "f.bin")
            assert b"content" == link.read(path)

    def test_a_device_that_lies_about_content_is_caught(self, tmp_path: Path, reach: Open) -> None:
        """Nothing gets a name that promises other content."""
        folder = tmp_path / "bin"
        folder.mkdir()
        _program(folder / "sha256sum", f"echo {'0' * 64}  x")
        (tmp_path / "f.bin").write_bytes(b"content")
        with Phone(tmp_path / "phone", stand_ins=folder) as phone:
            link = reach(phone)
            with pytest.raises(DeviceError, match="did not arrive as it was sent"):
                link.push(tmp_path / "f.bin")


def _program(file: Path, text: str) -> None:
    file.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    file.chmod(0o755)


def _ends(pid: int) -> bool:
    """Whether a process ends long before its time: the signal has been sent, and dying takes its moment."""
    end = time.monotonic() + 40
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False
