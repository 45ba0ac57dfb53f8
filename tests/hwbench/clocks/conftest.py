"""A link to this machine, under which a board's tree is put."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwbench.link import Link
from hwbench.links import local


@pytest.fixture
def here(tmp_path: Path) -> Link:
    """What runs the programs that look at the tree."""
    return local.open(local.Options(workdir=tmp_path / "work"))
