"""Fixtures that every test may use."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from tests.doubles.sshd import Sshd

# The same examples on every machine, and no test that fails because the machine was slow.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# Where system programs stand that a user's PATH does not lead to.
_MORE_PATH = ":/usr/local/sbin:/usr/sbin:/sbin"


def pytest_configure(config: pytest.Config) -> None:
    """A worker of pytest-xdist ignores Ctrl-C, and so would all that its tests start."""
    if hasattr(config, "workerinput"):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
            os.environ.pop(name, None)


@pytest.fixture
def rng() -> np.random.Generator:
    """A seeded generator: a test that fails once fails again."""
    return np.random.default_rng(20_25)


@pytest.fixture(autouse=True)
def own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Locks, caches and tables of a test stay in its own folder, never in the user's."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.delenv("HWBENCH_TABLES", raising=False)
    # Boards are locked where all users of a machine meet: tests that run beside each other would wait there.
    (tmp_path / "locks").mkdir()
    monkeypatch.setenv("HWBENCH_LOCKS", str(tmp_path / "locks"))


@pytest.fixture(scope="session")
def root() -> Path:
    """Top of the checkout."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def needs() -> Callable[[str], str]:
    """Path of a program that a test needs; the test is skipped where it is absent.

    HWBENCH_REQUIRE (`sshd,adb`) names programs whose absence is a failure: a test that nobody ran must not pass.
    """

    def found(program: str) -> str:
        path = shutil.which(program, path=os.environ.get("PATH", "") + _MORE_PATH)
        if path is None:
            if program in os.environ.get("HWBENCH_REQUIRE", "").split(","):
                pytest.fail(f"no {program} on this machine, and HWBENCH_REQUIRE asks for it", pytrace=False)
            pytest.skip(f"no {program} on this machine")
        return path

    return found


@pytest.fixture
def sshd(needs: Callable[[str], str], tmp_path: Path) -> Iterator[Sshd]:
    """A real sshd on loopback, running."""
    needs("sshd")
    with Sshd(tmp_path / "sshd") as running:
        yield running
