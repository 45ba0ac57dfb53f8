"""Where a board is, and as whom it is entered: a target's options, filled in by ~/.ssh/config."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any, Literal

import paramiko
from pydantic import BaseModel, ConfigDict, Field

from hwbench.errors import ConfigError

_KNOWN_HOSTS = (Path("~/.ssh/known_hosts"), Path("/etc/ssh/ssh_known_hosts"))


class Options(BaseModel):
    """How to reach a board's sshd, and what to use there; passwords have no place here.

    user, port, key_file: where absent, what ~/.ssh/config says of this host, then this user's name, 22, and the keys of
    the ssh agent and of ~/.ssh.
    python: runs the agent; None = the one that `hwbench setup` made, else python3.
    workdir: our folder on the board, below the user's home unless absolute.  known_hosts: None = the user's and the
    system's.  root: `sudo` (without a password) or `none`, where the user may all that is asked.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    host: str = Field(pattern=r"^[A-Za-z0-9_:][A-Za-z0-9._:%-]*$")
    user: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")
    port: int | None = Field(default=None, ge=1, le=65535)
    key_file: Path | None = None
    python: str | None = None
    workdir: str = ".hwbench"
    known_hosts: Path | None = None
    root: Literal["sudo", "none"] = "sudo"
    connect_timeout_s: float = Field(default=10.0, gt=0)


class Place:
    """Where the options lead once ~/.ssh/config has been asked."""

    def __init__(self, options: Options) -> None:
        told = _user_config(options.host)
        self.host = str(told.get("hostname", options.host))
        self.user = options.user or str(told.get("user", getpass.getuser()))
        self.port = options.port or int(told.get("port", 22))
        usual = (Path(file).expanduser() for file in told.get("identityfile", ()))
        named = options.key_file.expanduser() if options.key_file else None
        self.key_file = named or next((file for file in usual if file.is_file()), None)
        self.known_hosts = (options.known_hosts,) if options.known_hosts else _KNOWN_HOSTS

    def __str__(self) -> str:
        return f"ssh {self.user}@{self.host}" + ("" if self.port == 22 else f":{self.port}")


def _user_config(host: str) -> dict[str, Any]:
    """What ~/.ssh/config says of this host."""
    file = Path("~/.ssh/config").expanduser()
    try:
        return dict(paramiko.SSHConfig.from_path(str(file)).lookup(host))
    except OSError:
        return {}
    except paramiko.SSHException as error:
        raise ConfigError(f"{file}: cannot be read ({error})") from error
