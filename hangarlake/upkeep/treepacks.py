"""Reading tree packs whole, each once, and telling damage of a pack from a wrong pointer into it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from hangarlake.chunks.digests import blake3_256
from hangarlake.errors import CorruptionError, ObjectNotFoundError, ObjectTruncatedError
from hangarlake.records.node import MAX_NODE_BYTES, Node, NodeRef, decode_node, node_length, tree_pack_key
from hangarlake.storage.base import Buffer, ByteRange, ObjectStore
from hangarlake.storage.executors import map_io
from hangarlake.upkeep.findings import Findings, place_of

__all__ = ["TreePacks"]

_MAGIC = b"HLTREE01"
_RESTORE = "restore it from a clone or a backup"
# A commit writes packs of up to 32 MiB; what is larger is read in ranges.
_LIMIT = 64 << 20
_KEPT_BYTES = 96 << 20
_AHEAD_BYTES = 48 << 20
_AHEAD = 32
_MAX_OFFSET = 1 << 62


class TreePacks:
    """The tree packs of one store. Not thread-safe.

    A pack is read as a whole when its first node is, and kept within bounds; a node of one that is no longer kept is read by itself.
    """

    def __init__(self, store: ObjectStore, findings: Findings) -> None:
        self._store = store
        self._findings = findings
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._kept_bytes = 0
        # Packs that were looked at: why nothing of one can be trusted, "" where all of it can.
        self._state: dict[bytes, str] = {}
        self._mean = _LIMIT

    def load(self, packs: Iterable[bytes]) -> None:
        """Read packs that were not read before, several at once: as many as fit into memory together."""
        todo = [pack for pack in dict.fromkeys(packs) if pack not in self._state]
        while todo:
            width = min(_AHEAD, max(2, _AHEAD_BYTES // self._mean))
            part, todo = todo[:width], todo[width:]
            found = map_io(self._get, part)
            for pack, data in zip(part, found, strict=True):
                self._take(pack, data)
            sizes = [len(data) for data in found if isinstance(data, bytes)]
            if sizes:
                self._mean = max(1, sum(sizes) // len(sizes))

    def _get(self, pack: bytes) -> bytes | CorruptionError | None:
        try:
            return self._store.get_bounded(tree_pack_key(pack), _LIMIT)
        except ObjectNotFoundError:
            return None
        except CorruptionError as error:
            return error

    def _take(self, pack: bytes, data: bytes | CorruptionError | None) -> None:
        key = tree_pack_key(pack)
        if not isinstance(data, bytes):
            kind = "missing" if data is None else "damaged"
            what = "the tree pack is not there" if data is None else str(data)
            self._state[pack] = kind
            self._findings.add(key, kind, f"{what}; {_RESTORE}")
            return
        self._findings.read("trees", len(data))
        self._state[pack] = ""
        if blake3_256(data) != pack:
            kind = self._state[pack] = "truncated" if _ends_early(data) else "damaged"
            self._findings.add(key, kind, f"its {len(data):,} bytes do not hash to its name; {_RESTORE}")
        elif data[: len(_MAGIC)] != _MAGIC:
            self._findings.add(key, "mismatch", "it is no tree pack; whoever wrote it has a fault")
        self._kept[pack] = data
        self._kept_bytes += len(data)
        while self._kept_bytes > _KEPT_BYTES and len(self._kept) > 1:
            self._kept_bytes -= len(self._kept.popitem(last=False)[1])

    def read(self, refs: Sequence[NodeRef], sources: Sequence[str], *, quiet: bool = False) -> list[Node | None]:
        """Return nodes from exactly the places that `refs` name; ``None`` for what cannot be read, which is a finding then.

        Parameters
        ----------
        sources : sequence of str
            Keys of the objects in which the references stand: where a pack is sound, what points into it is wrong.
        quiet : bool
            Find nothing: it was found before.
        """
        self.load(ref.pack for ref in refs if ref.pack is not None)
        parts = self._parts(refs)
        out: list[Node | None] = []
        for ref, source, data in zip(refs, sources, parts, strict=True):
            assert ref.pack is not None
            node, why = None, "it lies beyond the end"
            if data is not None:
                try:
                    node = decode_node(data, ref)
                except CorruptionError as error:
                    why = str(error.__cause__ or error)
            if node is None and not quiet:
                self._blame(ref, source, why)
            out.append(node)
        return out

    def _blame(self, ref: NodeRef, source: str, why: str) -> None:
        assert ref.pack is not None
        kind = self._state[ref.pack]
        if kind:
            self._findings.add(ref.key, kind, f"a tree node cannot be read: {why}; {_RESTORE}", node=place_of(ref))
            return
        where = f"{ref.key} at offset {ref.offset:,}"
        what = f"it says that tree node {ref.id.hex()} lies in {where}, which is whole and has no such node ({why})"
        self._findings.add(source, "mismatch", f"{what}; whoever wrote it has a fault", node=place_of(ref))

    def _parts(self, refs: Sequence[NodeRef]) -> list[Buffer | None]:
        parts: list[Buffer | None] = [None] * len(refs)
        alone: list[int] = []
        for i, ref in enumerate(refs):
            assert ref.pack is not None
            data = self._kept.get(ref.pack)
            if data is not None:
                self._kept.move_to_end(ref.pack)
                if ref.offset + ref.length <= len(data):
                    parts[i] = memoryview(data)[ref.offset : ref.offset + ref.length]
            elif self._state[ref.pack] != "missing" and ref.offset < _MAX_OFFSET and ref.length <= MAX_NODE_BYTES:
                alone.append(i)
        for i, part in zip(alone, map_io(lambda i: self._range(refs[i]), alone), strict=True):
            parts[i] = part
        return parts

    def _range(self, ref: NodeRef) -> Buffer | None:
        try:
            data = self._store.get_ranges([ByteRange(ref.key, ref.offset, ref.length)])[0]
        except (ObjectNotFoundError, ObjectTruncatedError):
            return None
        self._findings.read("trees", len(data), objects=0)
        return data


def _ends_early(data: bytes) -> bool:
    """Tell whether a tree pack looks cut short: nodes follow one another, and the last one does not end."""
    at = len(_MAGIC)
    if len(data) < at:
        return True
    view = memoryview(data)
    while at < len(data):
        if len(data) - at < 32:
            return True
        try:
            at += node_length(view[at : at + 32])
        except CorruptionError:
            return False
    return at > len(data)
