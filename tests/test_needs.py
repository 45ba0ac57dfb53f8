"""A test that nobody ran must not pass where it was asked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.mark.parametrize("required", ["", "sshd,adb"])
def test_what_is_absent_skips(needs: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, required: str) -> None:
    """And says why."""
    monkeypatch.setenv("HWBENCH_REQUIRE", required)
    with pytest.raises(pytest.skip.Exception, match="no hwbench-absent on this machine"):
        needs("hwbench-absent")


def test_what_is_absent_and_required_fails(needs: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As `.ci/run` requires sshd and adb."""
    monkeypatch.setenv("HWBENCH_REQUIRE", "sshd,hwbench-absent")
    with pytest.raises(pytest.fail.Exception, match="HWBENCH_REQUIRE asks for it"):
        needs("hwbench-absent")


def test_what_is_there_is_found(needs: Callable[[str], str]) -> None:
    """By its path."""
    assert needs("sh").endswith("/sh")
