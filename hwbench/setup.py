"""Makes a board ready: a Python of its own with pinned packages, and the agent; nothing is changed as root.

Where the board has no internet its wheels are fetched here, for its Python and processor, and sent over the link.
"""

from __future__ import annotations

import json
import logging
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwbench import agent_archive, sudo, wheels
from hwbench.board_lock import BoardLock, lock_folders
from hwbench.errors import ConfigError, DeviceError, PermanentDeviceError
from hwbench.link import Link
from hwbench.target import Plugin, Setup, Target, plugin_options

logger = logging.getLogger(__name__)

_SMALL_S, _VENV_S, _INSTALL_S, _SEND_S = 30.0, 300.0, 1800.0, 600.0
# Older ones do not know the wheels that are made today (PEP 600), and would compile numpy for an hour.
_ENOUGH_PIP = (20, 3)
# More than any sensor says.
_MOST_BYTES = 1 << 16
# A 64-bit kernel may run a 32-bit Python, which is what counts.
_ASK = """import json, os, platform, struct
small = {"aarch64": "armv7l", "x86_64": "i686"} if struct.calcsize("P") == 4 else {}
machine = platform.machine()
libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
print(json.dumps([platform.python_version(), small.get(machine, machine), libc]))"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that was seen to; state: `made`, `kept` (it was right already) or `none` (not needed there)."""

    name: str
    state: str
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A board after its set-up; by_hand: lines for its owner, some of them for root."""

    board: str
    steps: tuple[Step, ...]
    by_hand: tuple[str, ...]


def set_up(target: Target, *, offline: bool = False, phase: Callable[[str], None] = logger.info) -> list[Ready]:
    """Set up every board of a target.

    offline: fetch the wheels here even where the board has internet.  phase: told what begins.
    Raises ConfigError for a target without [setup] and for a board in use, DeviceError when something cannot be done.
    """
    section = target.setup
    if section is None:
        raise ConfigError(f"target {target.name}: has no [setup] section, so there is nothing to set up on it")
    return [_board(target, section, link, offline, phase) for link in target.link]


def _board(target: Target, section: Setup, plugin: Plugin, offline: bool, phase: Callable[[str], None]) -> Ready:
    module, options = plugin_options(target, "hwbench.links", plugin.kind, plugin.options)
    with module.open(options) as link:
        # A campaign must not have its Python changed under it.
        lock = BoardLock(link, lock_folders(plugin, link), f"board {target.name}")
        lock.acquire(wait=False)
        try:
            steps = list(_steps(link, section, offline, phase))
            by_hand = [*section.hints, *_for_root(target, link)]
        finally:
            lock.release()
        return Ready(board=link.name, steps=tuple(steps), by_hand=tuple(by_hand))


def _steps(link: Link, section: Setup, offline: bool, phase: Callable[[str], None]) -> Iterator[Step]:
    phase("asking the board's Python")
    told = _ask(link, section.python)
    if told is None:
        yield Step(name="python", state="none", found=f"no {section.python} on {link.name}: nothing of ours runs there")
        return
    version, machine, libc = told
    yield Step(
        name="python", state="kept", found=f"{section.python} {version} ({machine}, {libc or 'C library unknown'})"
    )
    if section.packages:
        venv = f"{link.workdir()}/venv"
        phase("making a virtual environment")
        yield _environment(link, section.python, venv, version)
        phase(f"installing {', '.join(section.packages)}")
        installer = _Installer(
            link=link,
            venv=venv,
            platforms=lambda: section.platforms or wheels.platforms_of(machine, libc),
            version=version,
            offline=offline,
        )
        yield _packages(installer, section)
    phase("sending the agent")
    yield Step(name="agent", state="made", found=link.push(agent_archive.build(), timeout_s=_SEND_S))


def _ask(link: Link, python: str) -> tuple[str, str, str] | None:
    """Version, machine and C library of a Python on the board; None where there is none."""
    done = link.run([python, "-c", _ASK], timeout_s=_SMALL_S)
    if done.returncode == 127:
        return None
    try:
        version, machine, libc = map(str, json.loads(done.stdout))
    except ValueError as error:
        raise PermanentDeviceError(f"{link.name}: {python} does not run ({_text(done.stderr)[-300:]})") from error
    return version, machine, libc


def _environment(link: Link, python: str, venv: str, version: str) -> Step:
    """A virtual environment of that Python that also sees what the system brings: TensorRT, tflite_runtime, pip."""
    found = _ask(link, f"{venv}/bin/python")
    if found is not None and found[0] == version and _pip_version(link, venv) is not None:
        return Step(name="environment", state="kept", found=venv)
    make = [python, "-m", "venv", "--clear", "--system-site-packages"]
    # The system's pip will do; Debian keeps the one for environments in a package of its own.
    link.run([*make, "--without-pip", venv], timeout_s=_VENV_S)
    if _pip_version(link, venv) is None:
        done = link.run([*make, venv], timeout_s=_VENV_S)
        if done.returncode != 0:
            raise PermanentDeviceError(
                f"{link.name}: cannot make the environment {venv} ({_text(done.stdout + done.stderr)[-300:]}); "
                "on the board: sudo apt-get install python3-venv python3-pip"
            )
    return Step(name="environment", state="made", found=venv)


def _pip_version(link: Link, venv: str) -> tuple[int, ...] | None:
    """Of the environment's pip, its own or the system's; None where there is none."""
    done = link.run([f"{venv}/bin/python", "-m", "pip", "--version"], timeout_s=_SMALL_S)
    found = re.match(rb"pip (\d+(?:\.\d+)*)", done.stdout)
    return None if found is None else tuple(int(n) for n in found[1].split(b"."))


def _installed(link: Link, python: str) -> set[str]:
    """`name==version` of all that this Python has, names in small letters with dashes."""
    done = link.run([python, *wheels.PIP, "list", "--format=json"], timeout_s=_VENV_S)
    try:
        return {f"{p['name'].lower().replace('_', '-')}=={p['version']}" for p in json.loads(done.stdout)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return set()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Installer:
    """Installs into the environment of one board: by its own pip, or with wheels from here."""

    link: Link
    venv: str
    platforms: Callable[[], tuple[str, ...]]
    version: str
    offline: bool

    @property
    def python(self) -> str:
        """The environment's."""
        return f"{self.venv}/bin/python"

    def install(self, packages: Sequence[str]) -> str:
        """Install, and tell how."""
        said = ""
        command = [self.python, *wheels.PIP, "install"]
        if not self.offline:
            done = self.link.run([*command, *packages], timeout_s=_INSTALL_S)
            if done.returncode == 0:
                return "fetched by the board"
            said = f"the board's own pip: {wheels.last_words(done.stderr)}; "
            logger.info("%s: %sso wheels are fetched here", self.link.name, said)
        minor = ".".join(self.version.split(".")[:2])
        try:
            files = wheels.fetch(packages, self.platforms(), minor)
            folder = _send(self.link, files)
        except PermanentDeviceError as error:
            raise PermanentDeviceError(f"{self.link.name}: {said}{error}") from error
        done = self.link.run([*command, "--no-index", "--find-links", folder, *packages], timeout_s=_INSTALL_S)
        if done.returncode != 0:
            raise PermanentDeviceError(
                f"{self.link.name}: {said}with wheels from here: {wheels.last_words(done.stderr)}"
            )
        return f"{len(files)} wheels sent from here"


