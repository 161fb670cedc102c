"""The local index: an SQLite file of what is known of a repository and never goes stale.

It is a cache. Commits in it were verified when they went in, and are verified again when they come out; a file that is
damaged, locked or read-only costs speed and a line in the log, never an error.

Queries go to :mod:`sqlite3` directly: importing ``sqlite_utils`` takes 0.4 s where pandas is installed, more than
anything that the index saves. :meth:`Index.database` gives the file to those who want to look into it.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import TypeVar

    from sqlite_utils import Database

    T = TypeVar("T")

__all__ = ["Index"]

_log = logging.getLogger(__name__)

_VERSION = 1  # of the schema; a file of another version is left alone and not used
_BUSY_SECONDS = 2.0
_VARIABLES = 500  # of one statement
_SCHEMA = """
create table if not exists commits (id text not null unique, generation integer not null, record text not null);
create index if not exists commits_by_generation on commits (generation);
create table if not exists refs (name text primary key, seq integer not null, commit_id text) without rowid;
create table if not exists facts (key text primary key, value text not null) without rowid;
"""


# Connections of a parent process. SQLite forbids to use them in a child, and to close them, which the last reference would:
# https://www.sqlite.org/howtocorrupt.html, 2.6.
_inherited: list[sqlite3.Connection] = []


class Index:
    """Commits, refs and working facts of one repository, kept between sessions.

    May be used from any thread, and the file by any number of processes. Nothing is opened before the first use.

    Parameters
    ----------
    path : path-like or None
        The SQLite file; its folder is made if need be. None keeps everything in memory.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._path = Path(path) if path is not None else None
        self._db: sqlite3.Connection | None = None
        self._reset()

    def _reset(self) -> None:
        if self._db is not None:
            _inherited.append(self._db)
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._db = None
        self._degraded = False

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_path"])  # type: ignore[misc]  # opened afresh in another process

    def __repr__(self) -> str:
        return f"Index({str(self._path)!r})" if self._path is not None else "Index(None)"

    @property
    def path(self) -> Path | None:
        """The file, or None where nothing is kept."""
        return self._path

    @property
    def persistent(self) -> bool:
        """Whether what is added is kept in the file. Opens it."""
        self._use(lambda _: None, None)
        return self._path is not None and not self._degraded

    # ---- commits -----------------------------------------------------------------------------------------------------

    def get_commits(self, ids: Iterable[str]) -> dict[str, str]:
        """Return the records of those of `ids` that are known."""
        wanted = list(ids)
        found: dict[str, str] = {}

        def read(db: sqlite3.Connection) -> None:
            for start in range(0, len(wanted), _VARIABLES):
                part = wanted[start : start + _VARIABLES]
                marks = ",".join("?" * len(part))
                found.update(db.execute(f"select id, record from commits where id in ({marks})", part).fetchall())

        if wanted:
            self._use(read, None)
        return {key: text for key, text in found.items() if isinstance(text, str)}

    def get_generations(self, first: int, last: int, limit: int = 8192) -> dict[str, str]:
        """Return the records of known commits of these generations, both ends included, `limit` of them at most.

        History is walked from generation to generation, and one query for a thousand of them is worth as much as a
        thousand queries.
        """
        statement = "select id, record from commits where generation between ? and ? limit ?"
        none: list[tuple[str, str]] = []
        rows = self._use(lambda db: db.execute(statement, [first, last, limit]).fetchall(), none)
        return {key: text for key, text in rows if isinstance(text, str)}

    def add_commits(self, commits: Iterable[tuple[str, int, str]]) -> None:
        """Keep commits: (id, generation, record). Only what has been verified may be given."""
        rows = list(commits)

        def write(db: sqlite3.Connection) -> None:
            with db:
                db.executemany("insert or ignore into commits values (?, ?, ?)", rows)

        if rows:
            self._use(write, None)

    # ---- refs --------------------------------------------------------------------------------------------------------

    def refs(self) -> dict[str, tuple[int, str | None]]:
        """Return (seq, commit id) of the newest movement of each branch that was seen; it may stand further by now."""
        statement = "select name, seq, commit_id from refs order by name"
        none: list[tuple[str, int, str | None]] = []
        rows = self._use(lambda db: db.execute(statement).fetchall(), none)
        return {name: (seq, commit) for name, seq, commit in rows if isinstance(seq, int)}

    def replace_refs(self, prefix: str, refs: Mapping[str, tuple[int, str | None]], *, prune: bool = False) -> None:
        """Set the refs below `prefix` to what was just read, older or newer; with `prune` those not given are forgotten."""

        def write(db: sqlite3.Connection) -> None:
            with db:
                if prune:
                    db.execute("delete from refs where substr(name, 1, ?) = ?", [len(prefix), prefix])
                db.executemany(
                    "insert or replace into refs values (?, ?, ?)",
                    [(prefix + name, seq, commit) for name, (seq, commit) in refs.items()],
                )

        self._use(write, None)

    # ---- working facts -----------------------------------------------------------------------------------------------

    def get(self, key: str, default: Any = None) -> Any:
        """Return a fact (JSON material), for instance that the store was probed."""
        row = self._use(lambda db: db.execute("select value from facts where key = ?", [key]).fetchone(), None)
        try:
            return default if row is None else json.loads(row[0])
        except (TypeError, ValueError):
            return default

    def set(self, key: str, value: Any) -> None:
        """Keep a fact."""
        self.set_many({key: value})

    def set_many(self, facts: Mapping[str, Any]) -> None:
        """Keep several facts at once."""
        rows = [(key, json.dumps(value)) for key, value in facts.items()]

        def write(db: sqlite3.Connection) -> None:
            with db:
                db.executemany("insert or replace into facts values (?, ?)", rows)

        self._use(write, None)

    # ---- the file ----------------------------------------------------------------------------------------------------

    def database(self) -> Database:
        """Open the file once more with sqlite-utils, to look into it; the caller closes it."""
        from sqlite_utils import Database  # see the module's docstring

        if not self.persistent or self._path is None:
            return Database(memory=True)
        return Database(self._path)

    def close(self) -> None:
        """Close the file. It is opened again when needed."""
        if self._pid != os.getpid():
            self._reset()
        with self._lock:
            if self._db is not None:
                # What a degraded index holds in memory is a cache too.
                self._db.close()
                self._db = None

    def _use(self, action: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        if self._pid != os.getpid():
            # SQLite connections, and a lock that another thread held, must not be carried over a fork.
            self._reset()
        with self._lock:
            try:
                return action(self._open())
            except (sqlite3.Error, OSError) as error:
                if self._degraded:
                    _log.warning("the index in memory failed: %s", error)
                    return otherwise
                self._degrade(error)
            try:
                return action(self._open())
            except sqlite3.Error as error:
                _log.warning("the index in memory failed: %s", error)
                return otherwise

    def _degrade(self, error: Exception) -> None:
        _log.warning("the index %s cannot be used (%s); continuing without it. Deleting it is safe.", self._path, error)
        self._degraded = True
        if self._db is not None:
            self._db.close()
            self._db = None

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            if self._path is None or self._degraded:
                connection = sqlite3.connect(":memory:", check_same_thread=False)
            else:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, check_same_thread=False)
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._db = connection
        return self._db

    def _prepare(self, connection: sqlite3.Connection) -> None:
        version = connection.execute("pragma user_version").fetchone()[0]
        if version not in (0, _VERSION):
            raise sqlite3.DatabaseError(f"its schema has version {version}, not {_VERSION}")
        # In WAL mode this never damages the file, and syncs only when the log is folded in.
        connection.execute("pragma synchronous = normal")
        if version == 0:
            connection.execute("pragma journal_mode = wal")
            connection.executescript(f"begin immediate; {_SCHEMA} pragma user_version = {_VERSION}; commit;")
