"""Provenance says how to do it again, and nothing private."""

from __future__ import annotations

import getpass
import os
import platform
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwbench.provenance import command_line, commit, machine, provenance, versions


def test_it_names_commit_machine_and_versions() -> None:
    """Flat text, nothing empty."""
    found = provenance(["hwbench", "profile"])
    assert found["command"] == "hwbench profile"
    assert found["machine.python"] == platform.python_version()
    assert int(found["machine.cores"]) >= 1
    assert found["version.numpy"]
    assert all(found.values())


def test_host_and_user_names_stay_out() -> None:
    """Tables are published."""
    text = " ".join(machine().values())
    assert socket.gethostname() not in text.split()
    assert getpass.getuser() not in text.split()


@pytest.mark.parametrize("words", [["--token", "s3cret"], ["--api-key=s3cret"], ["--PASSWORD", "s3cret"]])
def test_secrets_are_masked(words: list[str]) -> None:
    """The value of an option that names a secret is never written."""
    line = command_line(["hwbench", *words, "--target", "host"])
    assert "s3cret" not in line
    assert "***" in line
    assert line.endswith("--target host")


@given(st.text("abc-", min_size=1, max_size=9), st.text("xyz", min_size=8, max_size=9))
def test_no_value_of_a_secret_option_survives(name: str, value: str) -> None:
    """Whatever surrounds the word, in one word or two."""
    assert value not in command_line(["hwbench", f"--{name}token", value])
    assert value not in command_line(["hwbench", f"--token-{name}={value}"])


def test_home_is_a_tilde_and_the_program_has_no_path() -> None:
    """Paths under the home folder do not name the user."""
    file = str(Path.home() / "nets" / "a b.onnx")
    line = command_line([f"/opt/venv{os.sep}bin{os.sep}hwbench", "--model", file])
    assert line == "hwbench --model '~/nets/a b.onnx'"


def test_commit_is_twelve_digits_or_unknown() -> None:
    """With a mark when the checkout was changed."""
    head = commit()
    assert head is None or len(head.removesuffix("+changes")) == 12


def test_absent_packages_are_left_out() -> None:
    """Unknown is a missing key."""
    assert versions(["numpy", "no-such-package-anywhere"]).keys() == {"numpy"}
