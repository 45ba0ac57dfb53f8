"""Every test of models draws the same numbers each time, and on one thread: small networks lose more than they win."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Threads cannot be set per test."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """A test that fails once fails again."""
    torch.manual_seed(20_25)
