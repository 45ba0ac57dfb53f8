"""A board behind a real sshd on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from hwbench.errors import ConfigError, PermanentDeviceError, TransientDeviceError
from hwbench.links import ssh
from hwbench.links.ssh import SshLink
from tests.contracts.link import LinkContract
from tests.doubles.sshd import Sshd, make_key

# A command line that no other process of this machine has, nor one that an earlier run left.
NAP = f"sleep 9{os.getpid()}"
ODD = "a b'c\"d$HOME;*\\é!-"


class TestSsh(LinkContract):
    """The contract, and what is particular here."""

    @pytest.fixture
    def link(self, sshd: Sshd) -> Iterator[SshLink]:
        """A link to an sshd of the test's own."""
        with ssh.open(sshd.options()) as link:
            yield link

    def test_it_does_not_connect_before_it_is_used(self, sshd: Sshd) -> None:
        """A plan, a list or a message need no board."""
        with ssh.open(sshd.options()):
            assert 0 == sshd.connections()

    def test_everything_goes_over_one_connection(self, link: SshLink, sshd: Sshd, tmp_path: Path) -> None:
        """Commands, files and processes."""
        (tmp_path / "f").write_bytes(b"x")
        link.read(link.push(tmp_path / "f"))
        pipe = link.spawn(["cat"], env={})
        link.run(["true"], timeout_s=10)
        assert 1 == sshd.connections()
        pipe.close()

    def test_odd_characters_in_paths_and_arguments_arrive(self, link: SshLink, tmp_path: Path) -> None:
        """No string reaches the board's shell unquoted."""
        folder = f"{link.workdir()}/{ODD}"
        assert 0 == link.run(["mkdir", folder], timeout_s=10).returncode
        link.write(f"{folder}/{ODD}", ODD.encode())
        assert ODD.encode() == link.read(f"{folder}/{ODD}")
        link.pull(f"{folder}/{ODD}", tmp_path / "back")
        assert ODD.encode() == (tmp_path / "back").read_bytes()
        pipe = link.spawn(["sh", "-c", 'echo "$1 $ODD"', "sh", ODD], env={"ODD": ODD})
        assert f"{ODD} {ODD}".encode() == pipe.receive(10)
        pipe.close()

    def test_a_newline_in_an_argument_stays_in_it(self, link: SshLink) -> None:
        """The next line would be a command of its own."""
        assert b"a\necho b" == link.run(["printf", "%s", "a\necho b"], timeout_s=10).stdout

    def test_a_workdir_with_odd_characters_serves(self, sshd: Sshd, tmp_path: Path) -> None:
        """It is a name like any other."""
        (tmp_path / "f.bin").write_bytes(b"content")
        with ssh.open(sshd.options(workdir=str(tmp_path / ODD))) as link:
            assert b"content" == link.read(link.push(tmp_path / "f.bin"))

    def test_a_workdir_stands_in_the_home_of_the_boards_user(self, sshd: Sshd) -> None:
        """Unless it is absolute."""
        home = subprocess.run(["sh", "-c", "cd && pwd"], capture_output=True, text=True).stdout.strip()
        for given in ("hwbench-test-absent", "~/hwbench-test-absent"):
            with ssh.open(sshd.options(workdir=given, python=None)) as link:
                assert "python3" == link.python
                assert f"{home}/hwbench-test-absent" == link._there.workdir

    def test_the_python_of_the_boards_environment_is_used_where_it_is(self, sshd: Sshd) -> None:
        """The one that `hwbench setup` made; one that is named wins."""
        python = sshd.folder / "board" / "venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.symlink_to(sys.executable)
        with ssh.open(sshd.options(python=None)) as link:
            assert str(python) == link.python
        with ssh.open(sshd.options(python="/opt/python")) as link:
            assert "/opt/python" == link.python

    def test_an_unwritable_workdir_is_one_clear_line(self, sshd: Sshd, tmp_path: Path) -> None:
        """It names the folder."""
        (tmp_path / "taken").write_bytes(b"")
        with (
            ssh.open(sshd.options(workdir=str(tmp_path / "taken"))) as link,
            pytest.raises(PermanentDeviceError, match="taken"),
        ):
            link.push(Path(__file__))

    def test_large_input_and_output_pass_each_other(self, link: SshLink) -> None:
        """Neither side waits for the other to read first."""
        data = os.urandom(6 << 20)
        assert data == link.run(["cat"], stdin=data, timeout_s=60).stdout

    def test_huge_output_is_refused(self, link: SshLink) -> None:
        """A board gone mad must not fill the host's memory; the command is ended."""
        with pytest.raises(PermanentDeviceError, match="16 MiB"):
            link.run(["sh", "-c", "exec yes hwbench-huge"], timeout_s=60)
        assert _gone("hwbench-huge")

    def test_a_flood_of_errors_stops_nothing_and_its_end_is_kept(self, link: SshLink) -> None:
        """A runtime that prints must not block the dialogue."""
        flood = "import sys; sys.stderr.write('x' * (8 << 20) + 'last words'); sys.stderr.flush(); print('done')"
        pipe = link.spawn([link.python, "-c", flood], env={})
        assert b"done" == pipe.receive(30)
        assert b"" == pipe.receive(10)
        assert pipe.stderr_tail().endswith("last words")
        assert len(pipe.stderr_tail()) <= 4000
        pipe.close()

    def test_a_command_past_its_deadline_is_ended_on_the_board(self, link: SshLink) -> None:
        """And what it started; the connection stays."""
        with pytest.raises(TransientDeviceError, match=r"0\.5 s"):
            link.run(["sh", "-c", f"{NAP}.5 & {NAP}.5"], timeout_s=0.5)
        assert _gone(f"{NAP}.5")
        assert 0 == link.run(["true"], timeout_s=10).returncode

    def test_children_of_a_killed_process_die_with_it(self, link: SshLink) -> None:
        """The whole group is ended."""
        pipe = link.spawn(["sh", "-c", f"{NAP}.25 & echo; wait"], env={})
        assert b"" == pipe.receive(10)
        pipe.close(0.1)
        assert _gone(f"{NAP}.25")

    def test_a_process_killed_by_a_signal_says_which(self, link: SshLink) -> None:
        """The kernel's memory killer is the commonest end on a small board."""
        pipe = link.spawn(["sh", "-c", "kill -9 $$"], env={})
        assert b"" == pipe.receive(10)
        assert -9 == pipe.close()

    def test_leaving_the_link_ends_what_it_started(self, sshd: Sshd) -> None:
        """Nothing of ours stays on the board."""
        with ssh.open(sshd.options()) as link:
            link.spawn(f"{NAP}.75".split(), env={})
        assert _gone(f"{NAP}.75")

    def test_a_login_that_prints_disturbs_no_command(self, needs: Callable[[str], str], tmp_path: Path) -> None:
        """Some boards greet in ~/.bashrc."""
        needs("sshd")
        greeting = 'ForceCommand echo "Welcome to your board"; eval "$SSH_ORIGINAL_COMMAND"\n'
        with Sshd(tmp_path / "sshd", extra=greeting) as sshd, ssh.open(sshd.options()) as link:
            assert b"out\n" == link.run(["echo", "out"], timeout_s=10).stdout
            pipe = link.spawn(["cat"], env={})
            pipe.send(b"line")
            assert b"line" == pipe.receive(10)
            pipe.close()

    def test_an_account_without_a_shell_says_what_it_says(self, needs: Callable[[str], str], tmp_path: Path) -> None:
        """Nothing can be measured there."""
        needs("sshd")
        with (
            Sshd(tmp_path / "sshd", extra="ForceCommand echo This account is not available; exit 1\n") as sshd,
            ssh.open(sshd.options()) as link,
            pytest.raises(PermanentDeviceError, match="This account is not available"),
        ):
            link.run(["true"], timeout_s=10)

    def test_a_board_without_sftp_says_which_line_adds_it(self, needs: Callable[[str], str], tmp_path: Path) -> None:
        """Commands still work."""
        needs("sshd")
        with Sshd(tmp_path / "sshd") as sshd:
            config = sshd.folder / "sshd_config"
            config.write_text(config.read_text().replace("Subsystem sftp internal-sftp\n", ""))
            sshd.kill()
            sshd.start()
            with ssh.open(sshd.options()) as link:
                with pytest.raises(PermanentDeviceError, match="Subsystem sftp internal-sftp"):
                    link.read("/proc/version")
                assert 0 == link.run(["true"], timeout_s=10).returncode

    def test_an_unknown_option_is_refused(self) -> None:
        """A password has no place in a target either."""
        with pytest.raises(ValidationError):
            ssh.open({"host": "board", "password": "raspberry"})

    @pytest.mark.parametrize("host", ["-oProxyCommand=reboot", "a b", "$(reboot)", ""])
    def test_a_host_that_is_none_is_refused(self, host: str) -> None:
        """It stands in commands that we tell people to type."""
        with pytest.raises(ValidationError):
            ssh.open({"host": host})


