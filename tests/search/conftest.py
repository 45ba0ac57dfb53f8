"""Fixtures of the search tests."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from search import task

OUTSIDE = Path(__file__).parent / "outside"


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The plugins of `outside/`, installed for one test."""
    with installed(tmp_path / "site", monkeypatch) as folder:
        yield folder


@contextmanager
def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Installs the plugins of `outside/` as another distribution would: by entry points that workers find, too.

    Gives the folder with the installation's metadata, for the PYTHONPATH of other processes.
    """
    metadata = folder / "search_double-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: search-double\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[search.tasks]\ndouble = search_double\n[models.datasets]\nfew = few\nfew_open = few_open\n"
    )
    monkeypatch.syspath_prepend(OUTSIDE)
    monkeypatch.syspath_prepend(folder)
    importlib.invalidate_caches()
    task.module.cache_clear()
    yield folder
    task.module.cache_clear()
