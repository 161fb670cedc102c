"""Collecting what is wrong, and where: one finding for each object and kind, with the places that suffer from it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from hangarlake.records.node import NodeRef

__all__ = ["Finding", "Findings", "Place", "Told", "place_of", "value_spot"]

#: A stored copy of a node: its id, the object that holds it (tree pack or catalog, 32 bytes), and the offset.
Place: TypeAlias = tuple[bytes, bytes, int]

#: Told what is being checked, and how many bytes were read for it.
Told: TypeAlias = Callable[[str, int], object]

_COUNTS = ("objects", "movements", "tags", "commits", "catalogs", "nodes", "segments", "chunks", "samples", "bytes")


def place_of(ref: NodeRef, holder: bytes = b"") -> Place:
    """Return what tells one stored copy of a node from another; `holder` is the catalog of an inlined one."""
    return ref.id, ref.pack or holder, ref.offset


def value_spot(value: bytes, chunk: bytes, index: int) -> bytes:
    """Return what tells a sample: its digest, the (first) chunk that it lies in, and its index as the tree has it."""
    return value + chunk + index.to_bytes(8, "little")


@dataclass(eq=False, slots=True)
class Finding:
    """Something wrong with one object.

    Attributes
    ----------
    affects : dict of str to None
        What is known at once to suffer from it, in order.
    commits, catalogs : set of str
        Those that cannot be trusted.
    """

    object: str
    kind: str
    detail: str
    affects: dict[str, None] = field(default_factory=dict)
    commits: set[str] = field(default_factory=set)
    catalogs: set[str] = field(default_factory=set)


class Findings:
    """What was found so far, and what was counted. May be used from several threads.

    Attributes
    ----------
    nodes : dict of Place to list of Finding
        Nodes that are wrong, or unreadable.
    packs : dict of bytes to list of Finding
        Data objects of which nothing can be read, by id.
    chunks : dict of bytes to list of Finding
        Chunks that are not what they should be, by digest.
    values : dict of bytes to list of Finding
        Samples that are not what their digest says, by :func:`value_spot`.
    """

    def __init__(self, told: Told | None = None) -> None:
        self._found: dict[tuple[str, str], Finding] = {}
        self._lock = threading.Lock()
        self._told = told
        self.counts = dict.fromkeys(_COUNTS, 0)
        self.nodes: dict[Place, list[Finding]] = {}
        self.packs: dict[bytes, list[Finding]] = {}
        self.chunks: dict[bytes, list[Finding]] = {}
        self.values: dict[bytes, list[Finding]] = {}

    def __len__(self) -> int:
        return len(self._found)

    def list(self) -> list[Finding]:
        """Return the findings, sorted by object."""
        return [self._found[key] for key in sorted(self._found)]

    @property
    def has_places(self) -> bool:
        """Whether a part of some tree or data suffers."""
        return bool(self.nodes or self.packs or self.chunks or self.values)

    def add(
        self,
        key: str,
        kind: str,
        detail: str,
        *,
        affects: Iterable[str] = (),
        commit: str | None = None,
        catalog: str | None = None,
        node: Place | None = None,
        pack: bytes | None = None,
        chunk: bytes | None = None,
        value: bytes | None = None,
    ) -> None:
        """Take down what is wrong with an object. Of several sentences of one kind the first is kept, and all places."""
        # What is found by running verify need not say so.
        detail = detail.replace("; run verify", "").replace(", or run verify", "")
        with self._lock:
            found = self._found.setdefault((key, kind), Finding(key, kind, detail))
            found.affects.update(dict.fromkeys(affects))
            if commit is not None:
                found.commits.add(commit)
            if catalog is not None:
                found.catalogs.add(catalog)
            if node is not None:
                _put(self.nodes.setdefault(node, []), found)
            for where, spots in ((pack, self.packs), (chunk, self.chunks), (value, self.values)):
                if where is not None:
                    _put(spots.setdefault(where, []), found)

    def count(self, **counts: int) -> None:
        """Add to what was checked."""
        with self._lock:
            for name, number in counts.items():
                self.counts[name] += number

    def read(self, stage: str, size: int, objects: int = 1) -> None:
        """Count what was read, and tell whoever watches."""
        self.count(objects=objects, bytes=size)
        if self._told is not None:
            self._told(stage, size)


def _put(held: list[Finding], found: Finding) -> None:
    if found not in held:
        held.append(found)
