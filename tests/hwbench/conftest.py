"""Fixtures of tests that need an Android device: the real adb server, and a phone of `tests.doubles.adbd` on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.doubles.phones import Phone, Server


@pytest.fixture(scope="session")
def adb_server(needs: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The real adb server, on a port of its own; HWBENCH_REQUIRE=adb makes its absence a failure."""
    needs("adb")
    from tests.doubles.phones import Server

    with Server(tmp_path_factory.mktemp("adb")) as started:
        yield started


@pytest.fixture
def phone(adb_server: Server, tmp_path: Path) -> Iterator[Phone]:
    """A phone of today, known to the server under `phone.serial`."""
    from tests.doubles.phones import Phone

    with Phone(tmp_path / "phone") as started:
        adb_server.meet(started)
        yield started
        adb_server.forget(started)
