"""Staging: what a write checkout has changed and not committed, in one local SQLite file per repository and branch.

Everything is written in one transaction per flush, so a crash at any time leaves the state of the last flush. An operating-system
lock beside the file admits one writer; it dies with its process, so there is never a stale one to break. Whoever only looks
takes no lock: the file is in WAL mode, so a reader sees the state of one flush while the writer goes on.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hangarlake.chunks.encodings import Encoding
from hangarlake.chunks.packs import ChunkRef
from hangarlake.chunks.uploader import PendingChunk
from hangarlake.errors import CorruptionError, StorageError, WriterLockedError
from hangarlake.records.node import Leaf, Node, NodeRef, decode_node, encode_inner, encode_leaf

__all__ = ["StagedState", "Staging", "StagingSnapshot", "writer_of"]

_VERSION = 1
_SCHEMA = """
create table if not exists state (key text primary key, value text not null) without rowid;
create table if not exists nodes (id blob primary key, data blob not null) without rowid;
create table if not exists chunks (
    digest blob primary key, pack blob, place integer, length integer not null,
    items integer, encoding text, data blob
) without rowid;
"""


@dataclass(frozen=True)
class StagedState:
    """What is kept besides nodes and chunks.

    Attributes
    ----------
    base : str
        The commit that the changes are relative to.
    catalog : dict
        The working catalog: JSON, with the places of its roots.
    renames : dict
        Old name → new name since `base`.
    """

    base: str
    catalog: dict[str, Any]
    renames: dict[str, str] = field(default_factory=dict)


class _StagingFile:
    """What can be read from a staging file.

    Parameters
    ----------
    path : Path
        ``….sqlite``.
    what : str
        What is staged in it, for messages.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self._what = what

    def _open(self) -> sqlite3.Connection:
        raise TypeError("a staging file is opened by its writer or by whoever looks")  # both kinds define it

    def _failed(self, error: object) -> StorageError:
        return StorageError(
            f"the staging file {self.path} of {self._what} cannot be used: {error}; move it away to go on without what it stages"
        )

    def _check_version(self, db: sqlite3.Connection) -> int:
        """Return the version of the schema: 0 in a file that holds nothing yet."""
        version: int = db.execute("pragma user_version").fetchone()[0]
        if version not in (0, _VERSION):
            raise StorageError(
                f"{self.path} was written by another version of Hangarlake; commit with that version, or delete the file, "
                "which drops what it stages"
            )
        return version

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        db = self._open()
        try:
            return db.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def load(self) -> StagedState | None:
        """Return what an earlier session left, or ``None``."""
        rows = self._rows("select value from state where key = 'state'")
        if not rows:
            return None
        try:
            kept = json.loads(rows[0][0])
            state = StagedState(kept["base"], kept["catalog"], kept["renames"])
        except (ValueError, TypeError, KeyError) as error:
            raise self._failed(f"its state is damaged ({error!r})") from error
        if not isinstance(state.catalog, dict) or not {"logical", "physical"} <= state.catalog.keys():
            raise self._failed("its state names no catalog")
        return state

    def load_chunks(self) -> tuple[list[ChunkRef], dict[bytes, PendingChunk]]:
        """Return the chunks that were uploaded, and those that were kept here."""
        places: list[ChunkRef] = []
        kept: dict[bytes, PendingChunk] = {}
        for digest, pack, place, length, items, encoding, data in self._rows("select * from chunks"):
            if data is None:
                places.append(ChunkRef(digest, pack, place, length))
            else:
                kept[digest] = PendingChunk(data, items, Encoding.from_json(encoding))
        return places, kept

    def node_ids(self) -> set[bytes]:
        """Return the ids of all nodes that are kept."""
        return {row[0] for row in self._rows("select id from nodes")}

    def fetch(self, refs: Sequence[NodeRef]) -> list[Node]:
        """Return staged nodes."""
        out = []
        for ref in refs:
            rows = self._rows("select data from nodes where id = ?", ref.id)
            if not rows:
                raise CorruptionError(
                    f"the staging file {self.path} lacks a tree node; move it away to go on without what it stages"
                )
            out.append(decode_node(rows[0][0], ref, f"the staging file {self.path}", staged=True))
        return out


