"""Facts that cost time, kept in one SQLite file: measured windows and finished tasks.

One process writes (the driver); any number may read. A fact is written in one transaction with its arrays, so a crash
leaves it whole or absent, and *resume is replay*: what is there is not done again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from hwbench.errors import ConfigError
from hwbench.lock import Lock

SCHEMA = 1
# "hwbn": tells our files from other programs' SQLite files.
_APPLICATION = 0x6877626E
_HEADER_BYTES = 512
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE facts (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, args TEXT NOT NULL, reads TEXT NOT NULL, result TEXT NOT NULL,
    seconds REAL, worker TEXT, created TEXT NOT NULL
);
CREATE INDEX facts_kind ON facts (kind);
CREATE TABLE arrays (sha256 TEXT PRIMARY KEY, dtype TEXT NOT NULL, shape TEXT NOT NULL, data BLOB NOT NULL);
CREATE TABLE fact_arrays (key TEXT NOT NULL, name TEXT NOT NULL, sha256 TEXT NOT NULL, PRIMARY KEY (key, name));
CREATE TABLE batches (n INTEGER PRIMARY KEY, digest TEXT NOT NULL);
"""

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a task returns and the Store keeps.

    values: plain JSON without NaN (unknown is None); tuples become lists at once, so that a result just computed equals
    the one read back.  arrays: any numeric, bool or fixed-width text dtype; NaN is allowed here.
    Raises TypeError or ValueError for values that are not JSON.
    """

    values: Json = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", json.loads(_dump(self.values)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A row of the Store without its arrays.

    reads: sha256 of what was read, by name.  seconds: what it cost.  worker: who did it.  created: UTC, ISO 8601.
    """

    key: str
    kind: str
    args: Json
    reads: Mapping[str, str]
    seconds: float | None
    worker: str | None
    created: str