def _packages(installer: _Installer, section: Setup) -> Step:
    wanted = ", ".join(section.packages)
    if {p.lower().replace("_", "-") for p in section.packages} <= _installed(installer.link, installer.python):
        return Step(name="packages", state="kept", found=wanted)
    if (_pip_version(installer.link, installer.venv) or ()) < _ENOUGH_PIP:
        installer.install([f"pip>={'.'.join(map(str, _ENOUGH_PIP))}"])
    try:
        how = installer.install(section.packages)
    except PermanentDeviceError as error:
        if section.python_version in (None, ".".join(installer.version.split(".")[:2])):
            raise
        raise PermanentDeviceError(
            f"{error}; the target's [setup] was chosen for Python {section.python_version}, this is {installer.version}"
        ) from error
    return Step(name="packages", state="made", found=f"{wanted}, {how}")


def _send(link: Link, files: Sequence[Path]) -> str:
    """Push wheels, and give them their own names again in a folder of the board: pip reads them."""
    folder = f"{link.workdir()}/wheels"
    _run(link, ["mkdir", "-p", folder])
    for wheel in files:
        _run(link, ["ln", "-sf", link.push(wheel, timeout_s=_SEND_S), f"{folder}/{wheel.name}"])
    return folder


def _for_root(target: Target, link: Link) -> Iterator[str]:
    """What only the board's owner may allow; said, never done."""
    if _text(link.run(["id", "-u"], timeout_s=_SMALL_S).stdout) != "0":
        commands: list[str] = []
        for section in target.clock:
            module, options = plugin_options(target, "hwbench.clocks", section.kind, section.options)
            try:
                commands += getattr(module.open(options, link), "root_commands", ())
            except DeviceError as error:
                yield f"clock {section.name} cannot be set up yet: {error}"
        if commands:
            line = sudo.line(link, commands)
            yield f"as root, clocks (visudo -f /etc/sudoers.d/hwbench): {line}"
    closed = [path for path in _files(target) if _closed(link, path)]
    if closed:
        lines = "; ".join(f"z {path} 0444 root root -" for path in closed)
        yield f"as root, sensors (/etc/tmpfiles.d/hwbench.conf, then systemd-tmpfiles --create): {lines}"


def _files(target: Target) -> list[str]:
    """Files of the board that sensors and meters read, by their sections."""
    told: list[Any] = [sensor.read for sensor in target.sensor]
    for meter in target.meter:
        told += [v for o in meter.options.values() for v in (o.values() if isinstance(o, dict) else [o])]
    return [t.removeprefix("file:") for t in told if isinstance(t, str) and t.startswith("file:/")]


def _closed(link: Link, path: str) -> bool:
    """Whether a file is there and may not be read."""
    try:
        link.read(path, max_bytes=_MOST_BYTES)
    except FileNotFoundError:
        return False
    except PermanentDeviceError as error:
        return "denied" in str(error).lower()
    return False


def _run(link: Link, argv: Sequence[str]) -> None:
    done = link.run(argv, timeout_s=_SMALL_S)
    if done.returncode != 0:
        raise PermanentDeviceError(f"{shlex.join(argv)}: {_text(done.stderr)[-300:]}")


def _text(data: bytes) -> str:
    return " ".join(data.decode("utf-8", "replace").split())
