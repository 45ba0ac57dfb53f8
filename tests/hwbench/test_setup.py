"""A board is made ready through a real sshd, with a small index of wheels in the place of the internet."""

from __future__ import annotations

import base64
import ensurepip
import hashlib
import json
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from hwbench import command, setup
from hwbench.board_lock import BoardLock, lock_folders
from hwbench.cli import hwbench
from hwbench.errors import ConfigError, PermanentDeviceError
from hwbench.links import local, ssh
from hwbench.setup import Ready, _for_root, set_up
from hwbench.target import Target
from tests.doubles import boards
from tests.doubles.sshd import Sshd
from tests.doubles.sysfs import TreeLink

PINNED = "hwbench-test-runtime==1.2"


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """Three wheels: a runtime, what it needs, and pip."""
    folder = tmp_path / "index"
    folder.mkdir()
    _wheel(folder, "hwbench_test_runtime", "1.2", requires="hwbench-test-base>=3")
    _wheel(folder, "hwbench_test_base", "3.1")
    _newer_pip(folder, "999.0")
    return folder


@pytest.fixture
def internet_here(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pip of this machine finds the index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))


def test_a_board_with_internet_installs_for_itself(
    needs: Callable[[str], str], index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an environment that the link then uses; the second time everything is kept."""
    needs("sshd")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    there = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)}
    with Sshd(tmp_path / "sshd", environment=there) as sshd:
        target = _target(sshd, packages=[PINNED], hints=["plug it in"])
        (first,) = set_up(target)
        assert {"python": "kept", "environment": "made", "packages": "made", "agent": "made"} == _states(first)
        assert "fetched by the board" in _found(first, "packages")
        assert "plug it in" in first.by_hand
        with ssh.open(target.link[0].options) as link:
            assert f"{link.workdir()}/venv/bin/python" == link.python
            done = link.run([link.python, "-c", "import hwbench_test_runtime as r; print(r.VERSION)"], timeout_s=30)
            assert b"1.2\n" == done.stdout
        (second,) = set_up(target)
        assert {"python": "kept", "environment": "kept", "packages": "kept", "agent": "made"} == _states(second)


def test_a_board_without_internet_gets_its_wheels_from_here(
    needs: Callable[[str], str],
    internet_here: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is noticed; with what they need, over the link. From the command line, and as JSON; its old pip first."""
    monkeypatch.setattr(setup, "_ENOUGH_PIP", (999, 0))
    needs("sshd")
    monkeypatch.chdir(tmp_path)
    with Sshd(tmp_path / "sshd", environment={"PIP_NO_INDEX": "1"}) as sshd:
        _write_target(sshd, packages=[PINNED])
        assert 0 == command.run(hwbench, "hwbench", ["setup", "--target", "board", "--json"])
        (told,) = json.loads(capsys.readouterr().out)
        assert "2 wheels sent from here" in {s["name"]: s["found"] for s in told["steps"]}["packages"]
        with ssh.open(sshd.options(python=None)) as link:
            done = link.run([link.python, "-m", "pip", "list"], timeout_s=60)
            assert b"hwbench-test-base" in done.stdout
            assert list((Path(link.workdir()) / "wheels").glob("pip-*.whl"))
        assert 0 == command.run(hwbench, "hwbench", ["setup", "--target", "board", "--offline"])
        assert "next: hwbench doctor --target board" in capsys.readouterr().out


def test_a_package_that_nobody_has_is_named(sshd: Sshd, internet_here: None) -> None:
    """With the Python and the processor it was looked for."""
    target = _target(sshd, packages=["hwbench-test-absent==1"])
    (sshd.folder / "board").mkdir()
    # An environment that is there is not made again, which takes most of the time.
    _environment(sshd)
    with pytest.raises(PermanentDeviceError, match=r"cannot fetch wheels for Python 3\.\d+.*hwbench-test-absent"):
        set_up(target, offline=True)


def test_a_board_without_python_is_told_so(sshd: Sshd) -> None:
    """Its owner's lines still come."""
    (ready,) = set_up(_target(sshd, python="hwbench-no-python", packages=[PINNED], hints=["push benchmark_model"]))
    assert {"python": "none"} == _states(ready)
    assert ("push benchmark_model",) == ready.by_hand


def test_a_board_that_brings_everything_only_gets_the_agent(sshd: Sshd) -> None:
    """Without packages there is no environment: the link goes on with the board's own Python."""
    (ready,) = set_up(_target(sshd))
    assert {"python": "kept", "agent": "made"} == _states(ready)
    assert Path(_found(ready, "agent")).is_file()


def test_an_environment_that_cannot_be_made_says_what_to_install(sshd: Sshd) -> None:
    """Debian packs pip for environments apart."""
    python = sshd.folder / "python-without-venv"
    refusal = '[ "$2" != venv ] || { echo "ensurepip is not available" >&2; exit 1; }'
    python.write_text(f'#!/bin/sh\n{refusal}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    with pytest.raises(PermanentDeviceError, match=r"ensurepip is not available.*apt-get install python3-venv"):
        set_up(_target(sshd, python=str(python), packages=[PINNED]))


def test_a_board_in_use_is_left_alone(sshd: Sshd) -> None:
    """A campaign must not have its Python changed under it."""
    target = _target(sshd)
    with ssh.open(sshd.options()) as link:
        lock = BoardLock(link, lock_folders(target.link[0], link), "board board")
        lock.acquire()
        try:
            with pytest.raises(ConfigError, match="in use"):
                set_up(target)
        finally:
            lock.release()


def test_a_target_without_setup_is_a_usage_error(sshd: Sshd) -> None:
    """There is nothing that could be done."""
    with pytest.raises(ConfigError, match="no \\[setup\\] section"):
        set_up(_target(sshd).model_copy(update={"setup": None}))


@pytest.mark.parametrize("package", ["numpy", "--index-url=http://elsewhere", "a==1 --pre", "a @ file:///x", "-r x==1"])
def test_only_pinned_packages_reach_pip(sshd: Sshd, package: str) -> None:
    """No word of a TOML becomes one of its options."""
    with pytest.raises(ValueError, match="packages"):
        _target(sshd, packages=[package])


def test_the_owner_is_told_what_root_must_allow(tmp_path: Path) -> None:
    """One line of sudoers for the clocks, one of tmpfiles.d for rails that only root reads; to root nothing."""
    tree = boards.raspberry_pi4(tmp_path / "board")
    rail = "/sys/class/hwmon/hwmon0/in0_input"
    tree.file(rail, "5000", secret=True)
    who = tmp_path / "id"
    who.write_text('#!/bin/sh\n[ "$1" = -un ] && echo pi || echo 1000\n')
    who.chmod(0o755)
    target = _plain_target(
        clock=[{"kind": "cpufreq", "name": "cpu", "grid_mhz": [600, 1500]}],
        sensor=[{"name": "rail", "read": f"file:{rail}", "unit": "mv"}],
    )
    link = TreeLink(tree, local.open({"workdir": tmp_path / "work"}))
    tree.programs["id"] = str(who)
    clocks, sensors = _for_root(target, link)
    assert "pi ALL=(root) NOPASSWD: /usr/bin/tee /sys/devices/system/cpu/cpufreq/policy0/" in clocks
    assert f"z {rail} 0444" in sensors
    who.write_text("#!/bin/sh\necho 0\n")
    tree.secret.clear()
    assert [] == list(_for_root(target, link))


def _plain_target(**sections: object) -> Target:
    return Target.model_validate(
        {
            "schema": 1,
            "name": "board",
            "title": "a board",
            "link": [{"kind": "local"}],
            "backend": [{"kind": "onnxruntime", "units": ["cpu"], "precisions": ["fp32"], "threads": [1]}],
            **sections,
        }
    )


def _target(sshd: Sshd, **setup: object) -> Target:
    link = {"kind": "ssh", **_options(sshd)}
    return _plain_target(link=[link], setup={"python": sys.executable, **setup})


def _write_target(sshd: Sshd, packages: list[str]) -> None:
    """./targets/board.toml"""
    options = [f"{name} = {json.dumps(value)}" for name, value in _options(sshd).items()]
    Path("targets").mkdir()
    Path("targets/board.toml").write_text(
        "\n".join(
            [
                'schema = 1\nname = "board"\nextends = "host"\nmeter = []\nclock = []\n[[link]]\nkind = "ssh"',
                *options,
                f"[setup]\npython = {json.dumps(sys.executable)}\npackages = {json.dumps(packages)}\n",
            ]
        )
    )


def _options(sshd: Sshd) -> dict[str, object]:
    options = {name: value if isinstance(value, int) else str(value) for name, value in sshd.options().items()}
    del options["python"]
    return options


def _environment(sshd: Sshd) -> None:
    """An environment on the board that passes for one of `setup`."""
    programs = sshd.folder / "board" / "venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (programs / "python").chmod(0o755)


def _states(ready: Ready) -> Mapping[str, str]:
    return {step.name: step.state for step in ready.steps}


def _found(ready: Ready, name: str) -> str:
    return next(step.found for step in ready.steps if step.name == name)


def _newer_pip(folder: Path, version: str) -> None:
    """The pip that Python brings, under a version that passes for a new one."""
    (bundled,) = Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl")
    old = bundled.name.split("-")[1]
    with (
        zipfile.ZipFile(bundled) as source,
        zipfile.ZipFile(folder / f"pip-{version}-py3-none-any.whl", "w") as made,
    ):
        for entry in source.namelist():
            data = source.read(entry)
            if entry.startswith(f"pip-{old}.dist-info/"):
                entry = entry.replace(old, version, 1)
                data = data.replace(f"Version: {old}".encode(), f"Version: {version}".encode())
                data = data.replace(f"pip-{old}.dist-info".encode(), f"pip-{version}.dist-info".encode())
            made.writestr(entry, data)


def _wheel(folder: Path, name: str, version: str, *, requires: str = "") -> None:
    """A wheel of one module, as PEP 427 has it."""
    about = f"{name}-{version}.dist-info"
    needs_line = f"Requires-Dist: {requires}\n" if requires else ""
    files = {
        f"{name}.py": f'VERSION = "{version}"\n',
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n{needs_line}",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(text)}")
    files[f"{about}/RECORD"] = "\n".join([*lines, f"{about}/RECORD,,"]) + "\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
