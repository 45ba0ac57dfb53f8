"""The Store keeps facts whole, exactly and for one writer at a time."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwbench.errors import ConfigError
from hwbench.store import Result, Store

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_ARRAYS = npst.arrays(
    dtype=st.one_of(
        npst.boolean_dtypes(),
        npst.integer_dtypes(),
        npst.unsigned_integer_dtypes(),
        npst.floating_dtypes(),
        npst.datetime64_dtypes(),
        npst.unicode_string_dtypes(max_len=5),
    ),
    shape=npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)


@pytest.fixture
def store(tmp_path: Path):
    with Store(tmp_path / "store.sqlite") as opened:
        yield opened


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.dictionaries(st.text(), _JSON, max_size=4), arrays=st.dictionaries(st.text(), _ARRAYS, max_size=3))
def test_what_is_put_is_what_is_got(tmp_path_factory: pytest.TempPathFactory, values, arrays) -> None:
    """Any JSON and any plain array come back equal, with byte order, dtype and shape, also after reopening."""
    path = tmp_path_factory.mktemp("store") / "store.sqlite"
    result = Result(values=values, arrays=arrays)
    with Store(path) as store:
        store.put("k", "task", {"a": 1}, result)
    with Store(path, read_only=True) as store:
        found = store.get("k")
    assert found is not None
    assert result.values == found.values
    assert set(arrays) == set(found.arrays)
    for name, array in arrays.items():
        assert (array.dtype.str, array.shape) == (found.arrays[name].dtype.str, found.arrays[name].shape)
        assert array.tobytes() == found.arrays[name].tobytes()


def test_same_key_twice_keeps_the_first(store: Store) -> None:
    """Putting again changes nothing, not even the arrays."""
    store.put("k", "task", {}, Result(values={"n": 1}, arrays={"a": np.zeros(3)}))
    store.put("k", "task", {}, Result(values={"n": 2}, arrays={"a": np.ones(3), "b": np.ones(1)}))
    found = store.get("k")
    assert found is not None
    assert found.values == {"n": 1}
    assert list(found.arrays) == ["a"]
    assert np.array_equal(np.zeros(3), found.arrays["a"])


def test_equal_arrays_are_kept_once(store: Store, tmp_path: Path) -> None:
    """Arrays are addressed by content: dtype and shape belong to it."""
    ones = np.ones(4, dtype=np.float32)
    store.put("a", "task", {}, Result(arrays={"x": ones, "y": ones.copy()}))
    store.put("b", "task", {}, Result(arrays={"x": ones, "square": ones.reshape(2, 2)}))
    rows = sqlite3.connect(tmp_path / "store.sqlite").execute("SELECT count(*) FROM arrays").fetchone()
    assert rows == (2,)


def test_absent_key_is_none(store: Store) -> None:
    """Unknown is None, not an empty result."""
    assert store.get("nothing") is None
    assert not store.has("nothing")


def test_result_refuses_what_json_cannot_say() -> None:
    """NaN belongs into arrays; in values unknown is None."""
    with pytest.raises(ValueError, match="Out of range float"):
        Result(values={"x": float("nan")})
    with pytest.raises(TypeError):
        Result(values={"x": np.float32(1)})


def test_object_array_is_refused_and_nothing_is_kept(store: Store) -> None:
    """No pickle: an array of objects has no exact bytes."""
    with pytest.raises(TypeError, match="dtype object"):
        store.put("k", "task", {}, Result(arrays={"a": np.array([{}])}))
    assert not store.has("k")


def test_facts_come_in_the_order_they_were_kept(store: Store) -> None:
    """A kind is listed oldest first with all that was said of it."""
    store.put("z", "window", {"n": 1}, Result(), reads={"x": "ab"}, seconds=1.5, worker="here")
    store.put("a", "window", {"n": 2}, Result())
    store.put("m", "other", {}, Result())
    facts = list(store.facts("window"))
    assert [f.key for f in facts] == ["z", "a"]
    assert (facts[0].args, facts[0].reads, facts[0].seconds, facts[0].worker) == ({"n": 1}, {"x": "ab"}, 1.5, "here")
    assert len(list(store.facts())) == 3


def test_meta_is_overwritten(store: Store) -> None:
    """The last note counts."""
    assert store.meta("command") is None
    store.set_meta("command", "one")
    store.set_meta("command", "two")
    assert store.meta("command") == "two"


def test_first_batch_that_differs_is_named(store: Store) -> None:
    """A replay that asks for something else is stopped."""
    store.check_batch(0, "aa")
    store.check_batch(1, "bb")
    store.check_batch(0, "aa")
    with pytest.raises(ConfigError, match="batch 1 differs"):
        store.check_batch(1, "cc")


def test_second_writer_is_told_who_holds_it(store: Store, tmp_path: Path) -> None:
    """One writer; the message names the process."""
    with pytest.raises(ConfigError, match=f"in use by process {os.getpid()}"):
        Store(tmp_path / "store.sqlite")


def test_reader_sees_what_a_writer_has_kept_so_far(store: Store, tmp_path: Path) -> None:
    """Readers need no lock."""
    store.put("k", "task", {}, Result(values={"n": 1}))
    with Store(tmp_path / "store.sqlite", read_only=True) as reader:
        assert reader.has("k")


def test_full_disk_loses_nothing_kept_before(store: Store, tmp_path: Path) -> None:
    """SQLite's own disk-full error, from a page limit, becomes one line; the fact is absent, earlier ones are whole."""
    store.put("before", "task", {}, Result(arrays={"a": np.arange(10)}))
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(ConfigError, match=r"disk is full.*kept before is safe"):
        store.put("big", "task", {}, Result(arrays={"a": np.zeros(100_000)}))
    store.close()
    with Store(tmp_path / "store.sqlite") as again:
        assert not again.has("big")
        found = again.get("before")
        assert found is not None
        assert np.array_equal(np.arange(10), found.arrays["a"])
        again.put("big", "task", {}, Result(arrays={"a": np.zeros(100_000)}))
        assert again.has("big")


