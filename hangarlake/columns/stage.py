"""What a writer has changed in one column: staged values, their chunks, and the working tree they are folded into.

Every value that is staged gets an *ordinal*. Columns of numbers, indexed by ordinal, say where it lies; a dict says which ordinal
each key has. Equal values share an ordinal, so they are stored once. A fold turns keys and ordinals into edits of the
working tree; it happens when the overlay has grown, and before anything that needs the tree.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hangarlake.chunks.codecs import encode_chunk
from hangarlake.chunks.digests import blake3_160, digest_rows
from hangarlake.chunks.encodings import Encoding
from hangarlake.chunks.uploader import ChunkUploader
from hangarlake.columns.layout import ColumnLayout
from hangarlake.columns.lookup import HotLeaf, Place
from hangarlake.columns.samples import Sample, check_block, check_sample, digest_of
from hangarlake.errors import SchemaError
from hangarlake.records.catalog import ColumnSchema
from hangarlake.records.entries import PENDING, ChunkTable, Entries
from hangarlake.records.keys import STR_TAG, KeyArray, as_key_array, decode_ints, decode_key, encode_key, encode_keys
from hangarlake.records.node import NodeRef
from hangarlake.records.nodes import StagedNodes
from hangarlake.records.tree import apply_edits, find, iter_leaves, last_key
from hangarlake.storage.executors import cpu_pool

__all__ = ["ColumnStage"]

REMOVED = -1
# An overlay is folded into the working tree at this many keys.
_FOLD_AT = 1 << 18
# Chunks whose encoding may be under way at once.
_ENCODING_AHEAD = 64
# Values are looked for among the last million that were staged, and in trees of up to so many entries (see docs/design).
_DEDUPE_STAGED = 1 << 20
_DEDUPE_TREE = 200_000
_SLICE_BYTES = 8 << 20


@dataclass(slots=True)
class _Row:
    """One row of the chunk table to be: a chunk of this session, or one that lies in the bucket already."""

    digest: bytes = b""
    pack: int = PENDING
    pack_id: bytes | None = None
    offset: int = 0
    length: int = 0
    items: int = 0
    encoding: str = ""


class _Overlay:
    """Staged keys and values since the last fold."""

    def __init__(self, rank: int) -> None:
        self.index: dict[bytes, int] = {}
        self.by_digest: dict[bytes, int] = {}
        self.count = 0
        self.digests = np.empty((64, 20), np.uint8)
        self.shapes = np.empty((64, rank), np.uint64)
        self.row = np.empty(64, np.int64)  # −1: in the open chunk
        self.place = np.empty(64, np.uint64)
        self.rows: list[_Row] = []
        self.row_of: dict[bytes, int] = {}  # rows of chunks that were there before, by digest

    def reserve(self, n: int) -> int:
        """Make room for n more ordinals; return the first."""
        start = self.count
        self.count += n
        if self.count > len(self.row):
            size = max(self.count, 2 * len(self.row))
            for name in ("digests", "shapes", "row", "place"):
                old = getattr(self, name)
                grown = np.empty((size, *old.shape[1:]), old.dtype)
                grown[:start] = old[:start]
                setattr(self, name, grown)
        return start

    def table(self, rows: Sequence[_Row]) -> ChunkTable:
        packs: dict[bytes, int] = {}
        encodings: dict[str, int] = {}
        codes = [row.pack if row.pack_id is None else packs.setdefault(row.pack_id, len(packs)) for row in rows]
        kinds = [encodings.setdefault(row.encoding, len(encodings)) for row in rows]
        return ChunkTable(
            np.frombuffer(b"".join(row.digest for row in rows), np.uint8).reshape(-1, 20),
            np.array(codes, np.int32),
            np.array([row.offset for row in rows], np.uint64),
            np.array([row.length for row in rows], np.uint64),
            np.array([row.items for row in rows], np.uint64),
            np.array(kinds, np.uint8),
            tuple(packs),
            tuple(encodings),
        )


@dataclass(slots=True)
class _OpenBlock:
    """Samples of the open chunk: one array of shape (k, *sample shape), or one run of elements."""

    ordinals: npt.NDArray[np.int64]
    elements: npt.NDArray[Any]


class ColumnStage:
    """The staged state of one column. Not thread-safe: the write checkout holds a lock around it.

    Parameters
    ----------
    name : str
        For messages; follows renames.
    schema : ColumnSchema
    encoding : mapping
        The column's preferred encoding, as a person gave it.
    root : NodeRef or None
        The working tree.
    folded : callable
        Called after each fold.
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
        self.name = name
        self.schema = schema
        self.layout = layout
        self.root = root
        self._nodes = nodes
        self._uploader = uploader
        self._folded = folded
        self._overlay = _Overlay(schema.rank)
        self._open: list[_OpenBlock] = []
        self._open_elements = 0
        self._encoding: deque[tuple[int, Future[bytes], int, Encoding]] = deque()
        self._windows: list[Entries] | None = None
        self._next_int: int | None = None
        self._resolved: dict[bytes, bool] = {}
        self._delta = 0
        self._undo: dict[bytes, int | None] | None = None
        self._kept_root: NodeRef | None = None

    # ---- looking at what is staged ----------------------------------------------------------------------------------

    @property
    def dirty(self) -> bool:
        """Whether something is staged that is not in the working tree yet."""
        return bool(self._overlay.index)

    @property
    def roots(self) -> list[NodeRef]:
        """The trees that must stay: the working tree, and the one that a failing `extend` goes back to."""
        return [root for root in (self.root, self._kept_root) if root is not None]

    def lookup(self, key: bytes) -> int | None:
        """Return the ordinal of a staged key, REMOVED, or ``None`` if the working tree decides."""
        return self._overlay.index.get(key)

    def open_value(self, ordinal: int) -> Sample | None:
        """Return the elements of a value that is still in the open chunk (without its chunk)."""
        if self._overlay.row[ordinal] >= 0:
            return None
        for block in self._open:
            at = np.flatnonzero(block.ordinals == ordinal)
            if len(at):
                if self.layout.rows_per_chunk:
                    return np.asarray(block.elements[int(at[0])])
                return block.elements.reshape(self.shape(ordinal))
        return None

    def shape(self, ordinal: int) -> tuple[int, ...]:
        return tuple(self._overlay.shapes[ordinal].tolist())

    def digest(self, ordinal: int) -> bytes:
        return bytes(self._overlay.digests[ordinal])

    def staged_entries(self, ordinals: npt.NDArray[np.int64]) -> Entries:
        """Return entries (with empty keys) of staged values, whose chunks are closed for that."""
        self.close_chunk()
        self._drain()
        overlay = self._overlay
        keys = np.empty(len(ordinals), "S1")
        return Entries(
            keys,
            overlay.digests[ordinals],
            overlay.shapes[ordinals],
            overlay.row[ordinals].astype(np.uint32),
            overlay.place[ordinals],
            overlay.table(overlay.rows),
        ).compact()

    def place(self, key: bytes, ordinal: int) -> Place:
        """Return where a staged value lies; its chunk is closed for that."""
        return self.places([(key, ordinal)])[key]

    def places(self, staged: Sequence[tuple[bytes, int]]) -> dict[bytes, Place]:
        """Return where staged values lie, by key."""
        if not staged:
            return {}
        entries = self.staged_entries(np.array([ordinal for _, ordinal in staged]))
        leaf = HotLeaf(replace(entries, keys=np.array([key for key, _ in staged])))
        return {key: Place(leaf, i) for i, (key, _) in enumerate(staged)}

    def contains(self, key: bytes) -> bool:
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
        if self._resolved and key in self._resolved:
            self._delta += (ordinal != REMOVED) - (self._overlay.index[key] != REMOVED)
        if self._undo is not None:
            self._undo.setdefault(key, self._overlay.index.get(key))
        self._overlay.index[key] = ordinal

    def set(self, key: object, value: Any) -> None:
        """Stage one sample.

        Raises
        ------
        SchemaError
            If key or value do not fit; nothing is staged.
        """
        encoded = encode_key(key)
        sample = check_sample(self.name, self.schema, key, value)
        digest = digest_of(self.schema, sample)
        self._see_int(encoded)
        self._assign(encoded, self._ordinal_of(digest, sample))
        self._fold_if_large()

    def remove(self, key: bytes) -> None:
        """Stage the removal of a key that exists."""
        self._assign(key, REMOVED)
        self._fold_if_large()

    def next_int(self) -> int:
        """Return 1 + the greatest integer key, or 0."""
        if self._next_int is None:
            last = last_key(self.root, self._nodes, before=STR_TAG)
            self._next_int = 0 if last is None else int(decode_ints(as_key_array([last]))[0]) + 1
            for key in self._overlay.index:
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
        window = self._find_equal(digest)
        if window is not None:
            self._refer(ordinal, *window)
        elif self.layout.is_grid(sample):
            self._add_grid(ordinal, sample)
        elif self.layout.rows_per_chunk:
            self._open_samples(np.array([ordinal]), sample[None].copy())
        else:
            self._open_run(ordinal, sample)
        return ordinal

    def extend(self, keys: Iterable[object], values: Iterable[Any]) -> None:
        """Stage many samples, or none of them if one does not fit. Later values win where keys repeat.

        Raises
        ------
        SchemaError
            If a key or value does not fit, or there are not as many of the one as of the other.
        """
        overlay, root = self._overlay, self.root
        self._kept_root = root
        counted = self._delta, self._next_int
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
                self._open, self._open_elements = [], 0
                self._encoding.clear()
                self._resolved, counted = {}, (0, counted[1])
            for key, before in undo.items():
                if before is None:
                    del overlay.index[key]
                else:
                    overlay.index[key] = before
            self._delta, self._next_int = counted
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
                encoded = encode_key(key)
                self._see_int(encoded)
                self._assign(encoded, self._ordinal_of(digest_of(self.schema, sample), sample))
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
        check_block(self.name, self.schema, values[:0])
        if not self.layout.rows_per_chunk:
            self._extend_each(listed, values)
            return
        step = max(1, _SLICE_BYTES // max(1, values[:1].nbytes))
        step = min(max(step - step % self.layout.rows_per_chunk, self.layout.rows_per_chunk), 1 << 17)
        for start in range(0, len(values), step):
            part = values[start : start + step]
            self._extend_block(listed[start : start + step], check_block(self.name, self.schema, part))

    def _extend_block(self, keys: Sequence[object] | npt.NDArray[Any], block: npt.NDArray[Any]) -> None:
        """Stage a block of checked samples of the column's fixed shape, shape (n, *sample shape)."""
        encoded = encode_keys(keys)
        if self.layout.is_grid(block[0]):
            for key, sample in zip(encoded.tolist(), block, strict=True):
                self._see_int(key)
                self._assign(key, self._ordinal_of(digest_of(self.schema, sample), sample))
            self._fold_if_large()
            return
        digests = digest_rows(block)
        overlay = self._overlay
        n = len(block)
        start = overlay.count
        by_digest = overlay.by_digest
        listed = digests.reshape(-1).view("V20").tolist()
        ordinals = [by_digest.setdefault(digest, ordinal) for ordinal, digest in enumerate(listed, start)]
        fresh = np.array(ordinals, np.int64)
        is_new = fresh == np.arange(start, start + n)
        overlay.reserve(n)
        overlay.digests[start : start + n] = digests
        overlay.row[start : start + n] = -1
        self._refer_many(start, digests, is_new)
        if is_new.all():
            self._open_samples(np.arange(start, start + n), block)
        elif is_new.any():
            self._open_samples(np.flatnonzero(is_new) + start, block[is_new])
        self._drain()
        if self._open and self._open[-1].elements.base is not None:
            # What stays open must not follow the caller's array.
            self._open[-1].elements = self._open[-1].elements.copy()
        listed_keys = encoded.tolist()
        if self._resolved:
            for key, ordinal in zip(listed_keys, ordinals, strict=True):
                self._assign(key, ordinal)
        else:
            if self._undo is not None:
                before = overlay.index.get
                for key in listed_keys:
                    self._undo.setdefault(key, before(key))
            overlay.index.update(zip(listed_keys, ordinals, strict=True))
        if self._next_int is not None:
            integers = encoded[encoded < STR_TAG]
            if len(integers):
                self._see_int(bytes(integers.max()))
        self._fold_if_large()

    # ---- equal values -----------------------------------------------------------------------------------------------

    def _dedupe_windows(self) -> list[Entries]:
        """Return runs of known values, each sorted by digest."""
        if self._windows is None:
            self._windows = []
            if self.root is not None and self.root.count <= _DEDUPE_TREE:
                leaves = [leaf.entries for leaf in iter_leaves(self.root, self._nodes)]
                self._windows.append(_by_digest(Entries.concat(leaves).compact(dedupe=True)))
        return self._windows

    def _find_equal(self, digest: bytes) -> tuple[Entries, int] | None:
        for window in self._dedupe_windows():
            ordered = _prefixes(window)
            prefix = np.frombuffer(digest, np.uint64, 1)[0]
            at = int(np.searchsorted(ordered, prefix))
            while at < len(ordered) and ordered[at] == prefix:
                if window.digests[at].tobytes() == digest:
                    return window, at
                at += 1
        return None

    def _refer_many(self, start: int, digests: npt.NDArray[np.uint8], is_new: npt.NDArray[np.bool_]) -> None:
        """Point new ordinals at equal values that are known from before; clears them in `is_new`."""
        for window in self._dedupe_windows():
            wanted = np.flatnonzero(is_new)
            if not len(wanted):
                return
            ordered = _prefixes(window)
            prefixes = np.ascontiguousarray(digests[wanted, :8]).view(np.uint64).reshape(-1)
            at = np.minimum(np.searchsorted(ordered, prefixes), len(ordered) - 1)
            for i in np.flatnonzero(ordered[at] == prefixes).tolist():
                found = self._find_equal(digests[wanted[i]].tobytes())
                if found is not None:
                    self._refer(start + int(wanted[i]), *found)
                    is_new[wanted[i]] = False

    def _refer(self, ordinal: int, window: Entries, at: int) -> None:
        overlay = self._overlay
        first, table = int(window.rows[at]), window.table
        span = int(window.take(slice(at, at + 1)).spans()[0])
        digest = table.digests[first].tobytes()
        row = overlay.row_of.get(digest) if span == 1 else None
        if row is None:
            row = len(overlay.rows)
            if span == 1:
                overlay.row_of[digest] = row
            for i in range(first, first + span):
                code = int(table.packs[i])
                overlay.rows.append(
                    _Row(
                        table.digests[i].tobytes(),
                        code if code < 0 else 0,
                        table.pack_ids[code] if code >= 0 else None,
                        int(table.offsets[i]),
                        int(table.lengths[i]),
                        int(table.items[i]),
                        table.encodings[int(table.encoding[i])],
                    )
                )
        overlay.row[ordinal] = row
        overlay.place[ordinal] = window.index[at]

    # ---- chunks -----------------------------------------------------------------------------------------------------

    def _open_samples(self, ordinals: npt.NDArray[np.int64], block: npt.NDArray[Any]) -> None:
        """Lay samples of one shape into the open chunk, and close every chunk that fills."""
        self._overlay.row[ordinals] = -1
        per_chunk = self.layout.rows_per_chunk
        at = 0
        while at < len(block):
            take = min(per_chunk - self._open_elements, len(block) - at)
            self._open.append(_OpenBlock(ordinals[at : at + take], block[at : at + take]))
            self._open_elements += take
            at += take
            if self._open_elements == per_chunk:
                self.close_chunk()

    def _open_run(self, ordinal: int, sample: Sample) -> None:
        """Lay one sample of varying shape into the open run, and close it when it is large enough."""
        overlay = self._overlay
        overlay.row[ordinal] = -1
        if sample.nbytes >= self.layout.chunk_bytes:
            self._close([_OpenBlock(np.array([ordinal]), sample.reshape(-1))])  # a chunk of its own
            self._drain()  # the caller's memory is not looked at after this
            return
        self._open.append(_OpenBlock(np.array([ordinal]), sample.reshape(-1).copy()))
        self._open_elements += sample.size
        full = self._open_elements * self.schema.np_dtype.itemsize >= self.layout.chunk_bytes
        if full or len(self._open) >= self.layout.max_items:
            self.close_chunk()

    def close_chunk(self) -> None:
        """Close the open chunk, if there is one."""
        if self._open:
            blocks, self._open, self._open_elements = self._open, [], 0
            self._close(blocks)

    def _close(self, blocks: list[_OpenBlock]) -> None:
        overlay = self._overlay
        row = len(overlay.rows)
        overlay.rows.append(_Row())
        ordinals = np.concatenate([b.ordinals for b in blocks]) if len(blocks) > 1 else blocks[0].ordinals
        overlay.row[ordinals] = row
        if self.layout.rows_per_chunk:
            overlay.place[ordinals] = np.arange(len(ordinals), dtype=np.uint64)
        else:
            sizes = np.array([b.elements.size for b in blocks], np.uint64)
            overlay.place[ordinals] = np.cumsum(sizes) - sizes
        array = np.concatenate([b.elements for b in blocks]) if len(blocks) > 1 else blocks[0].elements
        self._encode(row, array, len(array), self.layout.shared)

    def _add_grid(self, ordinal: int, sample: Sample) -> None:
        """Cut a large sample on its chunk grid, one row of the chunk table per chunk."""
        overlay = self._overlay
        encoding, pieces = self.layout.cut(sample)
        overlay.row[ordinal] = len(overlay.rows)
        overlay.place[ordinal] = len(pieces)
        for piece in pieces:
            overlay.rows.append(_Row())
            self._encode(len(overlay.rows) - 1, sample[piece], sample[piece].size, encoding)
        self._drain()

    def _encode(self, row: int, array: npt.NDArray[Any], items: int, encoding: Encoding) -> None:
        self._encoding.append((row, cpu_pool().submit(encode_chunk, array, encoding), items, encoding))
        while len(self._encoding) > _ENCODING_AHEAD:
            self._take_encoded()

    def _take_encoded(self) -> None:
        row, future, items, encoding = self._encoding.popleft()
        data = future.result()
        digest = blake3_160(data)
        # First the row: if an earlier upload fails now, this chunk has been taken all the same.
        self._overlay.rows[row] = _Row(digest, length=len(data), items=items, encoding=encoding.to_json())
        self._uploader.add(digest, data, items, encoding)

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
        self.close_chunk()
        self._drain()
        n = len(overlay.index)
        keys = as_key_array(list(overlay.index))
        ordinals = np.fromiter(overlay.index.values(), np.int64, n)
        order = np.argsort(keys, kind="stable")
        keys, ordinals = keys[order], ordinals[order]
        live = ordinals != REMOVED
        upserts = self._entries(keys[live], ordinals[live])
        self._remember(upserts)
        self.root = apply_edits(self.root, upserts, keys[~live], self._nodes, self._nodes)
        self._overlay = _Overlay(self.schema.rank)
        self._resolved, self._delta = {}, 0
        self._folded()
        return self.root

    def _entries(self, keys: KeyArray, ordinals: npt.NDArray[np.int64]) -> Entries:
        overlay = self._overlay
        if not len(keys):
            return Entries.empty(self.schema.rank)
        return Entries(
            keys,
            overlay.digests[ordinals],
            overlay.shapes[ordinals],
            overlay.row[ordinals].astype(np.uint32),
            overlay.place[ordinals],
            overlay.table(overlay.rows),
        )

    def _remember(self, entries: Entries) -> None:
        windows = self._dedupe_windows()
        if len(entries):
            windows.append(_by_digest(entries.compact()))
        if len(windows) > 16:
            windows[:] = [_by_digest(Entries.concat(windows).compact(dedupe=True))]
        while sum(map(len, windows)) > _DEDUPE_STAGED and len(windows) > 1:
            windows.pop(0)

    def rebase(self, root: NodeRef | None) -> None:
        """Go on from another tree (after a commit, a merge or a replay). Nothing may be staged in the overlay."""
        self.root = root
        self._next_int = None
        self._resolved, self._delta = {}, 0


_END = object()


def _prefixes(window: Entries) -> npt.NDArray[np.uint64]:
    # Windows keep their digest prefixes as keys: the first 8 bytes, ordered as native numbers.
    return window.keys.view(np.uint64)


def _by_digest(entries: Entries) -> Entries:
    """Sort entries by the first 8 bytes of their digests, which take the place of the keys."""
    prefixes = np.ascontiguousarray(entries.digests[:, :8]).view(np.uint64).reshape(-1)
    order = np.argsort(prefixes, kind="stable")
    return replace(entries.take(order), keys=prefixes[order].view("S8"))
