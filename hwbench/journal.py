"""What a campaign keeps in the Store: windows as they came, energies found later, and a note on each session.

Raw samples are kept and statistics computed from them, so a better statistic needs no new measurement.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from hwbench.evidence import MEASURED, Evidence
from hwbench.measurement import Cell, Summary, Trace, Window
from hwbench.noise import Noise
from hwbench.session import WindowSpec
from hwbench.setting import Setting
from hwbench.store import Result, Store

# What makes it the same board and runtime for a resumed campaign.
_SAME_BOARD = ("board.model", "board.serial", "board.cpu", "board.cores", "board.machine", "runtime")
WINDOW, ENERGY, SESSION = "window", "window_energy", "session"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionNote:
    """What was noticed of one session: how quiet and how stable the board was.

    control_ms: median of a small control workload at the beginning, between the cells, and at the end.
    drift_percent: from the first of them to the last.  noise: all that tells how quiet it was.
    idle_mw: measured baseline, None without a meter.  steal_ms: time a hypervisor took from all windows together.
    switch_ms: median time that each clock took to go to another value so far, of those that were switched.
    """

    session: int
    board: Mapping[str, str] = field(default_factory=dict)
    clocks: str = ""
    control_ms: tuple[float, ...] = ()
    drift_percent: float | None = None
    idle_mw: float | None = None
    steal_ms: float | None = None
    temps_c: Mapping[str, float] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    switch_ms: Mapping[str, float] = field(default_factory=dict)
    noise: Noise = field(default_factory=Noise)


def window_key(cell: Cell, session: int, artifact_sha256: str, board: Mapping[str, str], how: WindowSpec) -> str:
    """Key of a window: the same question to the same board and runtime; what a resumed campaign looks up.

    The kernel is left out on purpose: an update in the middle of a long campaign must not throw its first half away.
    """
    asked = {
        "block_key": cell.block_key,
        "setting": asdict(cell.setting),
        "session": session,
        "artifact": artifact_sha256,
        "board": {name: board[name] for name in _SAME_BOARD if name in board},
        "how": asdict(how),
    }
    return hashlib.blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=16).hexdigest()


def put_window(store: Store, key: str, window: Window) -> None:
    """Keep one window with all its samples."""
    values = {
        "cell": {"block_key": window.cell.block_key, "setting": asdict(window.cell.setting)},
        "session": window.session,
        "order": window.order,
        "clocks_read": dict(window.clocks_read),
        "temps_c": dict(window.temps_c),
        "throttle": list(window.throttle),
        "noise": dict(window.noise),
        "flags": list(window.flags),
        "load_ms": window.load_ms,
        "peak_memory_bytes": window.peak_memory_bytes,
        "energy_mj": window.energy_mj,
        "artifact_sha256": window.artifact_sha256,
        "provenance": dict(window.provenance),
        "evidence": str(window.evidence),
        "summary": None if window.summary is None else asdict(window.summary),
        "traces": {n: {"unit": t.unit, "alignment_error_ms": t.alignment_error_ms} for n, t in window.traces.items()},
    }
    arrays = {"warmup_ns": window.warmup_ns, "start_ns": window.start_ns, "run_ns": window.run_ns}
    for name, trace in window.traces.items():
        arrays[f"{name}:t_ns"], arrays[f"{name}:value"] = trace.t_ns, trace.value
    args = {"block_key": window.cell.block_key, "setting": str(window.cell.setting), "session": window.session}
    reads = {} if window.artifact_sha256 is None else {"artifact": window.artifact_sha256}
    seconds = float(window.run_ns.sum() + window.warmup_ns.sum()) / 1e9
    store.put(key, WINDOW, args, Result(values=values, arrays=arrays), reads=reads, seconds=seconds)


def get_window(store: Store, key: str) -> Window | None:
    """The window of that key with the energy that was found for it later; None when it was not measured."""
    found = store.get(key)
    if found is None:
        return None
    values, arrays = dict(found.values), found.arrays
    later = store.get(_energy_key(key))
    if later is not None:
        values["energy_mj"] = later.values["energy_mj"]
        values["flags"] = sorted({*values["flags"], *later.values["flags"]})
    return Window(
        cell=Cell(block_key=values["cell"]["block_key"], setting=_setting(values["cell"]["setting"])),
        session=values["session"],
        order=values["order"],
        warmup_ns=arrays["warmup_ns"],
        start_ns=arrays["start_ns"],
        run_ns=arrays["run_ns"],
        traces={
            name: Trace(t_ns=arrays[f"{name}:t_ns"], value=arrays[f"{name}:value"], **told)
            for name, told in values["traces"].items()
        },
        clocks_read=values["clocks_read"],
        temps_c=values["temps_c"],
        throttle=tuple(values["throttle"]),
        noise=values["noise"],
        flags=tuple(values["flags"]),
        load_ms=values["load_ms"],
        peak_memory_bytes=values["peak_memory_bytes"],
        energy_mj=values["energy_mj"],
        artifact_sha256=values["artifact_sha256"],
        provenance=values["provenance"],
        summary=Summary(**values["summary"]) if values.get("summary") else None,
        evidence=Evidence.parse(values["evidence"]) if "evidence" in values else MEASURED,
    )


def put_energy(store: Store, key: str, energy_mj: float | None, flags: tuple[str, ...]) -> None:
    """Keep the energy of a window whose meter told it only after the session; the window itself stays as it came."""
    store.put(_energy_key(key), ENERGY, {"window": key}, Result(values={"energy_mj": energy_mj, "flags": list(flags)}))


def put_session(store: Store, note: SessionNote, first_window: str, traces: Mapping[str, Trace] | None = None) -> None:
    """Keep the note on a session, with the curve of a meter that ran beside it.

    first_window: key of its first window; one session may need several processes, each leaves a note.
    """
    key = hashlib.blake2b(f"{note.session}:{first_window}".encode(), digest_size=16).hexdigest()
    arrays: dict[str, np.ndarray] = {}
    for name, trace in (traces or {}).items():
        arrays[f"{name}:t_ns"], arrays[f"{name}:value"] = trace.t_ns, trace.value
    store.put(key, SESSION, {"session": note.session}, Result(values=asdict(note), arrays=arrays))


def sessions(store: Store) -> Iterator[SessionNote]:
    """The notes on all sessions, in the order they ended."""
    for fact in store.facts(SESSION):
        found = store.get(fact.key)
        if found is not None:
            values = dict(found.values)
            tuples = {n: tuple(values[n]) for n in ("control_ms", "flags")}
            yield SessionNote(**values | tuples | {"noise": Noise(**values.get("noise", {}))})


def switch_ms(notes: Iterable[SessionNote]) -> dict[str, float]:
    """Median time that each clock took to go to another value, over all sessions that switched it."""
    times: dict[str, list[float]] = {}
    for note in notes:
        for name, value in note.switch_ms.items():
            times.setdefault(name, []).append(value)
    return {name: float(np.median(values)) for name, values in times.items()}


def windows(store: Store) -> Iterator[Window]:
    """Every window that the store holds, in the order they were measured."""
    for fact in store.facts(WINDOW):
        window = get_window(store, fact.key)
        if window is not None:
            yield window


def median_ms(run_ns: np.ndarray) -> float:
    """Median duration of (n,) runs in ms."""
    return float(np.median(run_ns)) / 1e6


def _energy_key(key: str) -> str:
    return f"{key}:energy"


def _setting(values: Mapping[str, Any]) -> Setting:
    clocks = tuple((name, value) for name, value in values["clocks"])
    return Setting(**{**values, "clocks": clocks})