@pytest.mark.parametrize("kept", [1, 100, 4096, 10_000])
def test_truncated_store_is_one_clear_line(tmp_path: Path, kept: int) -> None:
    """A file cut anywhere is refused by name, never read as if it were whole."""
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        for n in range(20):
            store.put(str(n), "task", {}, Result(arrays={"a": np.arange(1000) + n}))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ConfigError, match=r"store\.sqlite: not a store, or a damaged one"):
        Store(path)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    """Text, another program's database and a newer schema are told apart."""
    text = tmp_path / "text"
    text.write_text("hello, this is no database at all, but long enough to look at" * 20)
    with pytest.raises(ConfigError, match="not a store"):
        Store(text)
    other = tmp_path / "other"
    db = sqlite3.connect(other)
    db.execute("CREATE TABLE t (x)")
    db.commit()
    db.close()
    with pytest.raises(ConfigError, match="another program"):
        Store(other)
    newer = tmp_path / "newer"
    Store(newer).close()
    db = sqlite3.connect(newer)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(ConfigError, match="schema 99"):
        Store(newer)


def test_reading_a_store_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """Read-only never creates a file."""
    with pytest.raises(ConfigError, match="no such store"):
        Store(tmp_path / "none.sqlite", read_only=True)
    assert list(tmp_path.glob("none*")) == []


def test_killed_writer_leaves_whole_facts_and_no_lock(tmp_path: Path, root: Path) -> None:
    """After kill -9 every fact that is listed has all its arrays, and the next writer gets in at once."""
    path = tmp_path / "store.sqlite"
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        import numpy as np
        from hwbench.store import Result, Store
        store = Store(Path(sys.argv[1]))
        n = 0
        while True:
            store.put(str(n), "task", {}, Result(values={"n": n}, arrays={"a": np.full(500, n), "b": np.full(9, n)}))
            n += 1
            print(n, flush=True)
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdout=subprocess.PIPE,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert process.stdout is not None
    reported = 0
    while reported < 15:
        reported = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    with Store(path) as store:
        facts = list(store.facts("task"))
        assert len(facts) >= reported
        for fact in facts:
            found = store.get(fact.key)
            assert found is not None
            assert found.arrays["a"].tolist() == [found.values["n"]] * 500
            assert found.arrays["b"].tolist() == [found.values["n"]] * 9