class TestRoot:
    """Commands as root: through sudo without a password, unless the user is root."""

    @pytest.fixture
    def link(self, sshd: Sshd) -> Iterator[SshLink]:
        """A link whose user is not root, with a `sudo` that tells how it was called."""
        programs = sshd.folder / "bin"
        programs.mkdir()
        sudo = programs / "sudo"
        sudo.write_text('#!/bin/sh\n[ "$1 $2" = "-n --" ] || exit 9\nshift 2\necho "as root" >&2\nexec "$@"\n')
        sudo.chmod(0o755)
        with ssh.open(sshd.options()) as link:
            link.run(["true"], timeout_s=10)
            link._there = replace(link._there, path=f"{programs}:{link._there.path}", is_root=False)
            yield link

    def test_a_command_as_root_goes_through_sudo(self, link: SshLink) -> None:
        """Never asking for a password."""
        done = link.run(["echo", ODD], root=True, timeout_s=10)
        assert (f"{ODD}\n".encode(), b"as root\n") == (done.stdout, done.stderr)

    def test_a_file_is_written_as_root_by_tee(self, link: SshLink) -> None:
        """So one line of sudoers is enough."""
        path = link.workdir() + "/clock"
        link.write(path, b"1", root=True)
        assert b"1" == link.read(path)

    def test_without_sudo_the_line_says_what_helps(self, sshd: Sshd) -> None:
        """Clocks without root are one clear error."""
        with ssh.open(sshd.options()) as link:
            path = link.workdir() + "/clock"
            link._there = replace(link._there, is_root=False)
            if link.run(["sudo", "-n", "true"], timeout_s=10).returncode == 0:
                pytest.skip("this user may sudo here")
            with pytest.raises(PermanentDeviceError, match="hwbench setup"):
                link.write(path, b"1", root=True)

    def test_a_file_that_refuses_says_why(self, link: SshLink) -> None:
        """In the kernel's words, which sftp would swallow."""
        with pytest.raises(PermanentDeviceError, match="Invalid argument"):
            link.write("/proc/self/oom_score_adj", b"nonsense", root=True)


