"""Merging arrays beyond whole chunks: appends one behind the other, and edits of different elements of one chunk."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hangarlake.arrays.chunkkeys import grid_keys, grid_of
from hangarlake.arrays.sides import ArraySide, EditedArray
from hangarlake.errors import SchemaError
from hangarlake.merging import Granularity, ThreeWay, set_array_merging
from hangarlake.records.catalog import ArrayNode
from hangarlake.records.diff import same_json
from hangarlake.records.merge import ArrayMerger, common_axis
from hangarlake.records.tree import find, iter_leaves
from hangarlake.records.tree_merge import plan_merge

__all__ = ["ArrayMergers", "differing", "overlapping", "register"]

# Chunks, or appended elements, that are in memory at a time.
_AT_ONCE = 64 << 20


def differing(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Tell which elements differ bit by bit, so that NaN equals itself."""
    if a.dtype.itemsize in (1, 2, 4, 8):
        bits = np.dtype(f"u{a.dtype.itemsize}")
        out: npt.NDArray[np.bool_] = np.ascontiguousarray(a).view(bits) != np.ascontiguousarray(b).view(bits)
        return out
    left, right = (np.ascontiguousarray(x).view(np.uint8).reshape(*x.shape, x.dtype.itemsize) for x in (a, b))
    return np.asarray((left != right).any(axis=-1))


