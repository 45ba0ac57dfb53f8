"""One cell in one session: load, look, drop, and say what it was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from hwbench.errors import PermanentDeviceError, TransientDeviceError
from hwbench.limits import check_loaded, check_prepared
from hwbench.measurement import Cell, Window
from hwbench.session import Prepared, Session, WindowSpec
from hwbench.steadiness import Steadiness, steadiness
from hwbench.target import Limits, Probe


def measure(
    session: Session,
    prepared: Prepared,
    cell: Cell,
    how: WindowSpec,
    probes: Sequence[Probe] = (),
    *,
    number: int = 0,
    order: int = 0,
    limits: Limits | None = None,
) -> Window:
    """Measure a cell in an open session; the workload is dropped again, also when it cannot run.

    number, order: which session this is, and the cell's place in it.
    limits: of the board; what does not fit is not measured: PermanentDeviceError.
    A window that is not steady is taken again once, then kept and flagged; the runs of the first count as warm-up. Its
    noise tells what was found (`change_percent`) and what could have been (`resolves_percent`).
    """
    allowed = limits or Limits()
    check_prepared(allowed, prepared)
    loaded = session.load(prepared)
    try:
        check_loaded(allowed, loaded)
        raw = session.window([prepared.block_key], how, probes)
        seen = steadiness(raw.run_ns)
        if not seen.steady:
            again = session.window([prepared.block_key], how, probes)
            raw = replace(again, warmup_ns=np.concatenate([raw.warmup_ns, raw.run_ns, again.warmup_ns]))
            seen = steadiness(raw.run_ns)
    except PermanentDeviceError:
        # The graph failed; the session may live on. After anything else there is nobody left to tell, or no time to.
        with suppress(TransientDeviceError):
            session.drop(prepared.block_key)
        raise
    session.drop(prepared.block_key)
    flags = set(raw.flags) | (set() if seen.steady else {"unsteady"}) | _compiler_flags(prepared)
    return Window(
        cell=cell,
        session=number,
        order=order,
        warmup_ns=raw.warmup_ns,
        start_ns=raw.start_ns,
        run_ns=raw.run_ns,
        summary=raw.summary,
        traces=dict(raw.traces),
        noise={**raw.noise, **_told(seen)},
        flags=tuple(sorted(flags)),
        load_ms=loaded.load_ms,
        peak_memory_bytes=raw.peak_memory_bytes if raw.peak_memory_bytes is not None else loaded.peak_memory_bytes,
        artifact_sha256=prepared.sha256,
        evidence=session.hello.evidence,
        provenance={f"file.{name}": str(value) for name, value in sorted({**prepared.notes, **loaded.notes}.items())},
    )


def _told(seen: Steadiness) -> dict[str, float]:
    """What is known of a window's steadiness, in percent."""
    told = {} if math.isnan(seen.resolves) else {"resolves_percent": 100 * seen.resolves}
    return told if seen.steady else {**told, "change_percent": 100 * seen.change}


def _compiler_flags(prepared: Prepared) -> set[str]:
    """What the compiler said that makes the number another one."""
    told = {"partly_on_cpu": "unmapped_ops", "streams_weights": "off_chip_bytes"}
    return {flag for flag, note in told.items() if prepared.notes.get(note)}
