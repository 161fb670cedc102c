"""Reading a region of an array: one plan for all chunks that it touches, decoded on threads straight into the result."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from hangarlake.arrays.chunkkeys import grid_keys
from hangarlake.arrays.hierarchy import ArrayOwner, chunk_place
from hangarlake.arrays.layout import ArrayLayout
from hangarlake.arrays.stage import REMOVED
from hangarlake.chunks.codecs import decode_chunk
from hangarlake.chunks.grid import Touch, normalize_selection, selection_shape, touches_along
from hangarlake.chunks.packs import ChunkRef
from hangarlake.chunks.reader import ChunkRequest
from hangarlake.records.entries import PENDING
from hangarlake.records.node import NodeRef
from hangarlake.records.tree import find

__all__ = ["ChunkPart", "Region", "is_basic", "locate_chunks", "read_chunks", "read_region"]

# Up to so many chunks are looked up one by one in unpacked leaves, which is faster than planning.
_FEW = 8


def is_basic(selection: Any) -> bool:
    """Tell whether a selection is made of integers, slices and ``...`` alone."""
    parts = selection if isinstance(selection, tuple) else (selection,)
    return all(
        part is Ellipsis
        or isinstance(part, slice)
        or (isinstance(part, int | np.integer) and not isinstance(part, bool))
        or (isinstance(part, np.ndarray) and not part.ndim and part.dtype.kind in "iu")
        for part in parts
    )


def forwards(selection: Any, shape: Sequence[int]) -> tuple[tuple[int | slice, ...], tuple[slice, ...]]:
    """Return a basic selection without negative steps, which zarr lacks, and what turns its result (or its values) round."""
    taken: list[int | slice] = []
    turned: list[slice] = []
    for part in normalize_selection(selection, shape):
        if isinstance(part, int):
            taken.append(part)
            continue
        ascending = part if part.step > 0 else part[::-1]
        taken.append(slice(ascending.start, ascending.stop, ascending.step) if len(part) else slice(0, 0))
        turned.append(slice(None) if part.step > 0 else slice(None, None, -1))
    return tuple(taken), tuple(turned)


@dataclass(frozen=True, slots=True)
class ChunkPart:
    """One chunk of a region.

    Attributes
    ----------
    take : tuple of (int or slice)
        What of the chunk is selected.
    put : tuple of slice
        Where that is in the region.
    whole : bool
        Whether everything of the chunk within the array's bounds is selected, in order.
    """

    take: tuple[Any, ...]
    put: tuple[slice, ...]
    whole: bool


class Region:
    """A basic selection of an array, cut along its chunks.

    Attributes
    ----------
    shape : tuple of int
        Of the result.
    coordinates : int64 (n, ndim)
        Grid coordinates of the chunks touched, row-major in the order of the selection.
    """

    def __init__(self, layout: ArrayLayout, selection: Any) -> None:
        assert layout.chunk_shape is not None
        parts = normalize_selection(selection, layout.shape)
        self.shape = selection_shape(parts)
        self._axes: list[list[Touch]] = [
            touches_along(part, side) for part, side in zip(parts, layout.chunk_shape, strict=True)
        ]
        whole = [
            [_is_whole(touch, side, n) for touch in touches]
            for touches, side, n in zip(self._axes, layout.chunk_shape, layout.shape, strict=True)
        ]
        self._whole = whole
        counts = [len(touches) for touches in self._axes]
        self.count = math.prod(counts)
        if self.count == 1:
            self.coordinates = np.array([[touches[0].coordinate for touches in self._axes]], np.int64)
        else:
            grids = np.meshgrid(*([t.coordinate for t in touches] for touches in self._axes), indexing="ij")
            self.coordinates = np.stack(grids, -1).reshape(self.count, len(counts)).astype(np.int64, copy=False)

    def parts(self) -> list[ChunkPart]:
        """Return the parts of all chunks, in the order of `coordinates`."""
        axes = [list(zip(touches, whole, strict=True)) for touches, whole in zip(self._axes, self._whole, strict=True)]
        return [
            ChunkPart(
                tuple([touch.take for touch, _ in combined]),
                tuple([touch.put for touch, _ in combined if touch.put is not None]),
                all(whole for _, whole in combined),
            )
            for combined in product(*axes)
        ]


def _is_whole(touch: Touch, side: int, n: int) -> bool:
    extent = min(side, n - touch.coordinate * side)
    if not isinstance(touch.take, slice):
        return extent == 1
    return bool(touch.take.start == 0 and touch.take.step == 1 and touch.take.stop == extent)


Place = bytes | ChunkRef | None
"""The encoded bytes of a chunk that a writer still has, where a chunk lies, or that there is none."""


def locate_chunks(owner: ArrayOwner, name: str, layout: ArrayLayout, coordinates: npt.NDArray[np.int64]) -> list[Place]:
    """Find chunks by grid coordinates, shape (n, ndim): leaf by leaf, with one batch of reads for each level of the tree."""
    with owner.guard:
        root, staged = owner.array_state(name)
        pending = owner.pending
        overlaid: dict[int, Place] = {}
        if staged:
            for i, key in enumerate(grid_keys(coordinates).tolist()):
                chunk = staged.get(key)
                if chunk is REMOVED:
                    overlaid[i] = None
                elif chunk is not None:
                    assert pending is not None
                    held = pending.pending(chunk[0])
                    overlaid[i] = pending.places[chunk[0]] if held is None else held.data
        found: list[Place]
        if root is None:
            found = [None] * len(coordinates)
        elif len(coordinates) <= _FEW:
            keys = layout.keys
            assert keys is not None
            tree_keys = [keys.key(place) for place in coordinates.tolist()]
            owner.hot.warm(root, tree_keys)
            places = [owner.hot.find(root, key) for key in tree_keys]
            found = [None if p is None else chunk_place(p.leaf.entries, p.position, pending) for p in places]
        else:
            found = _find_many(owner, root, coordinates)
        for i, place in overlaid.items():
            found[i] = place
        return found


def _find_many(owner: ArrayOwner, root: NodeRef, coordinates: npt.NDArray[np.int64]) -> list[Place]:
    keys = grid_keys(coordinates)
    ordered = bool((keys[1:] > keys[:-1]).all())
    order = None if ordered else np.argsort(keys, kind="stable")
    found = find(root, keys if order is None else keys[order], owner.nodes)
    out: list[Place] = [None] * len(keys)
    where = np.arange(len(keys)) if order is None else order
    pending = owner.pending
    for number, leaf in enumerate(found.leaves):
        mine = np.flatnonzero((found.leaf == number) & (found.position >= 0))
        if not len(mine):
            continue
        entries = leaf.entries
        rows = entries.rows[found.position[mine]]
        table = entries.table.take(rows)
        refs: list[Place] = list(table.refs())
        if pending is not None:
            for i in np.flatnonzero(table.packs == PENDING).tolist():
                digest = table.digests[i].tobytes()
                held = pending.pending(digest)
                refs[i] = pending.places[digest] if held is None else held.data
        for i, ref in zip(where[mine].tolist(), refs, strict=True):
            out[i] = ref
    return out


def _label(name: str, coordinates: npt.NDArray[np.int64]) -> Callable[[int], str]:
    return lambda i: f"array {name!r}, chunk {tuple(coordinates[i].tolist())}"


def read_chunks(
    owner: ArrayOwner,
    name: str,
    layout: ArrayLayout,
    coordinates: npt.NDArray[np.int64],
    places: Sequence[Place],
    sink: Callable[[int, npt.NDArray[Any]], None],
    into: Callable[[int], npt.NDArray[Any] | None] | None = None,
) -> None:
    """Decode the chunks that there are, and hand each to `sink` with its number; missing ones are left out.

    `sink` is called on any thread; `into` may return an array to decode into, which `sink` is then not called for.
    """
    encoding, chunk_shape = layout.encoding, layout.chunk_shape
    assert encoding is not None
    assert chunk_shape is not None
    requests: list[ChunkRequest] = []
    numbers: list[int] = []
    fill = layout.fill_of_shards
    for i, place in enumerate(places):
        if isinstance(place, ChunkRef):
            requests.append(ChunkRequest(place, encoding, layout.dtype, chunk_shape, fill))
            numbers.append(i)
        elif place is not None:
            sink(i, decode_chunk(place, encoding, layout.dtype, chunk_shape, fill_value=fill))
    if not requests:
        return
    chunks = owner.chunks
    label = _label(name, coordinates)
    if len(requests) == 1:
        target = into(numbers[0]) if into is not None else None
        if target is None:
            sink(numbers[0], chunks.read_one(requests[0], label=label(numbers[0])))
            return
    # What is read in one go and fills a good part of the cache would only drive out what is read again and again.
    kept = chunks.cache is not None and 4 * len(requests) * layout.chunk_nbytes <= chunks.cache.max_bytes
    placed: set[int] = set()

    def target_of(k: int) -> npt.NDArray[Any] | None:
        target = into(numbers[k]) if into is not None else None
        if target is not None:
            placed.add(k)
        elif not kept:
            # Memory that was in use before costs no page faults; it is copied out of before the next chunk comes.
            return _scratch(layout)
        return target

    def take(k: int, chunk: npt.NDArray[Any]) -> None:
        if k not in placed:
            sink(numbers[k], chunk)

    chunks.read(
        requests,
        take,
        into=target_of if into is not None or not kept else None,
        cache=kept,
        describe=lambda k: label(numbers[k]),
    )


_memory = threading.local()


def _scratch(layout: ArrayLayout) -> npt.NDArray[Any]:
    """Return memory of this thread for one decoded chunk."""
    nbytes = layout.chunk_nbytes
    held: npt.NDArray[np.uint8] | None = getattr(_memory, "held", None)
    if held is None or not nbytes <= len(held) <= 4 * nbytes + (1 << 20):
        held = _memory.held = np.empty(nbytes, np.uint8)
    return held[:nbytes].view(layout.dtype).reshape(layout.chunk_shape or ())


def read_region(owner: ArrayOwner, name: str, layout: ArrayLayout, selection: Any) -> npt.NDArray[Any]:
    """Return a basic selection of an array that :attr:`ArrayLayout.encoding` can decode.

    Raises
    ------
    IndexError
        For what is no basic selection, or out of bounds.
    CorruptionError
        Naming array and chunk.
    """
    region = Region(layout, selection)
    out = np.empty(region.shape, layout.dtype)
    if not out.size:
        return out
    places = locate_chunks(owner, name, layout, region.coordinates)
    if all(place is None for place in places):
        out[...] = layout.fill_value
        return out
    parts = region.parts()
    chunk_shape = layout.chunk_shape
    for part, place in zip(parts, places, strict=True):
        if place is None:
            out[part.put] = layout.fill_value

    def put(i: int, chunk: npt.NDArray[Any]) -> None:
        part = parts[i]
        out[part.put] = chunk[part.take]

    def into(i: int) -> npt.NDArray[Any] | None:
        part = parts[i]
        if not part.whole:
            return None
        where: tuple[Any, ...] = (*part.put, ...)  # a view even where nothing is left to index
        target = out[where]
        return target if target.shape == chunk_shape and target.flags.c_contiguous else None

    # Of a large result, chunks go straight to their place; small ones are worth keeping in the cache.
    direct = chunk_shape == layout.shape or out.nbytes > 4 * layout.chunk_nbytes
    read_chunks(owner, name, layout, region.coordinates, places, put, into if direct else None)
    return out
