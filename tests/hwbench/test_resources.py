"""Where data is found in a checkout (tests/contracts/test_project.py looks at an installed wheel)."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwbench.resources import table_folders, tables_dir, targets_dir


def test_a_checkout_reads_and_writes_its_own_folders(root: Path) -> None:
    """What is measured in a checkout lands where it can be committed."""
    assert targets_dir() == root / "targets"
    assert tables_dir() == root / "latency_tables"
    assert table_folders() == (root / "latency_tables",)


def test_the_environment_moves_tables_and_keeps_the_shipped_ones_in_sight(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One's own folder is looked at first."""
    monkeypatch.setenv("HWBENCH_TABLES", str(tmp_path / "mine"))
    assert tables_dir() == tmp_path / "mine"
    assert table_folders() == (tmp_path / "mine", root / "latency_tables")
