"""What a writer has changed in one column: an overlay of staged values, and the working tree it is folded into.

A fold turns the overlay into edits of the working tree; it happens when the overlay has grown, and before anything that needs the
tree as a whole. Chunks are encoded on other threads while samples come in, and uploaded as packs fill.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import numpy.typing as npt

from hangarlake.chunks.codecs import encode_chunk
from hangarlake.chunks.digests import blake3_160, digest_rows
from hangarlake.chunks.encodings import Encoding
from hangarlake.chunks.packs import SOLO_BYTES, solo_bytes
from hangarlake.chunks.uploader import ChunkUploader
from hangarlake.columns.known import KnownValues
from hangarlake.columns.layout import ColumnLayout
from hangarlake.columns.lookup import HotLeaf, Place
from hangarlake.columns.openchunk import ClosedChunk, OpenChunk
from hangarlake.columns.overlay import REMOVED, ChunkRow, Overlay
from hangarlake.columns.samples import Sample, check_block, check_block_kind, check_sample, digest_of
from hangarlake.errors import SchemaError
from hangarlake.records.catalog import CatalogNode, ColumnNode, ColumnSchema
from hangarlake.records.entries import Entries
from hangarlake.records.keys import STR_TAG, as_key_array, decode_ints, decode_key, encode_key, encode_keys
from hangarlake.records.node import NodeRef
from hangarlake.records.nodes import StagedNodes
from hangarlake.records.tree import apply_edits, find, iter_leaves, last_key
from hangarlake.storage.executors import cpu_pool
from hangarlake.working_tree import WorkingTree

__all__ = ["REMOVED", "ColumnStage"]

# An overlay is folded into the working tree at this many keys.
_FOLD_AT = 1 << 17
# Chunks whose encoding may be under way at once.
_ENCODING_AHEAD = 64
# Equal values are looked for in trees of up to so many entries.
_DEDUPE_TREE = 200_000
# Samples that are checked, hashed and laid into chunks together.
_SLICE_BYTES = 8 << 20


class ColumnStage(WorkingTree):
    """The staged state of one column.

    Parameters
    ----------
    name : str
    schema : ColumnSchema
    layout : ColumnLayout
        How new chunks are laid out.
    root, nodes, uploader, folded
        As :class:`WorkingTree` takes them.
    """

    def __init__(
        self,
        name: str,
        schema: ColumnSchema,
        layout: ColumnLayout,
        root: NodeRef | None,
        nodes: StagedNodes,
        uploader: ChunkUploader,
        folded: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(name, root, nodes, uploader, folded)
        self.schema = schema
        self.layout = layout
        self._overlay = Overlay(schema.rank)
        self._open = OpenChunk(layout)
        self._encoding: deque[tuple[int, Future[bytes], int, Encoding, int]] = deque()
        self._known_values: KnownValues | None = None
        self._next_int: int | None = None
        # For len(): which staged keys the tree has, and how many keys more there are than in the tree.
        self._resolved: dict[bytes, bool] = {}
        self._delta = 0
        # While `extend` runs: what its keys were before, and the tree to go back to.
        self._undo: dict[bytes, int | None] | None = None
        self._kept_root: NodeRef | None = None

    # ---- looking at what is staged ----------------------------------------------------------------------------------

    @property
    def roots(self) -> list[NodeRef]:
        """The trees that must stay: the working tree, and the one that a failing `extend` goes back to."""
        return [root for root in (self.root, self._kept_root) if root is not None]

    def lookup(self, key: bytes) -> int | None:
        """Return the ordinal of a staged key, REMOVED, or ``None`` if the working tree decides."""
        return self._overlay.index.get(key)

    def open_value(self, ordinal: int) -> Sample | None:
        """Return the elements of a value that is still in the open chunk."""
        if self._overlay.row[ordinal] >= 0:
            return None
        sample = self._open.find(ordinal)
        return sample.reshape(self.shape(ordinal)) if sample is not None and self.schema.variable_shape else sample

    def shape(self, ordinal: int) -> tuple[int, ...]:
        """Return the shape of a staged value (variable shapes)."""
        return tuple(self._overlay.shapes[ordinal].tolist())

    def digest(self, ordinal: int) -> bytes:
        """Return the value digest of a staged value."""
        return bytes(self._overlay.digests[ordinal])

    def place(self, key: bytes, ordinal: int) -> Place:
        """Return where a staged value lies; its chunk is closed for that."""
        return self.places([(key, ordinal)])[key]

    def places(self, staged: Sequence[tuple[bytes, int]]) -> dict[bytes, Place]:
        """Return where staged values lie, by key; their chunks are closed for that."""
        if not staged:
            return {}
        self._close_open()
        ordinals = np.array([ordinal for _, ordinal in staged])
        entries = self._overlay.entries(np.array([key for key, _ in staged]), ordinals).compact()
        leaf = HotLeaf(entries)
        return {key: Place(leaf, i) for i, (key, _) in enumerate(staged)}

    def contains(self, key: bytes) -> bool:
        """Tell whether a key is there, staged or in the tree."""
        staged = self._overlay.index.get(key)
        if staged is not None:
            return staged != REMOVED
        return bool(find(self.root, as_key_array([key]), self._nodes).present[0])

    def __len__(self) -> int:
        index = self._overlay.index
        fresh = len(index) - len(self._resolved)
        if fresh:
            # A dict keeps its order, so the keys not looked at yet are the last ones.
            keys = sorted(key for key, _ in zip(reversed(index), range(fresh), strict=False))
            present = find(self.root, as_key_array(keys), self._nodes).present.tolist()
            for key, exists in zip(keys, present, strict=True):
                self._resolved[key] = exists
                self._delta += (index[key] != REMOVED) - exists
        return (self.root.count if self.root else 0) + self._delta

    # ---- changing ---------------------------------------------------------------------------------------------------

    def _assign(self, key: bytes, ordinal: int) -> None:
        index = self._overlay.index
        if self._resolved and key in self._resolved:
            self._delta += (ordinal != REMOVED) - (index[key] != REMOVED)
        if self._undo is not None:
            self._undo.setdefault(key, index.get(key))
        index[key] = ordinal
        if self._next_int is not None and ordinal != REMOVED:
            self._see_int(key)

    def set(self, key: object, encoded: bytes, value: Any) -> None:
        """Stage one sample; `encoded` are the key's bytes.

        Raises
        ------
        SchemaError
            If the value does not fit; nothing is staged.
        """
        sample = check_sample(self.name, self.schema, key, value)
        self._assign(encoded, self._ordinal_of(digest_of(self.schema, sample), sample))
        self._fold_if_large()

    def remove(self, key: bytes) -> None:
        """Stage the removal of a key that exists."""
        self._assign(key, REMOVED)
        self._fold_if_large()

    def next_int(self) -> int:
        """Return 1 + the greatest integer key, or 0 if none is greater than −1."""
        if self._next_int is None:
            last = last_key(self.root, self._nodes, before=STR_TAG)
            self._next_int = 0 if last is None else max(0, int(decode_ints(as_key_array([last]))[0]) + 1)
            for key, ordinal in self._overlay.index.items():
                if ordinal != REMOVED:
                    self._see_int(key)
        return self._next_int

    def _see_int(self, key: bytes) -> None:
        if self._next_int is not None and key < STR_TAG:
            number = decode_key(key)
            if isinstance(number, int) and number >= self._next_int:
                self._next_int = number + 1

    def _ordinal_of(self, digest: bytes, sample: Sample) -> int:
        """Return the ordinal of a value: of an equal one where there is one, else a new one."""
        overlay = self._overlay
        known = overlay.by_digest.get(digest)
        if known is not None:
            return known
        ordinal = overlay.reserve(1)
        overlay.by_digest[digest] = ordinal
        overlay.digests[ordinal] = np.frombuffer(digest, np.uint8)
        if self.schema.variable_shape:
            overlay.shapes[ordinal] = sample.shape
        try:
            self._lay(ordinal, digest, sample)
        except BaseException:
            del overlay.by_digest[digest]  # whatever was laid of it, nobody may refer to it
            raise
        return ordinal

    def _lay(self, ordinal: int, digest: bytes, sample: Sample) -> None:
        """Find a place for a new value."""
        stored = self._known().find(digest)
        if stored is not None:
            self._overlay.refer(ordinal, *stored)
        elif self.layout.is_grid(sample):
            self._add_grid(ordinal, sample)
        elif self.layout.rows_per_chunk:
            self._close(self._open.add_row(ordinal, sample))
        elif sample.nbytes >= self.layout.chunk_bytes:
            run = ClosedChunk(sample.reshape(-1), np.array([ordinal]), np.zeros(1, np.uint64))
            self._close(run)  # a chunk of its own
            self._drain()  # the caller's memory is not looked at after this
        else:
            self._close(self._open.add_run(ordinal, sample))

    def _known(self) -> KnownValues:
        if self._known_values is None:
            known: Iterable[Entries] = ()
            if self.root is not None and self.root.count <= _DEDUPE_TREE:
                known = (leaf.entries for leaf in iter_leaves(self.root, self._nodes))
            self._known_values = KnownValues(known)
        return self._known_values

    def extend(self, keys: Iterable[object], values: Iterable[Any]) -> None:
        """Stage many samples, or none of them if one does not fit. Later values win where keys repeat.

        Raises
        ------
        SchemaError
            If a key or value does not fit, or there are not as many of the one as of the other.
        """
        overlay, root, first = self._overlay, self.root, self._overlay.count
        self._kept_root = root
        next_int = self._next_int
        undo = self._undo = {}
        try:
            if isinstance(values, np.ndarray) and self.schema.kind == "ndarray" and values.ndim:
                self._extend_array(keys, values)
            else:
                self._extend_each(keys, values)
        except BaseException:
            if self._overlay is not overlay:
                # It was folded meanwhile: go back to the tree and the overlay of before.
                self._overlay, self.root = overlay, root
                self._open.clear()
                self._encoding.clear()
            for key, before in undo.items():
                if before is None:
                    del overlay.index[key]
                else:
                    overlay.index[key] = before
            # Values of this call may not have been laid into chunks: no later value may share their place.
            overlay.by_digest = {d: ordinal for d, ordinal in overlay.by_digest.items() if ordinal < first}
            self._resolved, self._delta, self._next_int = {}, 0, next_int
            raise
        finally:
            self._undo = self._kept_root = None

    def _extend_each(self, keys: Iterable[object], values: Iterable[Any]) -> None:
        pending: list[tuple[object, Sample]] = []
        size = 0
        values_left = iter(values)
        for key in keys:
            try:
                value = next(values_left)
            except StopIteration:
                raise SchemaError(
                    f"column {self.name!r}: there are more keys than values; nothing was staged"
                ) from None
            sample = check_sample(self.name, self.schema, key, value)
            if self.layout.rows_per_chunk:
                # Samples of one shape are staged block by block, which is several times faster.
                pending.append((key, sample))
                size += max(sample.nbytes, 64)
                if size >= _SLICE_BYTES:
                    self._extend_block([k for k, _ in pending], np.stack([s for _, s in pending]))
                    pending, size = [], 0
            else:
                self._assign(encode_key(key), self._ordinal_of(digest_of(self.schema, sample), sample))
                self._fold_if_large()
        if next(values_left, _END) is not _END:
            raise SchemaError(f"column {self.name!r}: there are more values than keys; nothing was staged")
        if pending:
            self._extend_block([k for k, _ in pending], np.stack([s for _, s in pending]))

    def _extend_array(self, keys: Iterable[object], values: npt.NDArray[Any]) -> None:
        listed = keys if isinstance(keys, range | np.ndarray | list | tuple) else list(keys)
        if len(listed) != len(values):
            raise SchemaError(
                f"column {self.name!r}: {len(listed)} keys and {len(values)} values; there must be as many of both"
            )
        if not len(values):
            return
        check_block_kind(self.name, self.schema, listed[0], values)
        if not self.layout.rows_per_chunk:
            self._extend_each(listed, values)
            return
        step = max(1, _SLICE_BYTES // max(1, values[:1].nbytes))
        step = min(max(step - step % self.layout.rows_per_chunk, self.layout.rows_per_chunk), 1 << 17)
        for start in range(0, len(values), step):
            part = values[start : start + step]
            self._extend_block(listed[start : start + step], check_block(self.name, self.schema, listed[start], part))

    def _extend_block(self, keys: Sequence[object] | npt.NDArray[Any], block: npt.NDArray[Any]) -> None:
        """Stage a block of checked samples of the column's fixed shape, shape (n, *sample shape)."""
        encoded: list[bytes] = encode_keys(keys).tolist()
        if self.layout.is_grid(block[0]):
            for key, sample in zip(encoded, block, strict=True):
                self._assign(key, self._ordinal_of(digest_of(self.schema, sample), sample))
            self._fold_if_large()
            return
        known = self._known()
        digests = digest_rows(block)
        overlay = self._overlay
        n = len(block)
        start = overlay.count
        by_digest = overlay.by_digest
        listed = digests.reshape(-1).view("V20").tolist()
        ordinals = [by_digest.setdefault(digest, ordinal) for ordinal, digest in enumerate(listed, start)]
        is_new = np.array(ordinals, np.int64) == np.arange(start, start + n)
        overlay.reserve(n)
        overlay.digests[start : start + n] = digests
        for i in known.candidates(digests).tolist():
            stored = known.find(listed[i]) if is_new[i] else None
            if stored is not None:
                overlay.refer(start + i, *stored)
                is_new[i] = False
        if is_new.all():
            self._lay_rows(np.arange(start, start + n), block)
        elif is_new.any():
            self._lay_rows(np.flatnonzero(is_new) + start, block[is_new])
        self._drain()
        if self._resolved or self._next_int is not None:
            for key, ordinal in zip(encoded, ordinals, strict=True):
                self._assign(key, ordinal)
        else:
            if self._undo is not None:
                before = overlay.index.get
                for key in encoded:
                    self._undo.setdefault(key, before(key))
            overlay.index.update(zip(encoded, ordinals, strict=True))
        self._fold_if_large()

    # ---- chunks -----------------------------------------------------------------------------------------------------

    def _lay_rows(self, ordinals: npt.NDArray[np.int64], block: npt.NDArray[Any]) -> None:
        """Lay samples of one shape into chunks. Whole chunks are encoded from the caller's memory: drain before returning to it."""
        per_chunk = self.layout.rows_per_chunk
        at = 0
        while at < len(block):
            if not len(self._open) and len(block) - at >= per_chunk:
                part = slice(at, at + per_chunk)
                self._close(ClosedChunk(block[part], ordinals[part], np.arange(per_chunk, dtype=np.uint64)))
            else:
                part = slice(at, at + self._open.room)
                self._close(self._open.add_rows(ordinals[part], block[part]))
            at = part.stop

    def _close(self, chunk: ClosedChunk | None) -> None:
        """Give a chunk its row in the table, and have it encoded."""
        if chunk is None:
            return
        overlay = self._overlay
        overlay.row[chunk.ordinals] = len(overlay.rows)
        overlay.place[chunk.ordinals] = chunk.places
        overlay.rows.append(ChunkRow())
        self._encode(len(overlay.rows) - 1, chunk.array, len(chunk.array), self.layout.shared)

    def _close_open(self) -> None:
        """Close the open chunk, and wait until all chunks are encoded."""
        self._drain()
        self._close(self._open.close())
        self._drain()

    def _add_grid(self, ordinal: int, sample: Sample) -> None:
        """Cut a large sample on its chunk grid, one row of the chunk table per chunk."""
        overlay = self._overlay
        encoding, pieces = self.layout.cut(sample)
        overlay.row[ordinal] = len(overlay.rows)
        overlay.place[ordinal] = len(pieces)
        solo = solo_bytes(len(pieces))
        for piece in pieces:
            overlay.rows.append(ChunkRow())
            self._encode(len(overlay.rows) - 1, sample[piece], sample[piece].size, encoding, solo)
        self._drain()

    def _encode(
        self, row: int, array: npt.NDArray[Any], items: int, encoding: Encoding, solo: int = SOLO_BYTES
    ) -> None:
        self._encoding.append((row, cpu_pool().submit(encode_chunk, array, encoding), items, encoding, solo))
        while len(self._encoding) > _ENCODING_AHEAD:
            self._take_encoded()

    def _take_encoded(self) -> None:
        # It leaves the queue last: whoever is interrupted here, or met by the failure of an earlier upload, takes it up again.
        row, future, items, encoding, solo = self._encoding[0]
        data = future.result()
        digest = blake3_160(data)
        self._overlay.rows[row] = ChunkRow(digest, length=len(data), items=items, encoding=encoding.to_json())
        self._uploader.add(digest, data, items, encoding, solo_bytes=solo)
        self._encoding.popleft()

    def _drain(self) -> None:
        while self._encoding:
            self._take_encoded()

    # ---- folding ----------------------------------------------------------------------------------------------------

    def _fold_if_large(self) -> None:
        if len(self._overlay.index) >= _FOLD_AT:
            self.fold()

    def fold(self) -> NodeRef | None:
        """Apply what is staged to the working tree; return its root."""
        overlay = self._overlay
        if not overlay.index:
            return self.root
        self._close_open()
        keys = as_key_array(list(overlay.index))
        ordinals = np.fromiter(overlay.index.values(), np.int64, len(keys))
        order = np.argsort(keys, kind="stable")
        keys, ordinals = keys[order], ordinals[order]
        live = ordinals != REMOVED
        upserts = overlay.entries(keys[live], ordinals[live])
        self._known().add(upserts)
        self.root = apply_edits(self.root, upserts, keys[~live], self._nodes, self._nodes)
        self._overlay = Overlay(self.schema.rank)
        self._resolved, self._delta = {}, 0
        self._undo = None  # a failing `extend` goes back to the overlay of before as a whole
        self._folded()
        return self.root

    def matches(self, node: CatalogNode) -> bool:
        """Tell whether this can go on as the stage of a node."""
        return isinstance(node, ColumnNode) and node.schema == self.schema

    def rebase(self, root: NodeRef | None) -> None:
        """Go on from another tree (after a commit, a merge or a replay). Nothing may be staged in the overlay."""
        super().rebase(root)
        self._next_int = None
        self._resolved, self._delta = {}, 0


_END = object()