class Staging(_StagingFile):
    """The staging file of one branch in one working copy, locked for this writer while it is open.

    Parameters
    ----------
    path : Path
        ``….sqlite``; its folder is made if need be.
    what : str
        What is being written to, for messages.

    Raises
    ------
    WriterLockedError
        If another process (or another checkout of this one) has it; names the holder's pid.
    """

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(path, what)
        self._holder = _holder(path)
        self._lock = _lock(path)
        self._owner = os.getpid()
        self._db: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._acquire()
        except Timeout:
            pid = _pid(self._holder)
            if pid == self._owner:
                by, remedy = "this process (another open write checkout)", "close that one"
            else:
                by = f"process {pid}" if pid else "another process"
                remedy = "close that checkout, wait for the process to end"
            raise WriterLockedError(
                f"{what} is being written by {by}; {remedy}, or open this one with staging='memory'", pid
            ) from None
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            self._holder.write_text(str(self._owner))
        except OSError as error:
            self._lock.release()
            raise self._unwritable(error) from error
        # Whether the file may hold anything: a commit of a writer that never flushed has nothing to clear.
        self._used = path.exists()

    def _unwritable(self, error: OSError) -> StorageError:
        return StorageError(
            f"nothing can be staged in {self.path.parent}: {error}; set HANGARLAKE_CACHE_DIR or cache_dir to a folder that "
            "can be written, or open the checkout with staging='memory'"
        )

    def _acquire(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            if _pid(self._holder) != os.getpid():
                raise
            gc.collect()  # a writer that was dropped without being closed gives its lock back
            self._lock.acquire(timeout=0)

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            if not self._lock.is_locked:
                # Somebody goes on with what was begun before: the file may be another writer's by now.
                raise ValueError(f"the write checkout of {self._what} is closed; open another one")
            try:
                db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
            except sqlite3.Error as error:
                raise self._failed(error) from error
            try:
                db.execute("pragma journal_mode=wal")
                db.execute("pragma synchronous=full")
                self._check_version(db)
                db.executescript(_SCHEMA)
                db.execute(f"pragma user_version={_VERSION}")
            except BaseException as error:
                db.close()
                if isinstance(error, sqlite3.Error):
                    raise self._failed(error) from error
                raise
            self._db = db
            self._used = True
        return self._db

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        db = self._open()
        try:
            db.execute("begin immediate")
            yield db
            db.execute("commit")
        except BaseException as error:
            if db.in_transaction:
                db.execute("rollback")
            if isinstance(error, sqlite3.Error):
                raise self._failed(error) from error
            raise

    def load(self) -> StagedState | None:
        """Return what an earlier session left, or ``None``."""
        return super().load() if self._used else None

    def keep_nodes(self, nodes: Iterable[Node]) -> None:
        """Write nodes aside without making them part of the state: to free memory."""
        with self._transaction() as db:
            db.executemany("insert or replace into nodes values (?, ?)", ((n.id, _encoded(n)) for n in nodes))

    def save(
        self,
        state: StagedState,
        nodes: Iterable[Node],
        chunks: Mapping[bytes, PendingChunk],
        places: Iterable[ChunkRef],
    ) -> None:
        """Write the state durably, in one transaction.

        Parameters
        ----------
        state : StagedState
        nodes : iterable of Node
            New nodes in memory that the state uses (those written before stay).
        chunks : mapping
            Chunks that are in no pack yet.
        places : iterable of ChunkRef
            Chunks that are durable in the bucket.
        """
        text = json.dumps({"base": state.base, "catalog": state.catalog, "renames": state.renames})
        with self._transaction() as db:
            db.executemany("insert or replace into nodes values (?, ?)", ((n.id, _encoded(n)) for n in nodes))
            db.execute("delete from chunks where data is not null")
            db.executemany(
                "insert or replace into chunks values (?, ?, ?, ?, null, null, null)",
                ((ref.digest, ref.pack, ref.offset, ref.length) for ref in places),
            )
            db.executemany(
                "insert or replace into chunks values (?, null, null, ?, ?, ?, ?)",
                ((d, len(c.data), c.items, c.encoding.to_json(), c.data) for d, c in chunks.items()),
            )
            db.execute("insert or replace into state values ('state', ?)", (text,))

    def clear(self) -> None:
        """Forget everything, durably."""
        if not self._used:
            return
        with self._transaction() as db:
            for table in ("state", "nodes", "chunks"):
                db.execute(f"delete from {table}")
        self._used = self._db is not None

    def close(self) -> None:
        """Close the file and release the lock. (In a forked child, which has a copy of the parent's writer: nothing.)

        Once it is closed nothing happens any more: the lock may be another writer's by then.
        """
        if os.getpid() != self._owner or not self._lock.is_locked:
            return
        if self._db is not None:
            self._db.close()
            self._db = None
        with contextlib.suppress(OSError):
            self._holder.unlink()
        self._lock.release()


class StagingSnapshot(_StagingFile):
    """What a staging file held at one moment, for whoever looks; no lock is taken, and its writer may go on.

    Close it soon: the writer's log grows as long as somebody looks at an earlier state. Safe to use from several threads.
    """

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(path, what)
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        if not path.exists():
            return
        # Not read-only for SQLite, which has to recover the log after a crash.
        try:
            db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, check_same_thread=False)
        except sqlite3.Error as error:
            raise self._failed(error) from error
        try:
            db.execute("pragma query_only = on")
            db.execute("begin")
            if self._check_version(db):
                self._db = db
        except sqlite3.Error as error:
            raise self._failed(error) from error
        finally:
            if self._db is None:
                db.close()

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            raise self._failed("it was closed")
        return self._db

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        with self._lock:
            return super()._rows(statement, *values)

    def load(self) -> StagedState | None:
        """Return what was staged at the last flush, or ``None``."""
        return None if self._db is None else super().load()

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None


def writer_of(path: Path) -> int | None:
    """Return the process id of the writer that has a staging file locked; ``None`` if nobody has.

    The lock is tried only where a writer has left its process id, so looking gets in nobody's way.
    """
    holder = _holder(path)
    pid = _pid(holder)
    if pid is None:
        return None
    try:
        with _lock(path).acquire(timeout=0):
            # What a writer left that died. Nobody asks for the lock on its account again.
            holder.unlink(missing_ok=True)
    except Timeout:
        return pid
    except OSError:
        return pid  # where nothing can be locked, it stays unknown whether the process still writes
    return None


def _lock(path: Path) -> FileLock:
    return FileLock(path.with_suffix(".lock"), thread_local=False)


def _holder(path: Path) -> Path:
    return path.with_suffix(".pid")


def _pid(holder: Path) -> int | None:
    try:
        return int(holder.read_text())
    except (OSError, ValueError):
        return None


def _encoded(node: Node) -> bytes:
    return encode_leaf(node, staged=True) if isinstance(node, Leaf) else encode_inner(node)
