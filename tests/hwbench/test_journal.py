"""Windows come back from the Store as they were put."""

from __future__ import annotations

from pathlib import Path

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwbench import journal
from hwbench.journal import SessionNote
from hwbench.measurement import Cell, Trace, Window
from hwbench.session import WindowSpec
from hwbench.setting import Setting
from hwbench.store import Store

_FINITE = st.floats(allow_nan=False, allow_infinity=False)
_NAMES = st.text("abc.: ", min_size=1, max_size=6)
_CLOCKS = st.dictionaries(st.text("abc", min_size=1), st.floats(1, 3000) | st.sampled_from(["MAXN", "15W"]), max_size=3)
_SETTINGS = st.builds(
    Setting,
    unit=st.sampled_from(["cpu", "gpu"]),
    precision=st.sampled_from(["fp32", "int8"]),
    batch=st.integers(1, 8),
    threads=st.none() | st.integers(1, 8),
    clocks=_CLOCKS.map(lambda c: tuple(sorted(c.items()))),
)


def _ns(n: int) -> st.SearchStrategy[np.ndarray]:
    return npst.arrays(np.int64, n, elements=st.integers(0, 2**62))


@st.composite
def _windows(draw) -> Window:
    n = draw(st.integers(1, 5))
    traces = {
        name: Trace(
            t_ns=draw(_ns(3)),
            value=draw(npst.arrays(np.float64, 3)),
            unit=draw(st.sampled_from(["mw", "uj"])),
            alignment_error_ms=draw(_FINITE),
        )
        for name in draw(st.lists(_NAMES, max_size=2, unique=True))
    }
    return Window(
        cell=Cell(block_key=draw(st.text(min_size=1)), setting=draw(_SETTINGS)),
        session=draw(st.integers(0, 9)),
        order=draw(st.integers(0, 99)),
        warmup_ns=draw(_ns(2)),
        start_ns=draw(_ns(n)),
        run_ns=draw(npst.arrays(np.int64, n, elements=st.integers(1, 2**40))),
        traces=traces,
        clocks_read=draw(st.dictionaries(_NAMES, _FINITE | st.just("MAXN"), max_size=2)),
        temps_c=draw(st.dictionaries(_NAMES, _FINITE, max_size=2)),
        throttle=tuple(draw(st.lists(_NAMES, max_size=2))),
        noise=draw(st.dictionaries(_NAMES, _FINITE, max_size=2)),
        flags=tuple(draw(st.lists(_NAMES, max_size=2))),
        load_ms=draw(st.none() | _FINITE),
        peak_memory_bytes=draw(st.none() | st.integers(0, 2**50)),
        energy_mj=draw(st.none() | _FINITE),
        artifact_sha256=draw(st.none() | st.just("ab" * 32)),
        provenance=draw(st.dictionaries(_NAMES, st.text(), max_size=2)),
    )


def _same(a: Window, b: Window) -> bool:
    plain = [f for f in Window.__dataclass_fields__ if not f.endswith("_ns") and f != "traces"]
    return (
        all(getattr(a, f) == getattr(b, f) for f in plain)
        and all(np.array_equal(getattr(a, f), getattr(b, f)) for f in ("warmup_ns", "start_ns", "run_ns"))
        and a.traces.keys() == b.traces.keys()
        and all(
            np.array_equal(a.traces[n].t_ns, b.traces[n].t_ns)
            and np.array_equal(a.traces[n].value, b.traces[n].value, equal_nan=True)
            and (a.traces[n].unit, a.traces[n].alignment_error_ms) == (b.traces[n].unit, b.traces[n].alignment_error_ms)
            for n in a.traces
        )
    )


@settings(max_examples=40, deadline=None)
@given(_windows())
def test_window_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, window: Window) -> None:
    """Every field, raw samples included; what was unknown stays unknown."""
    with Store(tmp_path_factory.mktemp("s") / "store.sqlite") as store:
        journal.put_window(store, "k", window)
        found = journal.get_window(store, "k")
        assert found is not None
        assert _same(window, found)
        assert [w.cell for w in journal.windows(store)] == [window.cell]


def _window() -> Window:
    one = np.ones(1, dtype=np.int64)
    cell = Cell(block_key="b", setting=Setting(unit="cpu", precision="fp32"))
    return Window(cell=cell, session=0, order=0, warmup_ns=one, start_ns=one, run_ns=one, flags=("unsteady",))


def test_energy_that_comes_later_joins_its_window(tmp_path: Path) -> None:
    """A bench meter tells only after the session."""
    with Store(tmp_path / "store.sqlite") as store:
        journal.put_window(store, "k", _window())
        journal.put_energy(store, "k", 2.5, ("late",))
        found = journal.get_window(store, "k")
    assert found is not None
    assert (found.energy_mj, found.flags) == (2.5, ("late", "unsteady"))


def test_absent_window_is_none(tmp_path: Path) -> None:
    """It has to be measured."""
    with Store(tmp_path / "store.sqlite") as store:
        assert journal.get_window(store, "k") is None


def test_notes_on_sessions_come_back(tmp_path: Path) -> None:
    """In the order the sessions ended, two processes of one session too."""
    notes = [
        SessionNote(session=0, control_ms=(1.0, 1.1), drift_percent=10.0, temps_c={"soc": 40.5}),
        SessionNote(session=0, flags=("interrupted",), board={"board.model": "x"}),
    ]
    with Store(tmp_path / "store.sqlite") as store:
        for n, note in enumerate(notes):
            journal.put_session(store, note, str(n))
        assert list(journal.sessions(store)) == notes


_BOARD = {"board.model": "x", "board.kernel": "5", "runtime": "ort 1"}


@pytest.mark.parametrize(
    "other",
    [
        ("c", 0, "aa", _BOARD, WindowSpec()),
        ("b", 1, "aa", _BOARD, WindowSpec()),
        ("b", 0, "bb", _BOARD, WindowSpec()),
        ("b", 0, "aa", {**_BOARD, "runtime": "ort 2"}, WindowSpec()),
        ("b", 0, "aa", {**_BOARD, "board.model": "y"}, WindowSpec()),
        ("b", 0, "aa", _BOARD, WindowSpec(min_runs=51)),
    ],
)
def test_another_question_has_another_key(other) -> None:
    """Cell, session, bytes, board, runtime and window make the key."""

    def key(block: str, session: int, sha256: str, board: dict[str, str], how: WindowSpec) -> str:
        cell = Cell(block_key=block, setting=Setting(unit="cpu", precision="fp32"))
        return journal.window_key(cell, session, sha256, board, how)

    assert key(*other) != key("b", 0, "aa", _BOARD, WindowSpec())


def test_kernel_update_keeps_what_was_measured() -> None:
    """A long campaign survives it; the note on the session still names the kernel."""
    cell = Cell(block_key="b", setting=Setting(unit="cpu", precision="fp32"))
    keys = {journal.window_key(cell, 0, "aa", {**_BOARD, "board.kernel": k}, WindowSpec()) for k in ("5", "6")}
    assert len(keys) == 1
