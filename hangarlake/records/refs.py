"""Branches and tags: append-only logs of create-only objects (docs/format.md §10–12)."""

from __future__ import annotations

import enum
import os
import secrets
import threading
from typing import TYPE_CHECKING, Any

from hangarlake.errors import (
    BranchExistsError,
    CorruptionError,
    ObjectNotFoundError,
    RevisionNotFoundError,
    StorageError,
)
from hangarlake.records.canonical import utc_now
from hangarlake.records.hints import HintWriter
from hangarlake.records.logsearch import LAST_SEQ, search_end
from hangarlake.records.movements import (
    BRANCHES,
    TAGS,
    Movement,
    StandFields,
    Tag,
    check_branch_name,
    check_tag_name,
    encode_movement,
    encode_tag,
    hint_key,
    movement_key,
    name_in_key,
    parse_hint,
    parse_movement,
    parse_tag,
    tag_key,
)
from hangarlake.records.refcreation import RefCreator
from hangarlake.storage.executors import map_io

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from typing import Unpack

    from hangarlake.storage.base import ObjectStore

__all__ = ["UNREAD", "RefMovedError", "Refs"]

_BATCH = 32  # movements of a log that are fetched together


class Unread(enum.Enum):
    """Says that a hint was not fetched beforehand (None says that it was, and is missing)."""

    UNREAD = "unread"


UNREAD = Unread.UNREAD


class RefMovedError(StorageError):
    """The branch was moved by somebody else first.

    Attributes
    ----------
    movement : Movement
        The one that won: the successor of what was expected.
    """

    def __init__(self, movement: Movement) -> None:
        super().__init__(
            f"branch {movement.branch!r} was moved first by {movement.author} ({movement.operation}, "
            f"movement {movement.seq}); read it again and retry"
        )
        self.movement = movement

    def __reduce__(self) -> tuple[type[RefMovedError], tuple[Movement]]:
        return RefMovedError, (self.movement,)


