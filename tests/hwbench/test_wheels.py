"""Wheels are chosen as pip would choose them on the board."""

from __future__ import annotations

import pytest

from hwbench.errors import PermanentDeviceError
from hwbench.wheels import platforms_of


def test_wheels_are_chosen_by_the_c_library() -> None:
    """All that an older one runs, the newest first; Debian 10 on a Coral."""
    tags = platforms_of("aarch64", "glibc 2.28")
    assert ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64") == tags[:2]
    assert ("manylinux2014_aarch64", "linux_aarch64") == tags[-2:]
    assert "manylinux_2_29_aarch64" not in tags


@pytest.mark.parametrize("libc", ["", "musl 1.2", "glibc", "glibc 2", "glibc 2.x", "glibc 3.1"])
def test_another_c_library_is_said(libc: str) -> None:
    """Wheels are not guessed."""
    with pytest.raises(PermanentDeviceError, match="platforms"):
        platforms_of("aarch64", libc)
