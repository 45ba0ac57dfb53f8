"""A Jetson's power mode, by `nvpmodel`: it bounds all other clocks, so it comes first in a target's list.

[[clock]]
kind = "nvpmodel"
name = "mode"
modes = ["MAXN", "MODE_15W"]

Some modes take effect after a restart only; `nvpmodel` then asks, and is told no.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field

from hwbench import sudo
from hwbench.errors import ConfigError, PermanentDeviceError, nearest
from hwbench.link import Link
from hwbench.target import Probe

_CONF = "/etc/nvpmodel.conf"
_TIMEOUT_S = 20.0
_NAMED = re.compile(r"ID=(\d{1,3}) NAME=([A-Za-z0-9_.+-]{1,64})")
_LISTED, _VERBOSE = "NVPM VERB: POWER_MODEL:", "NVPM VERB:"
_SECTION = re.compile(r"< *([A-Z_]+) +(.*?) *>")
_DEFAULT = re.compile(r"DEFAULT=(\d{1,3})")
_MODE = re.compile(r"NV Power Mode: ?([A-Za-z0-9_.+-]{1,64})")


class Options(BaseModel):
    """modes: names as `nvpmodel -p --verbose` lists them; () = all that the board has."""

    model_config = ConfigDict(extra="forbid")
    name: str
    modes: tuple[str, ...] = Field(default=())


class NvpModel:
    """See `hwbench.clock.Clock`."""

    def __init__(self, options: Options, link: Link) -> None:
        self.name = options.name
        self._options, self._link = options, link

    # Asked when it is needed: a board is measured in the mode that it is in even where that cannot be changed.
    @cached_property
    def _modes(self) -> dict[str, int]:
        return parse_modes(self._ask("-p", "--verbose"), _config(self._link))

    @property
    def root_commands(self) -> tuple[str, ...]:
        """What it needs root for, as sudoers has it."""
        return tuple(f"/usr/sbin/nvpmodel -m {number}" for number in self._modes.values())

    def grid(self) -> tuple[float | str, ...]:
        """Names of modes that the TOML and the board agree on."""
        for mode in self._options.modes:
            if mode not in self._modes:
                raise ConfigError(f"clock {self.name}: the board has no mode {mode!r}{nearest(mode, self._modes)}")
        return self._options.modes or tuple(self._modes)

    def state(self) -> Mapping[str, str]:
        """The present mode's name."""
        return {"mode": self._now()}

    def set(self, value: float | str) -> float:
        """Switch, ask again; ms that it took. A mode that needs a restart is refused."""
        if not isinstance(value, str) or value not in self.grid():
            raise ConfigError(f"clock {self.name}: no mode {value!r}{nearest(str(value), map(str, self.grid()))}")
        start = time.monotonic()
        self._switch(value)
        return 1e3 * (time.monotonic() - start)

    def restore(self, state: Mapping[str, str]) -> None:
        """The mode as it was."""
        if "mode" in state:
            self._switch(state["mode"])

    def probe(self) -> Probe | None:
        """None: a mode is no number."""
        return None

    def _now(self) -> str:
        return parse_present(self._ask("-q"), self._modes)

    def _switch(self, mode: str) -> None:
        if mode not in self._modes:
            raise PermanentDeviceError(f"clock {self.name}: the board has no mode {mode!r} any more")
        if self._now() == mode:
            return  # to set it again would undo what was set since
        number = str(self._modes[mode])
        # It asks on its input where it wants to restart the board: the answer is no.
        done = sudo.run(
            self._link,
            ["nvpmodel", "-m", number],
            f"clock {self.name}",
            self.root_commands,
            stdin=b"no\n",
            timeout_s=_TIMEOUT_S,
        )
        said = (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace")
        if "reboot" in said.lower():
            raise PermanentDeviceError(
                f"clock {self.name}: mode {mode} needs a restart of the board, which is never done from here; "
                f"run `sudo nvpmodel -m {number}` on the board, let it restart, and leave the mode as it is then"
            )
        found = self._now()
        if found != mode:
            told = " ".join(said.split())[-200:]
            raise PermanentDeviceError(f"clock {self.name}: asked for mode {mode}, the board is in {found} ({told})")

    def _ask(self, *options: str) -> str:
        done = self._link.run(["nvpmodel", *options], timeout_s=_TIMEOUT_S)
        if done.returncode != 0:
            why = " ".join(done.stderr.decode("utf-8", "replace").split())[-200:]
            raise PermanentDeviceError(
                f"clock {self.name}: nvpmodel {' '.join(options)} failed ({why}); a Jetson has it"
            )
        # Releases differ in where they write what --verbose adds.
        told = done.stdout if b"POWER_MODEL" in done.stdout or b"Power Mode" in done.stdout else done.stderr
        return told.decode("utf-8", "replace")


def parse_modes(listing: str, config: str) -> dict[str, int]:
    """Modes by name from what `nvpmodel -p --verbose` prints, held against the file that it says it has read.

    Neither tells where it ends, but both list the same modes, and the file ends with its default.
    Raises PermanentDeviceError where one of them is cut short or they do not agree.
    """
    printed: list[tuple[str, int]] = []
    open_ = False  # a mode's lines end with an empty one
    for line in _lines(listing, "nvpmodel -p --verbose"):
        if line.startswith(_LISTED):
            if open_:
                raise _broken("nvpmodel -p --verbose", f"a mode ends without an empty line before {line!r}")
            printed.append(_mode(line.removeprefix(_LISTED).strip(), "nvpmodel -p --verbose"))
            open_ = True
        elif open_ and line.strip() == _VERBOSE:
            open_ = False
    if open_:
        raise _broken("nvpmodel -p --verbose", f"it ends in the middle of mode {printed[-1][0]}")
    configured: list[tuple[str, int]] = []
    default: int | None = None
    for line in _lines(config, _CONF):
        section = _SECTION.fullmatch(line.strip())
        if section is None:
            if line.lstrip().startswith("<"):
                raise _broken(_CONF, f"{line!r} is no section")
        elif section[1] == "POWER_MODEL":
            configured.append(_mode(section[2], _CONF))
        elif section[1] == "PM_CONFIG":
            told = _DEFAULT.fullmatch(section[2])
            default = int(told[1]) if told else None
    if default is None or default not in [number for _, number in configured]:
        raise _broken(_CONF, "it does not end with a default among its modes")
    if printed != configured or len(dict(printed)) != len(printed) or len({n for _, n in printed}) != len(printed):
        raise _broken("nvpmodel -p --verbose", f"it lists {printed}, {_CONF} lists {configured}")
    return dict(printed)


def parse_present(text: str, modes: Mapping[str, int]) -> str:
    """The present mode's name from what `nvpmodel -q` prints: its name, and its number on a line of its own.

    Raises PermanentDeviceError where these do not name one of the modes.
    """
    lines = _lines(text, "nvpmodel -q")
    for place, line in enumerate(lines[:-1]):
        named = _MODE.fullmatch(line.strip())
        if named is not None:
            number = lines[place + 1].strip()
            if len(lines) != place + 2 or not number.isdecimal() or modes.get(named[1]) != int(number):
                raise _broken("nvpmodel -q", f"mode {named[1]} with number {number!r} is none of {dict(modes)}")
            return named[1]
    raise _broken("nvpmodel -q", "it names no mode")


def open(options: Options, link: Link) -> NvpModel:
    """The clock; nothing is asked of the board yet."""
    return NvpModel(options, link)


def _config(link: Link) -> str:
    try:
        return link.read(_CONF).decode("utf-8", "replace")
    except FileNotFoundError as error:
        raise PermanentDeviceError(f"nvpmodel: no {_CONF} on this board, so its modes are not known") from error


def _lines(text: str, what: str) -> list[str]:
    if not text.endswith("\n"):
        raise _broken(what, "its last line is cut")
    return text.removesuffix("\n").split("\n")


def _mode(text: str, what: str) -> tuple[str, int]:
    found = _NAMED.fullmatch(text)
    if found is None:
        raise _broken(what, f"{text!r} is no mode")
    return found[2], int(found[1])


def _broken(what: str, why: str) -> PermanentDeviceError:
    return PermanentDeviceError(f"{what} is not as it should be: {why}")