class Refs:
    """The branches and tags of one repository.

    May be used from any thread. It remembers how far it has seen each branch, which saves requests; what it
    returns is always read from the store.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._seen: dict[str, int] = {}
        self._creator = RefCreator(self._store)
        self._hints = HintWriter(self._store)

    def _check_process(self) -> None:
        # After a fork the threads that write hints, and whoever held the lock, are in the parent.
        if self._pid != os.getpid():
            self._reset()

    def __getstate__(self) -> dict[str, Any]:
        return {"_store": self._store}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_store"])  # type: ignore[misc]  # opened afresh in another process

    # ---- reading a branch --------------------------------------------------------------------------------------------

    def head(self, branch: str, *, hint: bytes | Unread | None = UNREAD) -> Movement | None:
        """Return the newest movement of a branch; None if there never was one.

        The movement may be a tombstone (``.deleted``). Two sequential round trips in the common case, the hint's and
        that of its movement together with the next; one where this object has seen the branch before.

        Parameters
        ----------
        hint : bytes or None, optional
            The content of ``hints/branches/<branch>.json`` (see :func:`hint_key`) if the caller has fetched it
            already; None if it is missing. Whatever it holds affects costs only.

        Raises
        ------
        ValueError
            If no branch can have that name.
        CorruptionError
            If the movement is damaged.
        StorageError
        """
        check_branch_name(branch)
        self._check_process()
        start = self._seen.get(branch, 0)
        if hint is UNREAD:
            hint = self._read(hint_key(branch)) if not start else None
        start = max(start, parse_hint(hint))
        return self._heads({branch: start})[branch]

    def head_or_tag(self, name: str) -> tuple[Movement | None, Tag | None]:
        """Return the newest movement of the branch `name`, or else the tag of that name: what a revision may mean.

        A name that was not seen as a branch before is looked for in both places at once, so a tag takes one round trip.
        The tag is ``None`` where there is a branch.
        """
        check_branch_name(name)
        self._check_process()
        if name in self._seen:
            head = self.head(name)
            return head, None if head is not None and head.commit is not None else self.read_tag(name)
        hint, first, tag = map_io(self._read, [hint_key(name), movement_key(name, 1), tag_key(name)])
        head = self.head(name, hint=hint) if hint is not None or first is not None else None
        if head is not None and head.commit is not None:
            return head, None
        return head, None if tag is None else parse_tag(tag, name)

    def heads(self) -> dict[str, Movement]:
        """Return the newest movement of every branch that exists, sorted by name.

        All branches are searched together, so it takes the round trips of one.
        """
        self._check_process()
        names = self.names()
        unseen = [name for name in names if name not in self._seen]
        hints = map_io(lambda name: self._read(hint_key(name)), unseen)
        starts = {name: self._seen.get(name, 0) for name in names}
        starts |= {name: parse_hint(hint) for name, hint in zip(unseen, hints, strict=True)}
        found = self._heads(starts)
        return {name: movement for name, movement in found.items() if movement is not None and not movement.deleted}

    def branches(self) -> dict[str, str]:
        """Return the commit id of every branch that exists, by name."""
        return {name: str(movement.commit) for name, movement in self.heads().items()}

    def names(self) -> list[str]:
        """Return the names of all branches that exist or existed, sorted: one listing."""
        parts = self._store.list_prefixes(BRANCHES)
        found = {name_in_key(part.rstrip("/")) for part in parts}
        return sorted(name for name in found if name is not None)

    def movement(self, branch: str, seq: int) -> Movement | None:
        """Return one movement; None if there is none of that number."""
        check_branch_name(branch)
        data = self._read(movement_key(branch, seq)) if 1 <= seq <= LAST_SEQ else None
        return None if data is None else parse_movement(data, branch, seq)

    def _heads(self, starts: Mapping[str, int]) -> dict[str, Movement | None]:
        """Run the searches of several branches in step: every round asks the store for all that all of them want."""
        searches = {branch: search_end(start) for branch, start in starts.items()}
        wanted = {branch: next(search) for branch, search in searches.items()}
        found: dict[str, Movement | None] = {}
        while wanted:
            asked = [(branch, seq) for branch, seqs in wanted.items() for seq in seqs]
            answers = map_io(lambda each: self._read(movement_key(*each)), asked)
            replies: dict[str, dict[int, bytes | None]] = {branch: {} for branch in wanted}
            for (branch, seq), data in zip(asked, answers, strict=True):
                replies[branch][seq] = data
            wanted = {}
            for branch, reply in replies.items():
                try:
                    wanted[branch] = searches[branch].send(reply)
                except StopIteration as stop:
                    found[branch] = self._newest(branch, stop.value)
        return {branch: found[branch] for branch in starts}

    def _newest(self, branch: str, found: tuple[int, bytes] | None) -> Movement | None:
        if found is None:
            return None
        self._saw(branch, found[0])
        return parse_movement(found[1], branch, found[0])

    def _saw(self, branch: str, seq: int) -> None:
        with self._lock:
            self._seen[branch] = max(seq, self._seen.get(branch, 0))

    def _read(self, key: str) -> bytes | None:
        try:
            return self._store.get(key)
        except ObjectNotFoundError:
            return None

    def log(self, branch: str) -> Iterator[Movement]:
        """Yield all movements of a branch, newest first, tombstones included; nothing for one that never was.

        Raises
        ------
        CorruptionError
            If a movement is damaged or missing.
        """
        head = self.head(branch)
        if head is None:
            return
        yield head
        size = 4
        last = head.seq - 1
        while last > 0:
            seqs = list(range(last, max(last - size, 0), -1))
            for seq, data in zip(seqs, map_io(lambda seq: self._read(movement_key(branch, seq)), seqs), strict=True):
                if data is None:
                    raise CorruptionError(f"{movement_key(branch, seq)} is missing: the log of {branch!r} has a gap")
                yield parse_movement(data, branch, seq)
            last -= size
            size = min(size * 2, _BATCH)

    def at(self, branch: str, time: datetime) -> Movement | None:
        """Return the movement in force at a time: the newest whose time is not after it; None if there is none.

        Clocks differ between writers, so this looks from the newest backwards instead of trusting that times ascend.

        Raises
        ------
        ValueError
            If `time` is naive. Otherwise raises like :meth:`log`.
        """
        if time.utcoffset() is None:
            raise ValueError(f"{time!r} has no time zone")
        return next((movement for movement in self.log(branch) if movement.time <= time), None)

    # ---- moving a branch ---------------------------------------------------------------------------------------------

    def move(
        self,
        branch: str,
        expected: Movement | None,
        *,
        commit: str | None,
        operation: str,
        **fields: Unpack[StandFields],
    ) -> Movement:
        """Append the movement that follows `expected`, and return it: one request when nothing goes wrong.

        Parameters
        ----------
        expected : Movement or None
            The newest movement known; None for a branch that never was. A deleted branch goes on after its tombstone.
        commit : str or None
            Where the branch is to stand; None deletes it.
        operation : str
        **fields
            Author, message, and copies of what readers need next: see :class:`StandFields`.

        Raises
        ------
        RefMovedError
            If somebody else moved the branch first. It carries their movement.
        StorageError
            If the store failed. When it failed so that the outcome is unknown, the message says so; the
            same call may then be repeated, and recognises its own movement if that got through.
        ValueError
            If the movement would not be readable.
        """
        check_branch_name(branch)
        self._check_process()
        if expected is not None and expected.branch != branch:
            raise ValueError(f"cannot move {branch!r} on from a movement of {expected.branch!r}")
        movement = Movement(
            branch=branch,
            seq=expected.seq + 1 if expected is not None else 1,
            commit=commit,
            previous=expected.commit if expected is not None else None,
            operation=operation,
            **_complete(fields),
        )
        stored = self._creator.create(
            movement_key(branch, movement.seq),
            encode_movement(movement),
            lambda raw: parse_movement(raw, branch, movement.seq),
            movement,
        )
        self._saw(branch, movement.seq)
        if not self._creator.made(stored, movement):
            raise RefMovedError(stored)
        self._hints.write_later(stored)
        return stored

    def flush_hints(self, timeout: float | None = None) -> None:
        """Wait until the hints of all movements made here are written, or have failed to be."""
        self._check_process()
        self._hints.flush(timeout)

    def close(self) -> None:
        """Wait for hints. The object may be used again."""
        self.flush_hints()

    # ---- tags --------------------------------------------------------------------------------------------------------

    def create_tag(
        self,
        tag: str,
        *,
        commit: str,
        **fields: Unpack[StandFields],
    ) -> Tag:
        """Create a tag. Parameters are those of :meth:`move`, and `record` is needed.

        Raises
        ------
        BranchExistsError
            If there is a tag of that name.
        StorageError
            As :meth:`move` does.
        ValueError
            If no tag can have that name, or it would not be readable.
        """
        check_tag_name(tag)
        self._check_process()
        new = Tag(tag=tag, commit=commit, **_complete(fields))
        stored = self._creator.create(tag_key(tag), encode_tag(new), lambda raw: parse_tag(raw, tag), new)
        if self._creator.made(stored, new):
            return stored
        raise BranchExistsError(
            f"there is a tag {tag!r} already, on commit {stored.commit[:12]}; delete it first, or choose another name"
        )

    def read_tag(self, tag: str) -> Tag | None:
        """Return a tag; None if there is none of that name.

        Raises
        ------
        CorruptionError
            If it is damaged.
        """
        check_tag_name(tag)
        data = self._read(tag_key(tag))
        return None if data is None else parse_tag(data, tag)

    def delete_tag(self, tag: str) -> None:
        """Delete a tag.

        Raises
        ------
        RevisionNotFoundError
            If there is none of that name.
        """
        check_tag_name(tag)
        if self._read(tag_key(tag)) is None:
            raise RevisionNotFoundError(f"there is no tag {tag!r}")
        self._store.delete([tag_key(tag)])

    def tags(self) -> dict[str, str]:
        """Return the commit id of every tag, by name."""
        return {tag.tag: tag.commit for tag in self.read_tags()}

    def tag_names(self) -> list[str]:
        """Return the names of all tags, sorted: one listing."""
        parts = [part for part in self._store.list_prefixes(TAGS) if part.endswith(".json")]
        found = {name_in_key(part.removesuffix(".json")) for part in parts}
        return sorted(name for name in found if name is not None)

    def read_tags(self) -> list[Tag]:
        """Return all tags, by name."""
        # One may be deleted between the listing and the reading.
        return [tag for tag in map_io(self.read_tag, self.tag_names()) if tag is not None]


def _complete(fields: StandFields) -> dict[str, Any]:
    """Return the fields that movements and tags share, with what is left out and a new write id."""
    absent = {"record": None, "catalog": None, "physical": None, "nodes": None}
    record, time = fields.get("record"), fields.get("time")
    return {
        **absent,
        **fields,
        "record": record.decode("utf-8") if isinstance(record, bytes) else record,
        "time": utc_now() if time is None else time,
        "write_id": secrets.token_hex(16),
    }
