"""Whether a workload fits, by what is known of it."""

from __future__ import annotations

import pytest

from hwbench.errors import PermanentDeviceError
from hwbench.limits import check_loaded, check_prepared
from hwbench.session import Loaded, Prepared
from hwbench.setting import Setting
from hwbench.target import Limits


def _prepared(**notes: str | int | float) -> Prepared:
    setting = Setting(unit="npu", precision="int8")
    return Prepared(block_key="mb4", setting=setting, format="tflite_int8", path="/x", sha256="0", notes=notes)


def _loaded(peak_memory_bytes: int | None) -> Loaded:
    return Loaded(block_key="mb4", inputs=(), outputs=(), load_ms=1.0, peak_memory_bytes=peak_memory_bytes)


def test_more_than_the_limit_names_workload_need_and_limit() -> None:
    """Both where the compiler tells and where the board does."""
    with pytest.raises(PermanentDeviceError, match=r"mb4 does not fit.*12\.5 MB.*memory_mb is 10;"):
        check_prepared(Limits(memory_mb=10), _prepared(needs_bytes=12_500_000))
    with pytest.raises(PermanentDeviceError, match=r"mb4 does not fit.*12\.5 MB.*memory_mb is 10;"):
        check_loaded(Limits(memory_mb=10), _loaded(12_500_000))


def test_the_limit_itself_fits_and_unknown_is_not_too_much() -> None:
    """No limit, or no figure: nothing to compare."""
    check_prepared(Limits(memory_mb=10), _prepared(needs_bytes=10_000_000))
    check_prepared(Limits(memory_mb=10), _prepared(compiler="x"))
    check_prepared(Limits(), _prepared(needs_bytes=10**12))
    check_loaded(Limits(memory_mb=10), _loaded(10_000_000))
    check_loaded(Limits(memory_mb=10), _loaded(None))
    check_loaded(Limits(), _loaded(10**12))
