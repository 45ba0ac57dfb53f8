"""What root is needed for is told as one line that allows just that."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwbench import sudo
from hwbench.errors import PermanentDeviceError
from hwbench.link import Link
from hwbench.links import local
from tests.doubles.sysfs import Tree, TreeLink


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Two files, one of which root alone may read."""
    made = Tree(tmp_path / "board")
    made.file("/sys/open", "1")
    made.file("/sys/secret", "42", secret=True)
    return made


@pytest.fixture
def here(tmp_path: Path) -> Link:
    """What runs the programs."""
    return local.open(local.Options(workdir=tmp_path / "work"))


def test_root_reads_and_writes(tree: Tree, here: Link) -> None:
    """With root there is nothing to tell; a file that is not there is not there."""
    link = TreeLink(tree, here)
    assert sudo.read(link, "/sys/secret", "it", ()) == "42"
    sudo.write(link, "/sys/open", "7", "it", ())
    assert tree.get("/sys/open") == "7"
    with pytest.raises(FileNotFoundError):
        sudo.read(link, "/sys/none", "it", ())


def test_without_root_the_way_out_is_told_in_one_line(tree: Tree, here: Link) -> None:
    """Whole commands, and signs that sudoers takes as its own are quoted."""
    link = TreeLink(tree, here, sudo=False)
    commands = (sudo.reading("/sys/secret"), sudo.writing("/sys/a:b,c"))
    with pytest.raises(PermanentDeviceError) as error:
        sudo.read(link, "/sys/secret", "it", commands)
    line = r"ALL=(root) NOPASSWD: /usr/bin/head -c 4096 /sys/secret, /usr/bin/tee /sys/a\:b\,c"
    assert str(error.value).startswith("it: needs root; allow it on the board with one line in sudoers (visudo): ")
    assert str(error.value).endswith(line)
    with pytest.raises(PermanentDeviceError, match="needs root"):
        sudo.write(link, "/sys/open", "7", "it", commands)
    with pytest.raises(PermanentDeviceError, match="needs root"):
        sudo.run(link, ["true"], "it", commands)


def test_a_user_with_a_name_that_is_none_is_left_to_be_filled_in(tree: Tree, here: Link) -> None:
    """What a board says is not printed as a rule for its root."""
    tree.programs["id"] = "/bin/echo"  # says `-un`
    assert sudo.line(TreeLink(tree, here), ["/bin/true"]) == "USER ALL=(root) NOPASSWD: /bin/true"