def overlapping(base: npt.NDArray[Any], ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Tell which elements both sides changed, each in its own way."""
    return differing(base, ours) & differing(base, theirs) & differing(ours, theirs)


class ArrayMergers:
    """How arrays are merged: what :func:`hangarlake.merging.set_array_merging` is told."""

    def merger(self, work: ThreeWay, granularity: Granularity, *, concatenate: bool) -> ArrayMerger | None:
        """Return what is asked first about arrays that both sides changed."""
        if granularity == "chunk" and not concatenate:
            return None

        def merge(name: str, base: ArrayNode, ours: ArrayNode, theirs: ArrayNode) -> tuple[ArrayNode, ArrayNode] | None:
            if not (_can_code(base) and _can_code(ours) and _can_code(theirs)):
                return None
            axis = common_axis(base, ours, theirs)
            if concatenate and axis is not None and _same_but_shape(base, ours, theirs):
                ours, theirs = _concatenate(work, name, axis, base, ours, theirs)
            if granularity == "element" and _same_grid(base, ours, theirs):
                ours, theirs = _merge_elements(work, name, base, ours, theirs)
            return ours, theirs

        return merge

    def assign(self, work: ThreeWay, name: str, node: ArrayNode, key: Any, value: Any) -> ArrayNode:
        """Return an array with the values of one chunk replaced.

        Raises
        ------
        SchemaError
            If the values do not fit the chunk.
        """
        array = _edited(work, name, node)
        layout = array.layout
        if layout.encoding is None or layout.chunk_shape is None:
            raise SchemaError(f"array {name!r}: its chunks cannot be set here; resolve by OURS, THEIRS or REMOVE")
        region = tuple(
            slice(k * side, min((k + 1) * side, n))
            for k, side, n in zip(key, layout.chunk_shape, layout.shape, strict=True)
        )
        given = np.asarray(value)
        extents = tuple(part.stop - part.start for part in region)
        if given.shape == layout.chunk_shape:
            given = given[tuple(slice(0, n) for n in extents)]
        try:
            array.write(region, given)
        except (ValueError, TypeError) as error:
            raise SchemaError(f"array {name!r}, chunk {key}: {error}; a chunk has the shape {extents}") from error
        return array.result()


def _edited(work: ThreeWay, name: str, node: ArrayNode) -> EditedArray:
    return EditedArray(name, node, work.staged, work.session.chunks, work.uploader)


def _side(work: ThreeWay, name: str, node: ArrayNode) -> ArraySide:
    return ArraySide(name, node, work.staged, work.session.chunks, work.uploader)


def _can_code(node: ArrayNode) -> bool:
    from hangarlake.arrays.layout import ArrayLayout

    return ArrayLayout.of(node.metadata).encoding is not None


def _core(node: ArrayNode, *without: str) -> dict[str, Any]:
    left_out = {"attributes", *without}
    return {name: value for name, value in node.metadata.items() if name not in left_out}


def _same_but_shape(*nodes: ArrayNode) -> bool:
    return all(same_json(_core(nodes[0], "shape"), _core(node, "shape")) for node in nodes[1:])


def _same_grid(*nodes: ArrayNode) -> bool:
    return all(
        same_json(_core(nodes[0], "shape", "dimension_names"), _core(node, "shape", "dimension_names"))
        for node in nodes[1:]
    )


# ---- elements -----------------------------------------------------------------------------------------------------------


def _merge_elements(
    work: ThreeWay, name: str, base: ArrayNode, ours: ArrayNode, theirs: ArrayNode
) -> tuple[ArrayNode, ArrayNode]:
    """Put chunks in which the sides changed different elements together, on both sides; the others stay conflicts."""
    plan = plan_merge(base.root, ours.root, theirs.root, work.staged)
    contested = [block.keys for block in plan.contested if len(block.keys)]
    if not contested:
        return ours, theirs
    mine, other = _edited(work, name, ours), _edited(work, name, theirs)
    before = _side(work, name, base)
    coordinates = np.concatenate([grid_of(keys, mine.layout.ndim) for keys in contested])
    step = max(1, _AT_ONCE // (3 * max(1, mine.layout.chunk_nbytes)))
    for start in range(0, len(coordinates), step):
        part = coordinates[start : start + step]
        for place, b, o, t in zip(
            part.tolist(), before.read_each(part), mine.read_each(part), other.read_each(part), strict=True
        ):
            if overlapping(b, o, t).any():
                continue
            merged = np.where(differing(b, t), t, o)
            mine.write_chunk(tuple(place), merged)
            other.write_chunk(tuple(place), merged)
    return mine.result(), other.result()


# ---- appends ------------------------------------------------------------------------------------------------------------


def _concatenate(
    work: ThreeWay, name: str, axis: int, base: ArrayNode, ours: ArrayNode, theirs: ArrayNode
) -> tuple[ArrayNode, ArrayNode]:
    """Put what theirs appended behind what ours appended, and take it from theirs: what is left are edits of the base."""
    source = _side(work, name, theirs)
    mine, other = _edited(work, name, ours), _edited(work, name, theirs)
    n_base, n_ours, n_theirs = (int(node.metadata["shape"][axis]) for node in (base, ours, theirs))
    shape = list(mine.layout.shape)
    shape[axis] = n_ours + n_theirs - n_base
    mine.resize(tuple(shape))
    other.resize(tuple(shape))
    side = (mine.layout.chunk_shape or ())[axis]
    if n_base % side == 0 and n_ours % side == 0:
        _move_chunks(mine, source, axis, n_base // side, (n_ours - n_base) // side)
    else:
        for start, stop in _slabs(source, axis, n_base, n_theirs):
            lead = (slice(None),) * axis
            values = source.read((*lead, slice(start, stop)))
            mine.write((*lead, slice(start - n_base + n_ours, stop - n_base + n_ours)), values)
    _cut_off(other, _side(work, name, base), axis, n_base)
    return mine.result(), other.result()


def _slabs(source: ArraySide, axis: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
    layout = source.layout
    row = math.prod(n for i, n in enumerate(layout.shape) if i != axis) * layout.dtype.itemsize
    side = (layout.chunk_shape or ())[axis]
    step = max(side, _AT_ONCE // max(1, row) // side * side)
    while start < stop:
        end = min(stop, (start // step + 1) * step)
        yield start, end
        start = end


def _move_chunks(target: EditedArray, source: ArraySide, axis: int, first: int, by: int) -> None:
    """Give the chunks of an append other places in the grid: book-keeping alone."""
    ndim = source.layout.ndim
    for leaf in iter_leaves(source.node.root, source.nodes):
        places = grid_of(leaf.keys, ndim).astype(np.int64)
        beyond = np.flatnonzero(places[:, axis] >= first)
        if not len(beyond):
            continue
        moved = places[beyond]
        moved[:, axis] += by
        entries = replace(leaf.entries.take(beyond), keys=grid_keys(moved)).compact()
        order = np.argsort(entries.keys, kind="stable")
        target.stage.adopt(entries.take(order).compact(), np.empty(0, "S1"))


def _cut_off(array: EditedArray, base: ArraySide, axis: int, length: int) -> None:
    """Take what lies beyond a length from an array, so that a chunk that holds nothing else new is that of the base."""
    layout = array.layout
    side = (layout.chunk_shape or ())[axis]
    stage = array.stage
    edge: list[npt.NDArray[np.uint32]] = []
    for leaf in list(iter_leaves(stage.fold(), array.nodes)):
        places = grid_of(leaf.keys, layout.ndim)
        for key in leaf.keys[places[:, axis] >= -(-length // side)].tolist():
            stage.remove(key)
        if length % side:
            edge.append(places[places[:, axis] == length // side])
    stage.fold()
    if not edge or not any(map(len, edge)):
        return
    coordinates = np.concatenate(edge)
    inside = (slice(None),) * axis + (slice(0, length % side),)
    for place, b, t in zip(coordinates, base.read_each(coordinates), array.read_each(coordinates), strict=True):
        kept = b.copy()
        kept[inside] = t[inside]
        if differing(b, kept).any():
            array.write_chunk(tuple(place.tolist()), kept)
            continue
        key = grid_keys(place[None].astype(np.int64))
        found = find(base.node.root, key, base.nodes)
        if found.present.any():
            stage.adopt(found.entries().compact(), np.empty(0, "S1"))
        else:
            stage.remove(bytes(key[0]))


def register() -> None:
    """Tell merges how arrays are merged."""
    set_array_merging(ArrayMergers())
