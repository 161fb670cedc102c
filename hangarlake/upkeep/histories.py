"""Checking commits: every commit object that can be reached, whatever history segments and copies in refs say as well."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hangarlake.errors import CorruptionError, ObjectNotFoundError, UnsupportedFormatError
from hangarlake.records.canonical import digest
from hangarlake.records.commits import commit_key, next_generation, parse_commit
from hangarlake.records.history import decode_segment, segment_key, segment_span
from hangarlake.records.models import Commit
from hangarlake.storage.base import ObjectStore
from hangarlake.storage.executors import map_io
from hangarlake.upkeep.findings import Findings

__all__ = ["History", "read_commits", "walk_commits"]

_RESTORE = "restore it from a clone or a backup"
_TOGETHER = 512  # objects that are asked for at once
_SPARE = 65_536  # records of segments that are kept for when their commits come up


@dataclass(slots=True)
class History:
    """The commits that were reached.

    Attributes
    ----------
    commits : list of Commit
        Parents before children; where an object is lost, what a copy of it says.
    """

    commits: list[Commit] = field(default_factory=list)

    def with_descendants(self, ids: set[str]) -> list[Commit]:
        """Return those of some commits, and of what descends from them, that are there; parents first."""
        reached = set(ids)
        found = []
        for commit in self.commits:
            if commit.id in reached or not reached.isdisjoint(commit.parents):
                reached.add(commit.id)
                found.append(commit)
        return found


def read_commits(store: ObjectStore, ids: Sequence[str], findings: Findings) -> dict[str, Commit]:
    """Read commit objects and check them; those that are not right are found, and left out."""

    def get(commit_id: str) -> bytes | None:
        try:
            return store.get(commit_key(commit_id))
        except ObjectNotFoundError:
            return None

    sound: dict[str, Commit] = {}
    for start in range(0, len(ids), _TOGETHER):
        part = ids[start : start + _TOGETHER]
        for commit_id, data in zip(part, map_io(get, part), strict=True):
            key = commit_key(commit_id)
            if data is None:
                findings.add(key, "missing", f"the commit is not there; {_RESTORE}", commit=commit_id)
                continue
            findings.read("commits", len(data))
            findings.count(commits=1)
            try:
                sound[commit_id] = parse_commit(commit_id, data)
            except UnsupportedFormatError as error:
                findings.add(key, "unsupported", str(error), commit=commit_id)
            except CorruptionError as error:
                fits = digest(data) == commit_id
                findings.add(key, "mismatch" if fits else "damaged", f"{error}; {_RESTORE}", commit=commit_id)
    return sound


def walk_commits(store: ObjectStore, tips: Mapping[str, str | None], findings: Findings) -> History:
    """Read every commit that can be reached from some, as an object of its own, in few round trips.

    History segments tell what to ask for, many generations at a time; each is checked as well.

    Parameters
    ----------
    tips : mapping of str to (str or None)
        Commit ids, and the records that came with refs: where an object is lost, its history is still followed.
    """
    walk = _Walk(store, findings)
    walk.hint({commit_id: record.encode("utf-8") for commit_id, record in tips.items() if record is not None})
    walk.run(list(tips))
    return walk.finish()


class _Walk:
    def __init__(self, store: ObjectStore, findings: Findings) -> None:
        self._store = store
        self._findings = findings
        self._spare: dict[str, bytes] = {}
        self._commits: dict[str, Commit] = {}
        self._reached: set[str] = set()
        # Commits whose copies were followed; None once their objects have been read.
        self._known: dict[str, Commit | None] = {}
        # Commit → the ids that its segment has lines of.
        self._segments: dict[str, tuple[str, ...]] = {}

    def hint(self, records: Mapping[str, bytes]) -> None:
        """Keep records that are known to hash to their ids."""
        if len(self._spare) > _SPARE:
            self._spare.clear()
        self._spare.update((key, record) for key, record in records.items() if key not in self._known)

    def run(self, tips: Iterable[str]) -> None:
        blind = self._reach(tips)
        while blind:
            batch: list[str] = []
            while True:
                followed, blind = self._follow(blind)
                batch += followed
                # Segments show what lies further down; they are asked first, for as long as they help.
                due = self._due(self._known[commit_id] for commit_id in followed)
                if not due or len(batch) > _SPARE:
                    break
                self._read_segments(due)
            sound = read_commits(self._store, batch + blind, self._findings)
            self._read_segments(self._due(sound.values()))
            # What an object says counts; where it is lost, a copy keeps the check going, and its trees are looked at all the same.
            found = {each: sound.get(each) or self._known.get(each) for each in batch + blind}
            for commit_id, commit in found.items():
                self._known[commit_id] = None
                if commit is not None:
                    self._commits[commit_id] = commit
            blind = self._reach(parent for each in found.values() if each is not None for parent in each.parents)

    def _reach(self, ids: Iterable[str]) -> list[str]:
        """Return those that were not reached before."""
        fresh = [each for each in dict.fromkeys(ids) if each not in self._reached]
        self._reached.update(fresh)
        return fresh

    def _follow(self, blind: list[str]) -> tuple[list[str], list[str]]:
        """Go as far down as the records at hand lead: return the commits passed, and those where nothing is at hand."""
        followed: list[str] = []
        ends: list[str] = []
        todo = blind[::-1]
        while todo:
            commit_id = todo.pop()
            record = self._spare.pop(commit_id, None)
            try:
                commit = parse_commit(commit_id, record) if record is not None else None
            except (CorruptionError, UnsupportedFormatError):
                commit = None  # the object will tell
            if commit is None:
                ends.append(commit_id)
                continue
            self._known[commit_id] = commit
            followed.append(commit_id)
            todo += self._reach(commit.parents)
        return followed, ends

    def _due(self, commits: Iterable[Commit | None]) -> list[str]:
        """Return the commits that have a segment beside them which was not read."""
        return [
            each.id
            for each in commits
            if each is not None and segment_span(each.generation) and each.id not in self._segments
        ]

    def _read_segments(self, ids: list[str]) -> None:
        def get(commit_id: str) -> bytes | None:
            try:
                return self._store.get(segment_key(commit_id))
            except ObjectNotFoundError:
                return None  # it saves requests, and nobody promised it

        for commit_id, data in zip(ids, map_io(get, ids), strict=True):
            self._segments[commit_id] = ()
            if data is None:
                continue
            self._findings.read("commits", len(data))
            self._findings.count(segments=1)
            try:
                lines = decode_segment(data, segment_key(commit_id))
            except CorruptionError as error:
                self._bad_segment(commit_id, str(error))
                continue
            self._segments[commit_id] = tuple(lines)
            if next(iter(lines), None) != commit_id:
                self._bad_segment(commit_id, "it does not begin with its commit")
            self.hint(lines)

    def _bad_segment(self, commit_id: str, what: str) -> None:
        self._findings.add(
            segment_key(commit_id),
            "damaged",
            f"the history segment is not right ({what}); it saves requests and holds nothing else, so delete the object",
        )

    def finish(self) -> History:
        for commit_id, lines in self._segments.items():
            strange = [line for line in lines if line not in self._reached]
            if strange:
                self._bad_segment(commit_id, f"{len(strange)} of its lines are none of the commit's ancestors")
        for commit in self._commits.values():
            parents = [self._commits[parent] for parent in commit.parents if parent in self._commits]
            if len(parents) == len(commit.parents) and parents and commit.generation != next_generation(parents):
                self._findings.add(
                    commit_key(commit.id),
                    "mismatch",
                    f"the generation {commit.generation} does not follow from the parents'; whoever wrote it has a fault",
                    commit=commit.id,
                )
        return History(sorted(self._commits.values(), key=lambda each: (each.generation, each.time, each.id)))
