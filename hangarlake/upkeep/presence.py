"""Which data objects are here, which need not be, and where a clone keeps chunks that its trees place elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hangarlake.chunks.packs import ChunkRef, pack_key
from hangarlake.errors import ObjectNotFoundError
from hangarlake.locality import Locality
from hangarlake.records.canonical import is_id
from hangarlake.storage.base import ByteRange, ObjectStore
from hangarlake.upkeep.findings import Findings
from hangarlake.upkeep.ledger import Distinct

__all__ = ["DataObject", "Presence"]

_RESTORE = "restore it from a clone or a backup"
_FETCH = "fetch it again, or restore it from a backup"


@dataclass(slots=True)
class DataObject:
    """A pack, or a chunk that is an object of its own.

    Attributes
    ----------
    size : int or None
        ``None``: it is not here.
    expected : bool
        Whether it has to be here: the first commit that names it was made here, or this is no partial clone.
    """

    id: bytes
    size: int | None
    expected: bool

    @property
    def key(self) -> str:
        return pack_key(self.id)


class Presence:
    """Knows the data objects of one store, by one listing.

    Parameters
    ----------
    made_here : set of str, optional
        In a partial clone: the commits whose data is here. ``None``: all data has to be.
    """

    def __init__(self, store: ObjectStore, findings: Findings, made_here: set[str] | None) -> None:
        self._store = store
        self._findings = findings
        self._made_here = made_here
        self._sizes: dict[bytes, int] | None = None
        self._numbers: dict[bytes, int] = {}
        self.objects: list[DataObject] = []
        # Without the folder of this machine, which could hide what is damaged in the bucket.
        self._locality = Locality(store)
        self._absent = Distinct()
        if store.can_list:
            self._sizes = {}
            for info in store.list("packs/"):
                name = info.key.rpartition("/")[2]
                if is_id(name) or is_id(name, 40):
                    self._sizes[bytes.fromhex(name)] = info.size

    @property
    def absent(self) -> int:
        """How many chunks were looked for that are not here, and need not be."""
        return len(self._absent.all())

    def number(self, object_id: bytes, commit: str) -> int:
        """Return the number of a data object that a commit names."""
        known = self._numbers.get(object_id)
        if known is None:
            known = self._numbers[object_id] = len(self.objects)
            expected = self._made_here is None or commit in self._made_here
            self.objects.append(DataObject(object_id, self.size(object_id), expected))
        return known

    def size(self, object_id: bytes) -> int | None:
        """Return how long a data object is; ``None`` if it is not here, 0 where nobody tells."""
        if self._sizes is not None:
            return self._sizes.get(object_id)
        try:
            self._store.get_ranges([ByteRange(pack_key(object_id), 0, 1)])
        except ObjectNotFoundError:
            return None
        return 0

    def locate(self, refs: Sequence[ChunkRef], commit: str) -> list[ChunkRef | None]:
        """Return where chunks are that are not where a tree says; what is nowhere is counted, or found missing."""
        places = self._locality.find([ref.digest for ref in refs])
        out: list[ChunkRef | None] = []
        lost: list[bytes] = []
        for ref, place in zip(refs, places, strict=True):
            if place is not None and place.length == ref.length:
                held = self.objects[self.number(place.pack or place.digest, commit)]
                if held.size is not None:
                    out.append(place)
                    continue
            out.append(None)
            absent = self.objects[self.number(ref.pack or ref.digest, commit)]
            if absent.expected:
                self._miss(absent)
            else:
                lost.append(ref.digest)
        if lost:
            self._absent.add(np.frombuffer(b"".join(each[:8] for each in lost), "<u8"))
        return out

    def _miss(self, absent: DataObject) -> None:
        remedy = _RESTORE if self._made_here is None else _FETCH
        self._findings.add(absent.key, "missing", f"the data is not there; {remedy}", pack=absent.id)
