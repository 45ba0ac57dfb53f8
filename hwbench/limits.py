"""Does it fit? A board's `[limits]` against what a workload needs, before it is measured where that is known."""

from __future__ import annotations

from hwbench.errors import PermanentDeviceError
from hwbench.session import Loaded, Prepared
from hwbench.target import Limits


def check_prepared(limits: Limits, prepared: Prepared) -> None:
    """PermanentDeviceError when what the compiler said (the note `needs_bytes`) is more memory than there may be."""
    _check(limits, prepared.block_key, prepared.notes.get("needs_bytes"), "its compiled file alone")


def check_loaded(limits: Limits, loaded: Loaded) -> None:
    """PermanentDeviceError when loading and running it once took more memory than there may be."""
    _check(limits, loaded.block_key, loaded.peak_memory_bytes, "loading it and running it once")


def _check(limits: Limits, block_key: str, size_bytes: str | int | float | None, what: str) -> None:
    if limits.memory_mb is None or not isinstance(size_bytes, int | float):
        return
    size_mb = size_bytes / 1e6
    if size_mb > limits.memory_mb:
        raise PermanentDeviceError(
            f"{block_key} does not fit: {what} takes {size_mb:.4g} MB, the target's [limits] memory_mb is "
            f"{limits.memory_mb:g}; make it smaller, or raise the limit if the board has more"
        )
