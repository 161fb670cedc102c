"""Which node of one catalog goes on as which node of another."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

__all__ = ["Thread", "compose", "continuations", "inverse", "threads"]


def continuations(old: Collection[str], new: Collection[str], renames: Mapping[str, str]) -> dict[str, str]:
    """Return old name → new name of the nodes that go on.

    A node goes on where a rename says; else under its own name, unless another node was renamed to that; else it was removed.
    Renames that do not fit the names are ignored.
    """
    goes_to: dict[str, str] = {}
    taken: set[str] = set()
    for name, target in renames.items():
        if name in old and target in new and target not in taken:
            goes_to[name] = target
            taken.add(target)
    for name in old:
        if name not in goes_to and name in new and name not in taken:
            goes_to[name] = name
    return goes_to


def compose(first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, str]:
    """Return the renames of two steps as those of one: what `first` made of the names, `second` renamed again.

    What ends up with the name that it began with is left out.
    """
    # A node whose name another one takes, and which takes no other, was removed in between.
    lost = set(second.values()) - set(second)
    kept = {old: new for old, new in first.items() if new not in lost}
    taken = set(kept.values())
    # A name that is not a new one of an older node is the node's first; unless that node has moved on.
    fresh = {old: new for old, new in second.items() if old not in taken and old not in first}
    both = {old: second.get(new, new) for old, new in kept.items()} | fresh
    return {old: new for old, new in both.items() if old != new}


def inverse(renames: Mapping[str, str]) -> dict[str, str]:
    """Return the renames that undo others."""
    return {new: old for old, new in renames.items()}


@dataclass(frozen=True, slots=True)
class Thread:
    """One node through a merge: its names in the base and on both sides, ``None`` where it is not."""

    base: str | None
    ours: str | None
    theirs: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """The names that it may have in the merged catalog, the one that a three-way merge gives first."""
        present = [name for name in (self.ours, self.theirs) if name is not None]
        if len(present) == 2 and self.ours == self.base:
            present.reverse()  # only theirs renamed it
        return tuple(dict.fromkeys(present))

    @property
    def renamed_twice(self) -> bool:
        """Whether both sides renamed it, to different names."""
        return len({self.base, self.ours, self.theirs} - {None}) == 3


def threads(
    base: Iterable[str],
    ours: Collection[str],
    theirs: Collection[str],
    renames_ours: Mapping[str, str],
    renames_theirs: Mapping[str, str],
) -> list[Thread]:
    """Trace every node of three catalogs. A name that both sides added is one node."""
    base = list(base)
    to_ours = continuations(base, ours, renames_ours)
    to_theirs = continuations(base, theirs, renames_theirs)
    traced = [Thread(name, to_ours.get(name), to_theirs.get(name)) for name in sorted(base)]
    known_ours, known_theirs = set(to_ours.values()), set(to_theirs.values())
    added_ours = {name for name in ours if name not in known_ours}
    added_theirs = {name for name in theirs if name not in known_theirs}
    traced += [
        Thread(None, name if name in added_ours else None, name if name in added_theirs else None)
        for name in sorted(added_ours | added_theirs)
    ]
    return traced
