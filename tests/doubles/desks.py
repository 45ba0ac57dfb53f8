"""Boards on the desk: this machine described as a target with clocks that are files, reached in several ways."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

import hwbench.clocks
import hwbench.links
from hwbench.target import Target
from hwbench.target_file import read_target

_DOUBLES = Path(__file__).parent
_HEAD = """\
schema = 1
name = "desk"
title = "a board on the desk"
"""
_BACKEND = """\
[[backend]]
kind = "onnxruntime"
units = ["cpu"]
precisions = ["fp32"]
threads = [1]
"""


def plug_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the doubles of links and clocks plugins beside ours."""
    for package, folder in ((hwbench.clocks, "clocks"), (hwbench.links, "links")):
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(_DOUBLES / folder)])


def link_section(kind: str, options: Mapping[str, object]) -> str:
    """A [[link]] section."""
    return f'[[link]]\nkind = "{kind}"\n' + "".join(f"{key} = {json.dumps(value)}\n" for key, value in options.items())


def desk(folder: Path, *, links: Sequence[str] = (), more: str = "") -> Target:
    """A target with the clocks `mode` (10, found, or 20 MHz) and `gpu` (300, found, or 600; 900 is refused).

    links: sections; by default a local one in `folder`.  more: sections to add.
    """
    for name, mhz in (("mode", 10), ("gpu", 300)):
        (folder / name).write_text(str(mhz))
    sections = links or [link_section("local", {"workdir": str(folder / "board")})]
    clocks = (
        f'[[clock]]\nkind = "knob"\nname = "mode"\nfile = "{folder}/mode"\ngrid_mhz = [10.0, 20.0]\n'
        f'[[clock]]\nkind = "knob"\nname = "gpu"\nfile = "{folder}/gpu"\ngrid_mhz = [300.0, 600.0, 900.0]\n'
        "stuck = 900.0\n"
    )
    file = folder / "desk.toml"
    file.write_text(_HEAD + "".join(sections) + _BACKEND + clocks + more)
    return read_target(file)


def clocks(folder: Path) -> tuple[str, str]:
    """What the files of `mode` and `gpu` say."""
    return (folder / "mode").read_text(), (folder / "gpu").read_text()