class TestKeys:
    """Whom we trust, and who trusts us."""

    def test_an_unknown_host_is_refused_with_the_command_that_adds_it(self, sshd: Sshd) -> None:
        """And the fingerprint to compare; the command does what it says."""
        right = sshd.known_hosts.read_text()
        sshd.known_hosts.write_text("")
        with ssh.open(sshd.options()) as link, pytest.raises(PermanentDeviceError) as refused:
            link.run(["true"], timeout_s=10)
        told = str(refused.value)
        key = subprocess.run(
            ["ssh-keygen", "-lf", str(sshd.folder / "host_key.pub")], capture_output=True, text=True, check=True
        )
        assert key.stdout.split()[1] in told
        command = told[told.index("ssh-keyscan") :]
        subprocess.run(command, shell=True, check=True, capture_output=True)
        assert right == sshd.known_hosts.read_text()
        with ssh.open(sshd.options()) as link:
            assert 0 == link.run(["true"], timeout_s=10).returncode

    def test_an_absent_file_of_known_hosts_knows_nobody(self, sshd: Sshd) -> None:
        """Like an empty one."""
        sshd.known_hosts.unlink()
        with ssh.open(sshd.options()) as link, pytest.raises(PermanentDeviceError, match="unknown host"):
            link.run(["true"], timeout_s=10)

    def test_a_changed_host_key_is_refused_naming_the_file(self, sshd: Sshd, tmp_path: Path) -> None:
        """And the command that forgets the old one does so."""
        _, other = (make_key(tmp_path / "other").with_suffix(".pub")).read_text().split()[:2]
        sshd.known_hosts.write_text(f"[127.0.0.1]:{sshd.port} ssh-ed25519 {other}\n")
        with ssh.open(sshd.options()) as link, pytest.raises(PermanentDeviceError) as refused:
            link.run(["true"], timeout_s=10)
        told = str(refused.value)
        assert str(sshd.known_hosts) in told
        command = told[told.index("ssh-keygen") : told.index(", then")]
        subprocess.run(command, shell=True, check=True, capture_output=True)
        assert "" == sshd.known_hosts.read_text()

    def test_a_damaged_file_of_known_hosts_is_named(self, sshd: Sshd) -> None:
        """Trust is not guessed."""
        sshd.known_hosts.write_bytes(f"[127.0.0.1]:{sshd.port} ssh-ed25519 AAA\xff\n".encode("latin-1"))
        with ssh.open(sshd.options()) as link, pytest.raises((ConfigError, PermanentDeviceError), match="known_hosts"):
            link.run(["true"], timeout_s=10)

    def test_a_key_that_may_not_enter_is_refused_with_the_command_that_copies_it(
        self, sshd: Sshd, tmp_path: Path
    ) -> None:
        """Not worth another try."""
        other = make_key(tmp_path / "other")
        with ssh.open(sshd.options(key_file=other)) as link, pytest.raises(PermanentDeviceError, match="ssh-copy-id"):
            link.run(["true"], timeout_s=10)

    def test_an_absent_key_file_is_named(self, sshd: Sshd, tmp_path: Path) -> None:
        """It is the configuration that is wrong."""
        link = ssh.open(sshd.options(key_file=tmp_path / "absent"))
        with pytest.raises(ConfigError, match="absent"):
            link.run(["true"], timeout_s=10)

    def test_a_file_that_is_no_key_is_named(self, sshd: Sshd, tmp_path: Path) -> None:
        """The public half, say."""
        link = ssh.open(sshd.options(key_file=sshd.folder / "user_key.pub"))
        with pytest.raises(ConfigError, match=r"user_key\.pub"):
            link.run(["true"], timeout_s=10)

    def test_a_locked_key_is_left_to_the_agent(
        self, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """We never ask for a passphrase."""
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        locked = tmp_path / "locked"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(locked)], check=True)
        link = ssh.open(sshd.options(key_file=locked))
        with pytest.raises(ConfigError, match="ssh-add"):
            link.run(["true"], timeout_s=10)

    def test_the_ssh_agents_key_opens_the_door(
        self, sshd: Sshd, tmp_path: Path, needs: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A real ssh-agent holds it."""
        socket = tmp_path / "agent"
        agent = subprocess.Popen([needs("ssh-agent"), "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
        try:
            monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
            listing = [needs("ssh-add"), "-l"]
            assert _until(lambda: subprocess.run(listing, capture_output=True).returncode != 2)
            subprocess.run([needs("ssh-add"), "-q", str(sshd.key_file)], check=True)
            with ssh.open(sshd.options(key_file=None)) as link:
                assert 0 == link.run(["true"], timeout_s=10).returncode
        finally:
            agent.kill()
            agent.wait()

    def test_the_users_configuration_fills_in_what_is_absent(
        self, sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A name of ~/.ssh/config reaches the board; what the target says wins."""
        (tmp_path / ".ssh").mkdir()
        (tmp_path / ".ssh" / "config").write_text(
            f"Host myboard\n HostName 127.0.0.1\n Port {sshd.port}\n User nobody\n IdentityFile {sshd.key_file}\n"
        )
        monkeypatch.setenv("HOME", str(tmp_path))
        options = {"host": "myboard", "user": sshd.user, "known_hosts": sshd.known_hosts, "workdir": str(tmp_path)}
        with ssh.open(options) as link:
            assert 0 == link.run(["true"], timeout_s=10).returncode


class TestAccidents:
    """What is lost is worth another try, in time, and the next call reconnects."""

    @pytest.fixture
    def link(self, sshd: Sshd) -> Iterator[SshLink]:
        """A link that gives up on a greeting soon."""
        with ssh.open(sshd.options(connect_timeout_s=1.0)) as link:
            yield link

    def test_a_refused_connection_is_transient_and_asks_whether_the_board_is_on(
        self, link: SshLink, sshd: Sshd
    ) -> None:
        """A board may be starting; when it has, the same link serves."""
        sshd.kill()
        with pytest.raises(TransientDeviceError, match="is the board on"):
            link.run(["true"], timeout_s=10)
        sshd.start()
        assert 0 == link.run(["true"], timeout_s=10).returncode

    def test_a_name_that_nobody_has_is_said(self, sshd: Sshd) -> None:
        """In the resolver's words."""
        link = ssh.open(sshd.options(host="hwbench-no-such-board.invalid"))
        with pytest.raises(TransientDeviceError, match="hwbench-no-such-board"):
            link.run(["true"], timeout_s=10)

    def test_a_connection_lost_during_a_command_is_transient(self, link: SshLink, sshd: Sshd) -> None:
        """The next one has a new connection, and the old command is ended."""
        link.run(["true"], timeout_s=10)
        threading.Timer(0.3, sshd.kill_connections).start()
        with pytest.raises(TransientDeviceError, match="lost"):
            link.run(f"{NAP}.625".split(), timeout_s=30)
        assert 0 == link.run(["true"], timeout_s=10).returncode
        assert _gone(f"{NAP}.625")

    def test_a_connection_lost_between_two_calls_is_not_noticed(self, link: SshLink, sshd: Sshd) -> None:
        """Reconnecting is the link's business."""
        link.run(["true"], timeout_s=10)
        sshd.kill_connections()
        _until(lambda: not sshd.connections())
        time.sleep(0.05)
        assert 0 == link.run(["true"], timeout_s=10).returncode

    def test_a_connection_lost_during_a_push_leaves_no_half_file(
        self, link: SshLink, sshd: Sshd, tmp_path: Path
    ) -> None:
        """Under its name a file is whole or absent."""
        file = tmp_path / "large.bin"
        file.write_bytes(os.urandom(24 << 20))
        files = Path(link.workdir()) / "files"
        lost = threading.Thread(target=_once, args=(lambda: any(files.glob("*.part")), sshd.kill_connections))
        lost.start()
        with pytest.raises(TransientDeviceError):
            link.push(file)
        lost.join()
        assert [] == list(files.glob("*.bin"))
        assert file.read_bytes() == Path(link.push(file)).read_bytes()

    def test_what_was_left_half_sent_is_taken_away_in_time(self, link: SshLink, tmp_path: Path) -> None:
        """But not what somebody may still be sending."""
        files = Path(link.workdir()) / "files"
        for name in ("old.part", "new.part"):
            (files / name).write_bytes(b"half")
        an_hour_ago = time.time() - 3700
        os.utime(files / "old.part", (an_hour_ago, an_hour_ago))
        (tmp_path / "file.bin").write_bytes(b"whole")
        pushed = Path(link.push(tmp_path / "file.bin"))
        assert {"new.part", pushed.name} == {file.name for file in files.iterdir()}

    def test_a_connection_lost_in_the_middle_of_a_line_is_transient(self, link: SshLink, sshd: Sshd) -> None:
        """Half an answer is none, and no word of the agent's."""
        pipe = link.spawn(["sh", "-c", f"printf half; exec {NAP}.125"], env={})
        with pytest.raises(TransientDeviceError, match="no answer"):
            pipe.receive(0.3)
        sshd.kill_connections()
        with pytest.raises(TransientDeviceError, match="lost"):
            pipe.receive(10)
        with pytest.raises(TransientDeviceError):
            pipe.send(b"x")
        pipe.close(0.1)
        link.run(["true"], timeout_s=10)
        assert _gone(f"{NAP}.125")

    def test_a_process_that_ends_when_its_input_ends_does_so_when_the_link_is_lost(
        self, link: SshLink, sshd: Sshd
    ) -> None:
        """As the agent does: nobody has to come back and end it."""
        link.spawn(["sh", "-c", "cat; exec true hwbench-cat"], env={})
        sshd.kill_connections()
        assert _gone("hwbench-cat")

    def test_a_stopped_sshd_meets_every_deadline(self, link: SshLink, sshd: Sshd, tmp_path: Path) -> None:
        """Nothing is closed, nobody answers: all calls come back in time, and serve again when it goes on."""
        (tmp_path / "small.bin").write_bytes(b"x" * 100)
        (tmp_path / "large.bin").write_bytes(os.urandom(16 << 20))
        calls: tuple[Callable[[], object], ...] = (
            lambda: link.run(["true"], timeout_s=0.3),
            lambda: link.read("/proc/version", timeout_s=0.3),
            lambda: link.write(f"{link._there.workdir}/note", b"x", timeout_s=0.3),
            lambda: link.push(tmp_path / "small.bin", timeout_s=0.3),
            lambda: link.push(tmp_path / "large.bin", timeout_s=0.3),
            lambda: link.pull("/proc/version", tmp_path / "back", timeout_s=0.3),
            lambda: pipe.receive(0.3),
        )
        for call in calls:
            link.workdir()
            link.read("/proc/version")
            pipe = link.spawn(["cat"], env={})
            sshd.stop()
            begin = time.monotonic()
            with pytest.raises(TransientDeviceError):
                call()
            pipe.close(0.0)
            late = time.monotonic() - begin
            sshd.go_on()
            assert late < 5

    def test_a_file_system_that_is_full_is_named(self, sshd: Sshd, tmp_path: Path, needs: Callable[[str], str]) -> None:
        """With how much is free and how much is needed."""
        small = tmp_path / "small"
        small.mkdir()
        mounted = subprocess.run(
            [needs("mount"), "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], capture_output=True
        )
        if mounted.returncode != 0:
            pytest.skip("this user may not mount a small file system")
        try:
            (tmp_path / "large.bin").write_bytes(os.urandom(4 << 20))
            with ssh.open(sshd.options(workdir=str(small / "board"))) as link:
                with pytest.raises(PermanentDeviceError, match=r"full .*4096 kB needed"):
                    link.push(tmp_path / "large.bin")
                with pytest.raises(PermanentDeviceError, match="No space left"):
                    link.write(f"{small}/note", bytes(4 << 20))
        finally:
            subprocess.run(["umount", "-l", str(small)], check=True)

    def test_random_moments_of_killing_lose_nothing_but_the_call(self, link: SshLink, sshd: Sshd) -> None:
        """Whatever was going on: a result or a device error that is worth another try, and then a result."""
        stop = threading.Event()

        def kill_often() -> None:
            while not stop.wait(0.11):
                sshd.kill_connections()

        killer = threading.Thread(target=kill_often)
        killer.start()
        lost = 0
        try:
            for i in range(60):
                try:
                    assert str(i).encode() == link.run(["printf", str(i)], timeout_s=5).stdout
                    link.write(f"{link.workdir()}/note", str(i).encode())
                    assert str(i).encode() == link.read(f"{link.workdir()}/note")
                except TransientDeviceError:
                    lost += 1
        finally:
            stop.set()
            killer.join()
        assert lost
        assert 0 == link.run(["true"], timeout_s=10).returncode


def _gone(command: str) -> bool:
    """Whether no process of this machine has that in its command line, soon: dying takes its moment."""

    def absent() -> bool:
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if command.encode() in file.read_bytes().replace(b"\0", b" "):
                    return False
            except OSError:
                continue
        return True

    return _until(absent)


def _until(true: Callable[[], bool]) -> bool:
    for _ in range(500):
        if true():
            return True
        time.sleep(0.01)
    return False


def _once(true: Callable[[], bool], then: Callable[[], None]) -> None:
    for _ in range(100_000):
        if true():
            then()
            return
