"""Which commits one side has and the other lacks: a walk from the tips until both know a commit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from hangarlake.errors import ObjectNotFoundError
from hangarlake.records.graph import Graph
from hangarlake.records.index import Index
from hangarlake.records.models import Commit
from hangarlake.records.movements import Movement, Tag
from hangarlake.storage.base import ObjectStore
from hangarlake.transfer.copying import read_object

__all__ = ["boundary", "groups", "joint_graph", "missing_commits"]


class _Either:
    """Commits and history segments of two stores, read from the first that has them: named by content, so it does not matter which."""

    def __init__(self, first: ObjectStore, second: ObjectStore) -> None:
        self._first = first
        self._second = second

    def get(self, key: str) -> bytes:
        try:
            return read_object(self._first, key)
        except ObjectNotFoundError:
            return read_object(self._second, key)


def joint_graph(source: ObjectStore, target: ObjectStore, stands: Iterable[Movement | Tag | None]) -> Graph:
    """Return the graph of everything that either side knows; it is kept in memory only.

    Parameters
    ----------
    stands : iterable of Movement or Tag
        Refs that were read already: the records in them save requests.
    """
    graph = Graph(cast("ObjectStore", _Either(source, target)), Index(None))
    for stand in stands:
        if stand is not None and stand.commit is not None and stand.record is not None:
            graph.add(stand.commit, stand.record)
    return graph


def missing_commits(graph: Graph, tips: Iterable[str], known: Iterable[str]) -> list[Commit]:
    """Return the commits that can be reached from `tips` and not from `known`, parents before their children."""
    wanted = list(dict.fromkeys(tips))
    return list(graph.walk(wanted, exclude=known))[::-1] if wanted else []


def groups(commits: Sequence[Commit], size: int) -> Iterable[Sequence[Commit]]:
    """Cut commits, parents first, into groups of neighbours."""
    for start in range(0, len(commits), size):
        yield commits[start : start + size]


def boundary(group: Sequence[Commit], most: int) -> list[str]:
    """Return the parents of a group that are not in it, the latest first: what its trees are compared with."""
    own = {commit.id for commit in group}
    outside: dict[str, None] = {}
    for commit in reversed(group):
        for parent in commit.parents:
            if parent not in own:
                outside.setdefault(parent)
    return list(outside)[:most]
