"""The commit graph: ancestry, logs and merge bases, from parents and generation numbers alone.

Every walk takes commits from a heap by falling generation. A commit's generation is greater than its parents', so when a
commit is taken, everything in the walk that descends from it has been taken before: one pass settles what git's
``paint_down_to_common`` has to settle again when clocks are skewed. No clock is ever looked at to decide anything.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import deque
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import TYPE_CHECKING

from hangarlake.errors import CorruptionError, ObjectNotFoundError, RevisionNotFoundError
from hangarlake.records.canonical import digest
from hangarlake.records.commits import commit_key, next_generation, parse_commit, read_commit
from hangarlake.records.history import SEGMENT_LINES, encode_segment, read_segment, segment_key, segment_span
from hangarlake.records.index import Index
from hangarlake.records.renames import compose
from hangarlake.storage.executors import io_pool, map_io

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

    from hangarlake.records.models import Commit
    from hangarlake.storage.base import ObjectStore

__all__ = ["Graph", "segment_due", "write_segment"]

_log = logging.getLogger(__name__)

_PAGE = 512  # generations that are taken from the index together
_AHEAD = 64  # commits of a walk whose parents are fetched together
_SPARE = 65_536  # records that are kept though nobody has asked for them yet
_FLUSH = 16_384  # commits that go into the index together: writing them competes with the walk that reads on
_FLUSH_BEHIND = 64  # from so many on, the index is written while the walk goes on

_NOTHING: tuple[None, bool] = (None, False)
_OURS, _THEIRS, _STALE = 1, 2, 4
_COMMON = _OURS | _THEIRS


class Graph:
    """The commits of one repository.

    May be used from any thread: every step on its state is a single operation on a dict or deque, and there is no lock
    that a fork could leave held. Commits are immutable, so what was read once is kept in memory, and in the index.

    Parameters
    ----------
    store : ObjectStore
    index : Index, optional
        Where commits are kept between sessions; in memory by default.
    """

    def __init__(self, store: ObjectStore, index: Index | None = None) -> None:
        self._store = store
        self._index = Index(None) if index is None else index
        self._commits: dict[str, Commit] = {}
        # Verified records from segments and from the index that nobody has asked for yet.
        # With each, whether the index lacks it.
        self._spare: dict[str, tuple[bytes | None, bool]] = {}
        self._segments: set[str] = set()
        self._pages: set[int] = set()
        self._unsaved: deque[tuple[str, int, str]] = deque()
        self._writing: list[tuple[int, Future[None]]] = []

    def __reduce__(self) -> tuple[type[Graph], tuple[ObjectStore, Index]]:
        return Graph, (self._store, self._index)

    # ---- reading commits ---------------------------------------------------------------------------------------------

    def add(self, commit_id: str, record: bytes | str) -> Commit:
        """Take in a commit whose record came with a ref, and return it; this saves reading its object.

        Raises
        ------
        CorruptionError
            If the record is not that commit's.
        """
        known = self._commits.get(commit_id)
        if known is not None:
            return known
        data = record.encode("utf-8") if isinstance(record, str) else record
        if digest(data) != commit_id:
            raise CorruptionError(f"the record that came with commit {commit_id} is damaged or another's")
        return self._accept(commit_id, data, save=True)

    def commit(self, commit_id: str) -> Commit:
        """Return one commit.

        Raises
        ------
        RevisionNotFoundError
            If there is none of that id.
        CorruptionError
            If it is damaged.
        """
        known = self._commits.get(commit_id)
        return known if known is not None else self.commits([commit_id])[0]

    def commits(self, ids: Iterable[str]) -> list[Commit]:
        """Return several commits in the order asked for, fetching concurrently; raises like :meth:`commit`."""
        wanted = list(ids)
        absent = self._load(wanted)
        if absent:
            raise RevisionNotFoundError(f"there is no commit {min(absent)}; it may exist in another clone: fetch first")
        return [self._commits[commit_id] for commit_id in wanted]

    def _load(self, ids: Iterable[str], children: Iterable[Commit] = ()) -> set[str]:
        """Bring commits into memory; return the ids of those that do not exist.

        `children` are commits on whose behalf a walk asks: their segments are fetched along with the objects.
        """
        children = list(children)
        missing = self._load_spare(ids)
        if missing and self._read_pages(children):
            missing = self._load_spare(missing)
        if missing:
            missing = self._load_indexed(missing)
        if not missing:
            return set()
        lacking = set(missing)
        due = [
            child.id
            for child in children
            if child.id not in self._segments
            and segment_span(child.generation)
            and not lacking.isdisjoint(child.parents)
        ]
        # One round trip: the parent's own object is there if the segment is not.
        tasks = [(commit_id, False) for commit_id in missing] + [(commit_id, True) for commit_id in due]
        absent = set()
        for (commit_id, is_segment), answer in zip(tasks, map_io(self._fetch, tasks), strict=True):
            if isinstance(answer, dict):
                self._keep_spare(answer, save=True)
                self._segments.add(commit_id)
            elif answer is None:
                absent.add(commit_id)
            elif not is_segment:
                parse_commit(commit_id, answer)
                self._accept(commit_id, answer, save=True)
        # A segment may hold what lacks an object of its own.
        return set(self._load_spare(absent))

    def _load_spare(self, ids: Iterable[str]) -> list[str]:
        """Bring into memory what is at hand in `_spare`, and return the ids that are not."""
        missing = []
        for commit_id in ids:
            if commit_id not in self._commits:
                record, save = self._spare.pop(commit_id, _NOTHING)
                if record is None:
                    missing.append(commit_id)
                else:
                    self._accept(commit_id, record, save=save)
        return list(dict.fromkeys(missing)) if len(missing) > 1 else missing

    def _load_indexed(self, ids: list[str]) -> list[str]:
        for commit_id, record in _sound(self._index.get_commits(ids)).items():
            self._accept(commit_id, record, save=False)
        return [commit_id for commit_id in ids if commit_id not in self._commits]

    def _fetch(self, task: tuple[str, bool]) -> bytes | dict[str, bytes] | None:
        commit_id, is_segment = task
        if is_segment:
            return read_segment(self._store, commit_id)
        try:
            return self._store.get(commit_key(commit_id))
        except ObjectNotFoundError:
            return None

    def _read_pages(self, children: Iterable[Commit]) -> bool:
        """Take from the index what it knows of the generations below `children`; tell whether that was anything."""
        pages = {(child.generation - 1) // _PAGE for child in children} - self._pages
        some = False
        for page in pages:
            self._pages.add(page)
            records = _sound(self._index.get_generations(page * _PAGE, page * _PAGE + _PAGE - 1))
            self._keep_spare(records, save=False)
            some = some or bool(records)
        return some

    def _keep_spare(self, records: dict[str, bytes], *, save: bool) -> None:
        if len(self._spare) + len(records) > _SPARE:
            self._spare.clear()
        commits = self._commits
        self._spare.update((key, (record, save)) for key, record in records.items() if key not in commits)

    def _accept(self, commit_id: str, record: bytes, *, save: bool) -> Commit:
        """Take in a record that hashes to its id."""
        commit = read_commit(commit_id, record)
        self._commits[commit_id] = commit
        if save:
            self._unsaved.append((commit_id, commit.generation, record.decode("utf-8")))
            if len(self._unsaved) >= _FLUSH:
                self._flush()
        return commit

    def _flush(self) -> None:
        rows = []
        while self._unsaved:
            try:
                rows.append(self._unsaved.popleft())
            except IndexError:
                break  # another thread was faster
        if len(rows) < _FLUSH_BEHIND:
            if rows:
                self._index.add_commits(rows)
            return
        for done in [each for each in self._writing if each[1].done()]:
            with contextlib.suppress(ValueError):  # another thread was faster
                self._writing.remove(done)
        try:
            # Nobody waits for the index: a walk over all of history need not either.
            self._writing.append((os.getpid(), io_pool().submit(self._index.add_commits, rows)))
        except RuntimeError:
            self._index.add_commits(rows)  # the interpreter is shutting down and starts no more threads

    def _parents(self, commit: Commit, walk: Iterable[str] = ()) -> list[Commit]:
        """Return the parents, checking the generation number against them.

        Parameters
        ----------
        walk : iterable of str
            Other commits whose parents will be wanted soon: fetched in the same round trip.
        """
        commits = self._commits
        if self._load_spare(commit.parents):
            children = [commit, *(commits[other] for other in islice(walk, _AHEAD))]
            absent = self._load([parent for child in children for parent in child.parents], children)
            absent &= set(commit.parents)
            if absent:
                raise CorruptionError(
                    f"commit {min(absent)} is missing, though commit {commit.id} names it as its parent; "
                    "restore it from a clone, or run verify"
                )
        parents = [commits[parent] for parent in commit.parents]
        if parents and commit.generation != next_generation(parents):
            raise CorruptionError(f"commit {commit.id} is malformed: its generation does not follow from its parents'")
        return parents

    def close(self) -> None:
        """Hand what was read to the index. The object may be used again."""
        self._flush()
        while self._writing:
            process, writing = self._writing.pop()
            if process == os.getpid():  # after a fork, the threads that write are in the parent
                writing.result()

    # ---- walks -------------------------------------------------------------------------------------------------------

    def walk(self, tips: Iterable[str], *, exclude: Iterable[str] = ()) -> Iterator[Commit]:
        """Yield the commits that can be reached from `tips` and not from `exclude`, children before parents.

        Of commits that may come next, the one of the highest generation does; times and ids only settle ties.
        What `exclude` names and is not here (a remote's head, for instance) is ignored.

        Raises
        ------
        RevisionNotFoundError
            If a tip does not exist.
        CorruptionError
            If a commit is damaged, or an ancestor is missing.
        """
        starts = self.commits(tips)
        excluded = set(exclude)
        absent = self._load(excluded)
        if absent:
            _log.debug("%d excluded commits are not here", len(absent))
        hidden = dict.fromkeys(excluded - absent, True)
        hidden.update({commit.id: False for commit in starts if commit.id not in hidden})
        heap = [_key(self._commits[commit_id]) for commit_id in hidden]
        heapify(heap)
        shown = sum(not each for each in hidden.values())  # of those in the heap
        try:
            while shown:
                commit = self._commits[heappop(heap)[2]]
                # Nothing can change it any more: all its children have been taken.
                is_hidden = hidden.pop(commit.id)
                if not is_hidden:
                    shown -= 1
                    yield commit
                for parent in self._parents(commit, (entry[2] for entry in heap)):
                    known = hidden.get(parent.id)
                    if known is None:
                        hidden[parent.id] = is_hidden
                        shown += not is_hidden
                        heappush(heap, _key(parent))
                    elif is_hidden and not known:
                        hidden[parent.id] = True
                        shown -= 1
        finally:
            self._flush()

    def log(self, tip: str, limit: int | None = None) -> Iterator[Commit]:
        """Yield a commit and all its ancestors, each once, children before parents; see :meth:`walk`.

        Parameters
        ----------
        limit : int, optional
            How many at most.
        """
        if limit is not None and limit <= 0:
            return
        for count, commit in enumerate(self.walk([tip]), 1):
            yield commit
            if count == limit:
                return

    def first_parent(self, commit_id: str, steps: int) -> Commit | None:
        """Return the ancestor so many first parents up; None if there are not as many."""
        commit = self.commit(commit_id)
        for _ in range(steps):
            if not commit.parents:
                return None
            commit = self._parents(commit)[0]
        self._flush()
        return commit

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        """Tell whether `ancestor` can be reached from `descendant`; a commit is its own ancestor.

        Raises like :meth:`walk`.
        """
        goal, start = self.commits([ancestor, descendant])
        if goal.id == start.id:
            return True
        heap = [_key(start)]
        seen = {start.id}
        while heap:
            commit = self._commits[heappop(heap)[2]]
            if commit.generation <= goal.generation:
                break  # what is left lies no higher, and the goal is not among it
            for parent in self._parents(commit, (entry[2] for entry in heap)):
                if parent.id == goal.id:
                    return True
                if parent.generation > goal.generation and parent.id not in seen:
                    seen.add(parent.id)
                    heappush(heap, _key(parent))
        return False

    def merge_bases(self, a: str, b: str) -> list[str]:
        """Return the best common ancestors, sorted: those that are not ancestors of another common ancestor.

        One for ordinary histories, several for criss-cross ones, none for unrelated ones. Raises like :meth:`walk`.
        """
        ours, theirs = self.commits([a, b])
        marks = {ours.id: _OURS}
        marks[theirs.id] = marks.get(theirs.id, 0) | _THEIRS
        heap = [_key(self._commits[commit_id]) for commit_id in marks]
        heapify(heap)
        # How many commits in the heap have which marks.
        waiting = [0] * 8
        for mark in marks.values():
            waiting[mark] += 1
        bases = []
        # A base is still to come as long as one waits, or as there is something on both sides that may meet.
        while waiting[_COMMON] or (waiting[_OURS] and waiting[_THEIRS]):
            commit = self._commits[heappop(heap)[2]]
            mark = marks.pop(commit.id)
            waiting[mark] -= 1
            if mark == _COMMON:
                bases.append(commit.id)
                mark |= _STALE  # whatever is below is common as well, but not best
            for parent in self._parents(commit, (entry[2] for entry in heap)):
                old = marks.get(parent.id)
                new = mark | (old or 0)
                if old is None:
                    heappush(heap, _key(parent))
                else:
                    waiting[old] -= 1
                marks[parent.id] = new
                waiting[new] += 1
        self._flush()
        return sorted(bases)

    def merge_base(self, a: str, b: str) -> str | None:
        """Return one best common ancestor; None for unrelated histories.

        Of several, that of the highest generation, and of these the least id: everybody picks the same one.
        """
        bases = self.merge_bases(a, b)
        return min(bases, key=lambda base: (-self._commits[base].generation, base)) if bases else None

    def renames_between(self, ancestor: str, descendant: str) -> dict[str, str]:
        """Return the nodes that `descendant` knows under another name than `ancestor` did: old name → new name.

        Composed along the path that follows the first parent from which `ancestor` can be reached, at every merge.
        Whether the nodes still exist is not asked.

        Raises
        ------
        ValueError
            If `ancestor` is none. Otherwise raises like :meth:`walk`.
        """
        if not self.is_ancestor(ancestor, descendant):
            raise ValueError(f"commit {ancestor} is not an ancestor of {descendant}")
        path = []
        commit, goal = self.commits([descendant, ancestor])
        reaches = self._reaching(goal, commit)
        while commit.id != goal.id:
            place, parent = next(
                (place, parent) for place, parent in enumerate(self._parents(commit)) if parent.id in reaches
            )
            path.append(commit.renames[place])
            commit = parent
        now: dict[str, str] = {}
        for step in reversed(path):
            if step:
                now = compose(now, step)
        return now

    def _reaching(self, goal: Commit, tip: Commit) -> set[str]:
        """Return the commits between `tip` and `goal`, both included, from which `goal` can be reached."""
        order = []
        for commit in self.walk([tip.id]):
            if commit.generation < goal.generation:
                break
            order.append(commit)
        reaches = {goal.id}
        for commit in reversed(order):
            if not reaches.isdisjoint(commit.parents):
                reaches.add(commit.id)
        return reaches

    # ---- segments ----------------------------------------------------------------------------------------------------

    def records(self, ids: Iterable[str]) -> dict[str, bytes]:
        """Return the records of commits, as stored.

        Raises
        ------
        RevisionNotFoundError
            If one does not exist.
        """
        wanted = [commit.id for commit in self.commits(ids)]
        self._flush()
        found = _sound(self._index.get_commits(wanted))
        rest = [commit_id for commit_id in dict.fromkeys(wanted) if commit_id not in found]
        for commit_id, record in zip(rest, map_io(lambda each: self._store.get(commit_key(each)), rest), strict=True):
            parse_commit(commit_id, record)
            found[commit_id] = record
        return {commit_id: found[commit_id] for commit_id in wanted}


def _sound(rows: dict[str, str]) -> dict[str, bytes]:
    """Return the rows of the index that are what they should be. Whatever happened to the file, the rest is as good as absent."""
    records = ((commit_id, text.encode("utf-8", "replace")) for commit_id, text in rows.items())
    return {commit_id: record for commit_id, record in records if digest(record) == commit_id}


def _key(commit: Commit) -> tuple[int, float, str]:
    # Time is for the eye: among commits of one generation, the later ones come first.
    return -commit.generation, -commit.time.timestamp(), commit.id


def segment_due(commit: Commit) -> bool:
    """Tell whether a history segment belongs beside a commit."""
    return segment_span(commit.generation) > 0


def write_segment(store: ObjectStore, graph: Graph, commit: Commit) -> None:
    """Write the history segment beside a commit, if one is due. Worth doing, never needed.

    Raises
    ------
    StorageError
        If it cannot be written; the caller may ignore that.
    """
    span = segment_span(commit.generation)
    if not span:
        return
    ids = []
    for ancestor in graph.walk([commit.id]):
        if ancestor.generation < commit.generation - span:
            break
        ids.append(ancestor.id)
        if len(ids) == SEGMENT_LINES:
            break
    store.put(segment_key(commit.id), encode_segment(graph.records(ids).values()))