class Store:
    """An open store; a context manager. Threads may share it: one is served after the other.

    durable: what was put survives a power cut, not only a kill; what is simulated again at once need not.
    read_only: no lock is taken and nothing is written; several readers and one writer live together.
    Raises ConfigError when the file belongs to another program, is cut short or damaged, was written by another
    version, or is held by another writer.
    """

    def __init__(self, path: Path, *, read_only: bool = False, durable: bool = True) -> None:
        self.path = path
        self._durable = durable
        self._turn = threading.RLock()
        self._lock: Lock | None = None
        if read_only:
            if not path.is_file():
                raise ConfigError(f"{path}: no such store; nothing was measured or searched there yet")
        else:
            self._lock = Lock(path.with_name(path.name + ".lock"), f"store {path}")
            self._lock.acquire()
        try:
            self._db = self._connect(read_only)
        except BaseException:
            self.close()
            raise

    def _connect(self, read_only: bool) -> sqlite3.Connection:
        with self._explained():
            # SQLite takes a file shorter than its header for a new one and would write over it.
            if self.path.is_file() and 0 < self.path.stat().st_size < _HEADER_BYTES:
                raise sqlite3.DatabaseError("the file is damaged: it is shorter than a header")
            uri = f"{self.path.resolve().as_uri()}{'?mode=ro' if read_only else ''}"
            db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30.0, check_same_thread=False)
        try:
            with self._explained():
                self._open_schema(db, read_only)
        except BaseException:
            db.close()
            raise
        return db

    def _open_schema(self, db: sqlite3.Connection, read_only: bool) -> None:
        application = db.execute("PRAGMA application_id").fetchone()[0]
        version = db.execute("PRAGMA user_version").fetchone()[0]
        empty = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if empty and application == 0:
            if read_only:
                raise ConfigError(f"{self.path}: the store is empty; its run ended before anything was kept")
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(
                f"BEGIN IMMEDIATE; {_TABLES} PRAGMA application_id = {_APPLICATION}; "
                f"PRAGMA user_version = {SCHEMA}; COMMIT;"
            )
            version = SCHEMA
        elif application != _APPLICATION:
            raise ConfigError(f"{self.path}: an SQLite file of another program; choose another folder")
        if version != SCHEMA:
            raise ConfigError(
                f"{self.path}: written with store schema {version}, this version reads {SCHEMA}; "
                "use the version that wrote it, or start in a new folder"
            )
        if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise sqlite3.DatabaseError("the file is damaged")
        if not read_only:
            # A measurement is dear and a sync is cheap.
            db.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'NORMAL'}")

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let the next writer in."""
        db = getattr(self, "_db", None)
        if db is not None:
            db.close()
        if self._lock is not None:
            self._lock.release()

    def get(self, key: str) -> Result | None:
        """The result under that key, arrays with their exact dtype and shape; None when it is not there."""
        with self._explained():
            row = self._db.execute("SELECT result FROM facts WHERE key = ?", (key,)).fetchone()
            if row is None:
                return None
            arrays = self._db.execute(
                "SELECT name, dtype, shape, data FROM fact_arrays JOIN arrays USING (sha256) WHERE key = ?",
                (key,),
            ).fetchall()
        return Result(
            values=json.loads(row[0]),
            arrays={
                name: np.frombuffer(data, dtype=np.dtype(dtype)).reshape(json.loads(shape)).copy()
                for name, dtype, shape, data in arrays
            },
        )

    def has(self, key: str) -> bool:
        """Whether that fact is there, without reading it."""
        with self._explained():
            return self._db.execute("SELECT 1 FROM facts WHERE key = ?", (key,)).fetchone() is not None

    def put(
        self,
        key: str,
        kind: str,
        args: Json,
        result: Result,
        *,
        reads: Mapping[str, str] | None = None,
        seconds: float | None = None,
        worker: str | None = None,
    ) -> None:
        """Keep one fact, arrays included, in one transaction; the same key twice is a no-op.

        Raises ConfigError when the disk is full (what was there before stays), TypeError for an object array.
        """
        packed = {name: _pack(name, array) for name, array in result.arrays.items()}
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        row = (key, kind, _dump(args), _dump(reads or {}), _dump(result.values), seconds, worker, created)
        with self._transaction():
            added = self._db.execute("INSERT OR IGNORE INTO facts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row).rowcount
            if not added:
                return
            for name, (sha256, dtype, shape, data) in packed.items():
                self._db.execute("INSERT OR IGNORE INTO arrays VALUES (?, ?, ?, ?)", (sha256, dtype, shape, data))
                self._db.execute("INSERT INTO fact_arrays VALUES (?, ?, ?)", (key, name, sha256))

    def facts(self, kind: str | None = None) -> Iterator[Fact]:
        """All facts of a kind (or of every kind) in the order they were kept, without results."""
        where, values = ("", ()) if kind is None else (" WHERE kind = ?", (kind,))
        with self._explained():
            rows = self._db.execute(
                f"SELECT key, kind, args, reads, seconds, worker, created FROM facts{where} ORDER BY rowid", values
            ).fetchall()
        for key, kind_, args, reads, seconds, worker, created in rows:
            yield Fact(
                key=key,
                kind=kind_,
                args=json.loads(args),
                reads=json.loads(reads),
                seconds=seconds,
                worker=worker,
                created=created,
            )

    def meta(self, name: str) -> str | None:
        """A note about the whole store; None when it was never written."""
        with self._explained():
            row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, name: str, value: str) -> None:
        """Write a note about the whole store, over an earlier one."""
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def check_batch(self, n: int, digest: str) -> None:
        """Remember the digest of batch n, or compare it with the one remembered.

        Raises ConfigError at the first difference: the replay asks for something else than the first run did.
        """
        with self._transaction():
            self._db.execute("INSERT OR IGNORE INTO batches VALUES (?, ?)", (n, digest))
            known = self._db.execute("SELECT digest FROM batches WHERE n = ?", (n,)).fetchone()[0]
        if known != digest:
            raise ConfigError(
                f"{self.path}: batch {n} differs from the one stored ({digest[:12]} now, {known[:12]} then); code, "
                "libraries or inputs changed since: resume with what the run started with, or start a new run"
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # After a full disk SQLite has rolled back by itself.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            with self._turn:
                yield
        except sqlite3.Error as error:
            raise ConfigError(f"{self.path}: {_way_out(str(error))}") from error


def _way_out(message: str) -> str:
    if "full" in message:
        return "the disk is full; what was kept before is safe: free some space and resume"
    if "readonly" in message or "unable to open" in message or "no such table" in message:
        return f"the store cannot be opened ({message}); check the folder and its permissions"
    if "locked" in message:
        return "the store is locked by another program; close it and try again"
    if "not a database" in message or "malformed" in message or "damaged" in message:
        return (
            f"not a store, or a damaged one ({message}); keep a copy, recover what is readable with "
            "`sqlite3 FILE .recover`, or move the file away and start again"
        )
    return f"the store failed ({message}); check the disk, then resume"


def _dump(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"), ensure_ascii=False)


def _pack(name: str, array: np.ndarray) -> tuple[str, str, str, bytes]:
    """(sha256, dtype, shape, bytes) of an array; equal arrays are kept once."""
    if array.dtype.hasobject or array.dtype.fields is not None:
        raise TypeError(f"array {name!r} has dtype {array.dtype}; the store keeps plain numbers and fixed-width text")
    dtype, shape, data = array.dtype.str, json.dumps(array.shape), array.tobytes()
    sha256 = hashlib.sha256(f"{dtype}{shape}".encode() + b"\0" + data).hexdigest()
    return sha256, dtype, shape, data
