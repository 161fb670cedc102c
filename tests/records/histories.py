"""Made-up histories, and faulty stores, for the tests of commits, refs and walks."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from hangarlake.errors import StorageError
from hangarlake.records.canonical import digest
from hangarlake.records.commits import commit_key, encode_commit
from hangarlake.records.models import Author
from hangarlake.storage.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hangarlake.storage.base import Buffer

AUTHOR = Author("Ada Lovelace", "ada@example.org")
T0 = datetime(2026, 11, 1, 12, tzinfo=UTC)


def make_commit(
    *parents: tuple[str, int],
    message: str = "message",
    time: datetime = T0,
    renames: Sequence[dict[str, str]] | None = None,
) -> tuple[str, bytes]:
    """Encode a commit whose parents are given as (id, generation)."""
    return encode_commit(
        catalog=digest(message.encode()),
        parents=[parent for parent, _ in parents],
        generation=1 + max((generation for _, generation in parents), default=-1),
        author=AUTHOR,
        message=message,
        time=time,
        renames=renames,
    )


@dataclass
class History:
    """A graph of commits in a store, numbered in the order of their making."""

    store: MemoryStore = field(default_factory=MemoryStore)
    ids: list[str] = field(default_factory=list)
    parents: list[list[int]] = field(default_factory=list)
    generations: list[int] = field(default_factory=list)
    records: list[bytes] = field(default_factory=list)

    def commit(
        self, *parents: int, time: datetime = T0, renames: Sequence[dict[str, str]] | None = None, message: str = ""
    ) -> int:
        number = len(self.ids)
        commit_id, record = make_commit(
            *((self.ids[parent], self.generations[parent]) for parent in parents),
            message=message or f"commit {number}",
            time=time,
            renames=renames,
        )
        self.store.put(commit_key(commit_id), record)
        self.ids.append(commit_id)
        self.parents.append(list(parents))
        self.generations.append(1 + max((self.generations[parent] for parent in parents), default=-1))
        self.records.append(record)
        return number

    def chain(self, length: int, start: int | None = None) -> int:
        """Add `length` commits, one on the other, and return the number of the last."""
        for _ in range(length):
            start = self.commit(*([] if start is None else [start]))
        assert start is not None
        return start

    def ancestors(self, number: int) -> set[int]:
        """The model: everything that can be reached, the commit itself included."""
        seen: set[int] = set()
        todo = [number]
        while todo:
            each = todo.pop()
            if each not in seen:
                seen.add(each)
                todo.extend(self.parents[each])
        return seen

    def best_common_ancestors(self, a: int, b: int) -> list[str]:
        common = self.ancestors(a) & self.ancestors(b)
        best = {each for each in common if not any(each in self.ancestors(other) for other in common - {each})}
        return sorted(self.ids[each] for each in best)


def build_history(shape: Sequence[Sequence[int]], times: Callable[[int], datetime] = lambda _: T0) -> History:
    """Build a history from the parents of each commit."""
    history = History()
    for number, parents in enumerate(shape):
        history.commit(*parents, time=times(number))
    return history


def forwards(number: int) -> datetime:
    return T0 + timedelta(hours=number)


def backwards(number: int) -> datetime:
    return T0 - timedelta(hours=number)


def standing_still(number: int) -> datetime:
    return T0


class CountingStore(MemoryStore):
    """Counts reads, and tells which were under way together."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []

    def get(self, key: str) -> bytes:
        self.reads.append(key)
        return super().get(key)


class FaultyStore(MemoryStore):
    """Fails in the way of a network: creates whose answer is lost, or that never arrive, or that seem to be another's.

    `fate` is asked for each create and says ``"ok"``, ``"lost"`` (done, then an error), ``"retried"`` (done, but the
    answer is False, as after a request that was sent twice) or ``"dropped"`` (an error, and nothing done).
    """

    def __init__(self, fate: Callable[[str], str]) -> None:
        super().__init__()
        self._fate = fate
        self._turn = threading.Lock()
        self.fail_reads = 0

    def put_new(self, key: str, data: Buffer) -> bool:
        with self._turn:
            fate = self._fate(key)
        if fate == "dropped":
            raise StorageError("the connection was reset")
        created = super().put_new(key, data)
        if fate == "lost":
            raise StorageError("the answer timed out")
        return created and fate != "retried"

    def get(self, key: str) -> bytes:
        with self._turn:
            failing = self.fail_reads > 0
            self.fail_reads -= failing
        if failing:
            raise StorageError("the connection was reset")
        return super().get(key)


def every_flipped_byte(data: bytes) -> list[bytes]:
    """Each way to damage one byte: its lowest bit flipped."""
    return [data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :] for place in range(len(data))]
