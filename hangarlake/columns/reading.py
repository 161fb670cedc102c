"""Reading samples: from entries of a tree to values, with one planned read of the chunks for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hangarlake.chunks.codecs import decode_chunk
from hangarlake.chunks.encodings import Encoding
from hangarlake.chunks.grid import chunk_extents, chunks_touched, iter_chunks, normalize_selection, selection_shape
from hangarlake.chunks.reader import ChunkReader, ChunkRequest
from hangarlake.columns.lookup import HotLeaf, Place
from hangarlake.columns.owners import PendingChunks
from hangarlake.columns.samples import restore
from hangarlake.errors import CorruptionError, ObjectNotFoundError
from hangarlake.records.catalog import ColumnSchema
from hangarlake.records.entries import Entries
from hangarlake.records.keys import decode_key

__all__ = ["SampleReader"]

# A shared chunk that claims to decode to more than this is not believed (one sample may be of any size its schema allows).
_MAX_SHARED_BYTES = 1 << 31


class SampleReader:
    """Reads the samples of one column.

    Parameters
    ----------
    name : str
        Of the column, for messages.
    schema : ColumnSchema
    chunks : ChunkReader
    pending : PendingChunks, optional
        Where staged chunks are.
    """

    def __init__(
        self, name: str, schema: ColumnSchema, chunks: ChunkReader, pending: PendingChunks | None = None
    ) -> None:
        self.name = name
        self.schema = schema
        self.dtype = schema.np_dtype
        self._fixed = () if schema.variable_shape else tuple(n or 0 for n in schema.shape)
        self._sample_bytes = math.prod(self._fixed) * self.dtype.itemsize
        self._chunks = chunks
        self._pending = pending

    # ---- what to ask for --------------------------------------------------------------------------------------------

    def _shape_of(self, entries: Entries, i: int) -> tuple[int, ...]:
        return tuple(entries.shapes[i].tolist()) if self.schema.variable_shape else self._fixed

    def _label(self, entries: Entries, i: int) -> str:
        key = bytes(entries.keys[i])
        return f"column {self.name!r}, sample {decode_key(key)!r}" if key else f"column {self.name!r}"

    def _request(self, entries: Entries, row: int, piece: int = 0, sample_shape: tuple[int, ...] = ()) -> ChunkRequest:
        """Return the request for one row of the chunk table; `piece` and `sample_shape` matter for grids."""
        table = entries.table
        encoding = Encoding.from_json(table.encodings[int(table.encoding[row])])
        items = int(table.items[row])
        if encoding.layout == "rows":
            shape: tuple[int, ...] = (items, *self._fixed)
            if items > 1 and items * max(1, self._sample_bytes) > _MAX_SHARED_BYTES:
                raise CorruptionError(f"column {self.name!r}: a chunk claims to hold {items:,} samples")
        elif encoding.layout == "run":
            shape = (items,)
        elif encoding.layout == "grid" and encoding.chunk_shape is not None:
            shape = chunk_extents(piece, sample_shape, encoding.chunk_shape)
        else:
            raise CorruptionError(f"column {self.name!r}: a sample lies in a chunk of layout {encoding.layout!r}")
        return ChunkRequest(table.ref(row), encoding, self.dtype, shape)

    def _settled(self, request: ChunkRequest) -> ChunkRequest:
        """Return the request for where a chunk lies by now: its pack may have been sealed and uploaded since it was planned."""
        placed = self._pending.places.get(request.ref.digest) if self._pending is not None else None
        return request if placed is None else replace(request, ref=placed)

    def _in_memory(self, request: ChunkRequest) -> npt.NDArray[Any] | None:
        if self._pending is None:
            return None
        chunk = self._pending.pending(request.ref.digest)
        return None if chunk is None else decode_chunk(chunk.data, request.encoding, request.dtype, request.shape)

    def _layout(self, entries: Entries, i: int) -> Encoding:
        table = entries.table
        return Encoding.from_json(table.encodings[int(table.encoding[int(entries.rows[i])])])

    def sizes(self, entries: Entries) -> npt.NDArray[np.int64]:
        """Return the raw bytes of each sample, shape (n,)."""
        if self.schema.variable_shape:
            sizes: npt.NDArray[np.int64] = entries.shapes.prod(axis=1, dtype=np.uint64).astype(np.int64)
            return sizes * self.dtype.itemsize
        return np.full(len(entries), self._sample_bytes, np.int64)

    # ---- one --------------------------------------------------------------------------------------------------------

    def one(self, entries: Entries, i: int) -> Any:
        """Return the value of entry `i`: the shortest way for a single sample."""
        row, start = int(entries.rows[i]), int(entries.index[i])
        encoding = self._layout(entries, i)
        if encoding.layout == "grid":
            return restore(self.schema, self.region(entries, i, ...))
        shape = self._shape_of(entries, i)
        chunk = self._read_one(self._request(entries, row), self._label(entries, i))
        return restore(self.schema, self._cut(chunk, encoding.layout, start, shape, entries, i))

    def _cut(
        self, chunk: npt.NDArray[Any], layout: str, start: int, shape: tuple[int, ...], entries: Entries, i: int
    ) -> npt.NDArray[Any]:
        """Take one sample out of a shared chunk."""
        end = start + (1 if layout == "rows" else math.prod(shape))
        if end > len(chunk):
            raise CorruptionError(f"{self._label(entries, i)}: its entry points outside its chunk; run verify")
        return chunk[start, ...] if layout == "rows" else chunk[start:end].reshape(shape)

    def chunk_shape(self, entries: Entries, i: int) -> tuple[int, ...]:
        """Return the shape of the chunks that a sample is cut into (its own shape if it is not cut)."""
        encoding = self._layout(entries, i)
        return encoding.chunk_shape or self._shape_of(entries, i)

    def region(self, entries: Entries, i: int, selection: Any) -> npt.NDArray[Any]:
        """Return a part of one sample (basic selection), reading only the chunks that it touches."""
        shape = self._shape_of(entries, i)
        encoding = self._layout(entries, i)
        parts = normalize_selection(selection, shape)
        if encoding.layout != "grid" or encoding.chunk_shape is None:
            chunk = self._read_one(self._request(entries, int(entries.rows[i])), self._label(entries, i))
            whole = self._cut(chunk, encoding.layout, int(entries.index[i]), shape, entries, i)
            return np.asarray(whole[selection]).copy()
        touched = chunks_touched(shape, encoding.chunk_shape, selection)
        self._check_grid(entries, i, shape, encoding.chunk_shape)
        out = np.empty(selection_shape(parts), self.dtype)
        first = int(entries.rows[i])
        requests = [self._request(entries, first + index, index, shape) for index, _, _ in touched]

        def place(k: int, chunk: npt.NDArray[Any]) -> None:
            _, take, put = touched[k]
            out[put] = chunk[take]

        self._read(requests, place, lambda _: self._label(entries, i))
        return out

    def _check_grid(self, entries: Entries, i: int, shape: tuple[int, ...], chunk_shape: tuple[int, ...]) -> None:
        count = math.prod(-(-n // c) for n, c in zip(shape, chunk_shape, strict=True))
        if count != int(entries.index[i]) or int(entries.rows[i]) + count > len(entries.table):
            raise CorruptionError(f"{self._label(entries, i)}: its chunks are not as many as its grid has; run verify")

    # ---- places -----------------------------------------------------------------------------------------------------

    def at(self, place: Place) -> Any:
        """Return the value at a place: the shortest way for a single sample."""
        leaf, i = place
        request, key, layout = self._known_request(leaf, leaf.rows[i])
        if layout == "grid":
            return self.one(leaf.entries, i)
        memory = self._chunks.cache
        chunk = memory.get(key) if memory is not None else None
        if chunk is None:
            chunk = self._read_one(request, self._label(leaf.entries, i))
        shape = self._shape_of(leaf.entries, i)
        return restore(self.schema, self._cut(chunk, layout, leaf.index[i], shape, leaf.entries, i))

    def _known_request(self, leaf: HotLeaf, row: int) -> tuple[ChunkRequest, tuple[Any, ...], str]:
        known = leaf.requests.get(row)
        if known is None:
            table = leaf.entries.table
            layout = Encoding.from_json(table.encodings[int(table.encoding[row])]).layout
            if layout == "grid":
                ref = table.ref(row)
                return ChunkRequest(ref, Encoding.from_json(table.encodings[0]), self.dtype, ()), (), layout
            request = self._request(leaf.entries, row)
            known = leaf.requests[row] = request, request.key, layout
        return known

    def gather(self, places: Sequence[Place]) -> npt.NDArray[Any] | list[Any]:
        """Return the values at many places: stacked, shape (n, *sample shape), for fixed shapes, else a list.

        Chunks in the memory cache are used at once; the others are read together.
        """
        if self.schema.variable_shape:
            return self._gather_list(places)
        out = np.empty((len(places), *self._fixed), self.dtype)
        memory = self._chunks.cache
        missing: dict[tuple[Any, ...], tuple[ChunkRequest, list[tuple[int, int]], Place]] = {}
        for j, place in enumerate(places):
            leaf, i = place
            request, key, layout = self._known_request(leaf, leaf.rows[i])
            if layout == "grid":
                out[j] = self.region(leaf.entries, i, ...)
                continue
            waiting = missing.get(key)
            if waiting is not None:
                waiting[1].append((j, leaf.index[i]))
                continue
            chunk = memory.get(key) if memory is not None else None
            if chunk is None:
                missing[key] = (request, [(j, leaf.index[i])], place)
            elif leaf.index[i] < len(chunk):
                out[j] = chunk[leaf.index[i]]
            else:
                raise CorruptionError(f"{self._label(leaf.entries, i)}: its entry points outside its chunk; run verify")
        if missing:
            wanted = list(missing.values())

            def put(k: int, chunk: npt.NDArray[Any]) -> None:
                for j, row in wanted[k][1]:
                    out[j] = chunk[row : row + 1].reshape(self._fixed)

            self._read(
                [w[0] for w in wanted], put, lambda k: self._label(wanted[k][2].leaf.entries, wanted[k][2].position)
            )
        return out

    def _gather_list(self, places: Sequence[Place]) -> list[Any]:
        # Entries of one leaf share its chunk table, so they are read together.
        by_leaf: dict[int, tuple[Entries, list[int], list[int]]] = {}
        for j, (leaf, i) in enumerate(places):
            _, wheres, positions = by_leaf.setdefault(id(leaf), (leaf.entries, [], []))
            wheres.append(j)
            positions.append(i)
        parts = [entries.take(np.array(positions)).compact() for entries, _, positions in by_leaf.values()]
        out: list[Any] = [None] * len(places)
        if parts:
            order = [j for _, wheres, _ in by_leaf.values() for j in wheres]
            for j, value in zip(order, self.values(Entries.concat(parts)), strict=True):
                out[j] = value
        return out

    # ---- many -------------------------------------------------------------------------------------------------------

    def _read(
        self,
        requests: list[ChunkRequest],
        place: Callable[[int, npt.NDArray[Any]], None],
        describe: Callable[[int], str],
        *,
        into: Callable[[int], npt.NDArray[Any] | None] | None = None,
        cache: bool = True,
    ) -> None:
        try:
            self._read_chunks(requests, place, describe, into=into, cache=cache)
        except ObjectNotFoundError as error:
            raise _gone(error) from error

    def _read_one(self, request: ChunkRequest, label: str) -> npt.NDArray[Any]:
        chunk = self._in_memory(request)
        if chunk is not None:
            return chunk
        try:
            return self._chunks.read_one(self._settled(request), label=label)
        except ObjectNotFoundError as error:
            raise _gone(error) from error

    def _read_chunks(
        self,
        requests: list[ChunkRequest],
        place: Callable[[int, npt.NDArray[Any]], None],
        describe: Callable[[int], str],
        *,
        into: Callable[[int], npt.NDArray[Any] | None] | None,
        cache: bool,
    ) -> None:
        if self._pending is None:
            self._chunks.read(requests, place, into=into, cache=cache, describe=describe)
            return
        remote: list[int] = []
        for k, request in enumerate(requests):
            chunk = self._in_memory(request)
            if chunk is None:
                remote.append(k)
            else:
                place(k, chunk)
        self._chunks.read(
            [self._settled(requests[k]) for k in remote],
            lambda j, chunk: place(remote[j], chunk),
            cache=cache,
            describe=lambda j: describe(remote[j]),
        )

    def stacked(self, entries: Entries, *, cache: bool = True) -> npt.NDArray[Any]:
        """Return the samples of a fixed-shape column, shape (n, *sample shape), in the order of the entries."""
        n = len(entries)
        out = np.empty((n, *self._fixed), self.dtype)
        if not n:
            return out
        plan = _Plan(entries)
        requests, places = self._shared_requests(entries, plan)
        pieces = self._grid_requests(entries, plan.grids, requests)
        direct: set[int] = set()

        def describe(k: int) -> str:
            return self._describe(entries, places, pieces, k)

        def into(k: int) -> npt.NDArray[Any] | None:
            # A chunk that fills consecutive samples is decoded right where they belong.
            if k < len(places):
                where, rows = places[k]
                if (
                    isinstance(where, slice)
                    and isinstance(rows, slice)
                    and rows.stop - rows.start == requests[k].shape[0]
                ):
                    direct.add(k)
                    return out[where]
            return None

        def place(k: int, chunk: npt.NDArray[Any]) -> None:
            if k in direct:
                return
            if k < len(places):
                where, rows = places[k]
                if _reaches(rows) >= len(chunk):
                    raise CorruptionError(f"{describe(k)}: its entry points outside its chunk; run verify")
                out[where] = chunk[rows]
            else:
                i, region = pieces[k - len(places)]
                out[i][region] = chunk

        self._read(requests, place, describe, into=None if cache else into, cache=cache)
        return out

    def values(self, entries: Entries, *, cache: bool = True) -> list[Any]:
        """Return values in the order of the entries."""
        if not self.schema.variable_shape:
            return list(self.stacked(entries, cache=cache))
        out: list[Any] = [None] * len(entries)
        if not len(entries):
            return out
        plan = _Plan(entries)
        requests, places = self._shared_requests(entries, plan)
        shapes = entries.shapes.tolist()
        sizes = entries.shapes.prod(axis=1, dtype=np.uint64).tolist()
        large: dict[int, npt.NDArray[Any]] = {}
        pieces = self._grid_requests(entries, plan.grids, requests)
        for i in plan.grids:
            large[i] = np.empty(shapes[i], self.dtype)
        restored = _restorer(self.schema)

        def place(k: int, chunk: npt.NDArray[Any]) -> None:
            if k >= len(places):
                i, region = pieces[k - len(places)]
                large[i][region] = chunk
                return
            where, starts = places[k]
            taken = restored(chunk)
            limit = len(chunk)
            for i, start in zip(_listed(where), _listed(starts), strict=True):
                if start + sizes[i] > limit:
                    raise CorruptionError(f"{self._label(entries, i)}: its entry points outside its chunk; run verify")
                out[i] = taken(start, sizes[i], shapes[i])

        self._read(requests, place, lambda k: self._describe(entries, places, pieces, k), cache=cache)
        for i, array in large.items():
            out[i] = array if self.schema.kind == "ndarray" else restore(self.schema, array)
        return out

    def _describe(self, entries: Entries, places: list[Any], pieces: list[Any], k: int) -> str:
        if k >= len(places):
            return self._label(entries, pieces[k - len(places)][0])
        return self._label(entries, _listed(places[k][0])[0])

    def _shared_requests(
        self, entries: Entries, plan: _Plan
    ) -> tuple[list[ChunkRequest], list[tuple[slice | npt.NDArray[Any], slice | npt.NDArray[Any]]]]:
        """Return a request for each shared chunk, and which entries take which of its items."""
        requests, places = [], []
        order = plan.order
        index = entries.index[order].astype(np.int64)
        groups = plan.groups()
        straight_order, straight_index = _straight(order, groups), _straight(index, groups)
        for k, (start, end, row) in enumerate(groups):
            requests.append(self._request(entries, row))
            where, rows = order[start:end], index[start:end]
            places.append(
                (
                    slice(int(where[0]), int(where[0]) + end - start) if straight_order[k] else where,
                    slice(int(rows[0]), int(rows[0]) + end - start) if straight_index[k] else rows,
                )
            )
        return requests, places

    def _grid_requests(
        self, entries: Entries, grids: list[int], requests: list[ChunkRequest]
    ) -> list[tuple[int, tuple[slice, ...]]]:
        """Append a request for each chunk of each large sample; return which region of which entry it is."""
        pieces: list[tuple[int, tuple[slice, ...]]] = []
        for i in grids:
            shape, first = self._shape_of(entries, i), int(entries.rows[i])
            chunk_shape = self._layout(entries, i).chunk_shape or shape
            self._check_grid(entries, i, shape, chunk_shape)
            for k, region in enumerate(iter_chunks(shape, chunk_shape)):
                requests.append(self._request(entries, first + k, k, shape))
                pieces.append((i, region))
        return pieces


def _gone(error: ObjectNotFoundError) -> CorruptionError:
    return CorruptionError(f"{error}; fetch the object from a clone that has it, or run verify")


class _Plan:
    """Entries grouped by the chunk that holds them.

    Attributes
    ----------
    order : int64 (k,)
        Entries in shared chunks, grouped by chunk and in their own order within.
    grids : list of int
        Entries that are cut on a grid.
    """

    def __init__(self, entries: Entries) -> None:
        rows = entries.rows
        grid_codes = entries.table.grid_encodings()
        self.grids: list[int] = []
        if grid_codes.any():
            is_grid = grid_codes[entries.table.encoding[rows]]
            self.grids = np.flatnonzero(is_grid).tolist()
            shared = np.flatnonzero(~is_grid)
            self.order = shared[np.argsort(rows[shared], kind="stable")]
        elif len(rows) > 1 and bool((rows[1:] < rows[:-1]).any()):
            self.order = np.argsort(rows, kind="stable")
        else:
            self.order = np.arange(len(rows))
        self._rows = rows[self.order]

    def groups(self) -> list[tuple[int, int, int]]:
        """Return (start, end, row): which part of `order` lies in which row of the chunk table."""
        rows = self._rows
        if not len(rows):
            return []
        starts = np.flatnonzero(np.concatenate([[True], rows[1:] != rows[:-1]]))
        ends = np.append(starts[1:], len(rows))
        return list(zip(starts.tolist(), ends.tolist(), rows[starts].tolist(), strict=True))


def _straight(numbers: npt.NDArray[np.int64], groups: Sequence[tuple[int, int, int]]) -> list[bool]:
    """Tell of each group whether its numbers are consecutive: slices are copied much faster than lists of places."""
    if not groups:
        return []
    breaks = np.concatenate([[0], np.cumsum(numbers[1:] != numbers[:-1] + 1)])
    starts, ends, _ = np.array(groups).T
    return [bool(straight) for straight in breaks[ends - 1] == breaks[starts]]


def _reaches(rows: slice | npt.NDArray[Any]) -> int:
    return int(rows.stop) - 1 if isinstance(rows, slice) else int(rows.max())


def _listed(numbers: slice | npt.NDArray[Any]) -> list[int]:
    if isinstance(numbers, slice):
        return list(range(numbers.start, numbers.stop))
    return [int(n) for n in numbers]


def _restorer(schema: ColumnSchema) -> Callable[[npt.NDArray[Any]], Callable[[int, int, list[int]], Any]]:
    """Return what turns a chunk into a function of (start, size, shape) that gives values."""
    if schema.kind == "ndarray":
        return lambda chunk: lambda start, size, shape: chunk[start : start + size].reshape(shape).copy()
    if schema.kind == "bytes":
        return lambda chunk: _bytes_taker(chunk.tobytes())
    if schema.kind == "str":
        return lambda chunk: _text_taker(chunk.tobytes())
    return lambda chunk: lambda start, size, _: restore(schema, chunk[start : start + size])


def _bytes_taker(data: bytes) -> Callable[[int, int, list[int]], bytes]:
    return lambda start, size, _: data[start : start + size]


def _text_taker(data: bytes) -> Callable[[int, int, list[int]], str]:
    return lambda start, size, _: data[start : start + size].decode()
