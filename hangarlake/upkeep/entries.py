"""Checking a leaf against the column or array that it belongs to: keys, shapes, and where its values lie. No data is read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from hangarlake.chunks.encodings import Encoding
from hangarlake.errors import CorruptionError, HangarlakeError, SchemaError, UnsupportedFormatError
from hangarlake.records.catalog import ArrayNode, ColumnNode, ColumnSchema
from hangarlake.records.entries import Entries
from hangarlake.records.keys import KeyArray, decode_grid, decode_key, decode_keys, encode_keys

__all__ = ["TreeKind", "encoding_of", "entry_faults", "key_text", "kind_of", "shapes_of"]


@dataclass(frozen=True, slots=True)
class TreeKind:
    """What a tree holds: the samples of a column of some schema, or the chunks of an array of some rank."""

    schema: ColumnSchema | None
    ndim: int = 0

    @property
    def rank(self) -> int:
        """Numbers per entry in the shape section of leaves."""
        return self.schema.rank if self.schema is not None else 0


def kind_of(node: ColumnNode | ArrayNode) -> TreeKind:
    """Return what the tree of a node holds.

    Raises
    ------
    SchemaError
        If the node contradicts itself.
    """
    if isinstance(node, ArrayNode):
        shape = node.metadata.get("shape")
        if not isinstance(shape, list):
            raise SchemaError("its metadata has no shape")
        return TreeKind(None, len(shape))
    schema = node.schema
    if schema.kind != "ndarray" and schema != ColumnSchema.scalar_run(schema.kind, nested=schema.nested):
        raise SchemaError(f"a column of kind {schema.kind!r} has dtype |u1 and one variable dimension")
    if not schema.variable_shape and None in schema.shape:
        raise SchemaError("a column of fixed shape has no unbounded dimension")
    return TreeKind(schema)


@lru_cache(maxsize=1024)
def encoding_of(text: str) -> Encoding | str:
    """Return an encoding, or why it is none (with ``unsupported`` in front where a later version may know it)."""
    try:
        return Encoding.from_json(text)
    except UnsupportedFormatError as error:
        return f"unsupported: {error}"
    except HangarlakeError as error:
        return str(error)


def key_text(kind: TreeKind, key: bytes) -> str:
    """Write a key as one would index with it: ``['0005']``, ``['a', 3]``, ``[chunk (0, 2)]``."""
    try:
        if kind.schema is None:
            grid = decode_grid(np.array([key]), kind.ndim)[0] if kind.ndim else ()
            return f"[chunk {tuple(int(n) for n in grid)}]"
        decoded = decode_key(key)
    except CorruptionError:
        return f"[{key!r}]"
    return f"[{decoded!r}]" if not isinstance(decoded, tuple) else f"[{decoded[0]!r}, {decoded[1]!r}]"


def shapes_of(kind: TreeKind, entries: Entries, where: npt.NDArray[np.intp]) -> list[tuple[int, ...]]:
    """Return the shapes of some samples."""
    if kind.schema is None:
        return [()] * len(where)
    if kind.schema.variable_shape:
        return [tuple(shape) for shape in entries.shapes[where].tolist()]
    return [tuple(n or 0 for n in kind.schema.shape)] * len(where)


def entry_faults(kind: TreeKind, entries: Entries) -> Iterator[tuple[str, npt.NDArray[np.intp]]]:
    """Yield what is wrong with the entries of a leaf, and which of them it concerns."""
    everyone = np.arange(len(entries))
    fault = _key_fault(kind, entries.keys)
    if fault:
        yield fault, everyone
    if entries.rank != kind.rank:
        yield f"its entries have shapes of {entries.rank} dimensions, where the schema has {kind.rank}", everyone
        return
    yield from _shape_faults(kind, entries)
    table = entries.table
    codes = table.encoding[entries.rows]
    for code in np.unique(codes).tolist():
        where = np.flatnonzero(codes == code)
        encoding = encoding_of(table.encodings[code])
        if isinstance(encoding, str):
            yield encoding, where
        else:
            yield from _place_faults(kind, entries, encoding, where)


def _key_fault(kind: TreeKind, keys: KeyArray) -> str:
    if bool((keys[1:] <= keys[:-1]).any()):
        return "its keys are not in order"
    try:
        if kind.schema is None:
            if kind.ndim:
                decode_grid(keys, kind.ndim)
            elif keys.tolist() != [b"\x30"]:
                return "it has other keys than that of the one chunk of an array without dimensions"
            return ""
        decoded = decode_keys(keys)
        kinds = set(map(type, decoded))
        if (kinds != {tuple}) if kind.schema.nested else (tuple in kinds):
            return "it has keys of nested samples in a flat column, or the other way round"
        again = encode_keys(decoded)
    except (CorruptionError, SchemaError) as error:
        return f"it has a key that is none: {error}"
    return "" if bool((again == keys).all()) else "it has a key that is not written as keys are"


def _shape_faults(kind: TreeKind, entries: Entries) -> Iterator[tuple[str, npt.NDArray[np.intp]]]:
    if not kind.rank or kind.schema is None:
        return
    most = np.array([(1 << 63) - 1 if n is None else n for n in kind.schema.shape], np.uint64)
    wrong = np.flatnonzero((entries.shapes > most).any(axis=1))
    if len(wrong):
        yield f"a shape of {tuple(entries.shapes[wrong[0]].tolist())} goes beyond that of the schema", wrong


def _place_faults(
    kind: TreeKind, entries: Entries, encoding: Encoding, where: npt.NDArray[np.intp]
) -> Iterator[tuple[str, npt.NDArray[np.intp]]]:
    """Check that entries of one encoding point inside their chunks."""
    table, rows = entries.table, entries.rows[where]
    index, items = entries.index[where], table.items[rows]
    layout = encoding.layout
    if (layout == "raw") != (kind.schema is None):
        yield f"its chunks have the layout {layout!r}, which is not for this kind of data", where
        return
    if kind.schema is None:
        lying = (entries.digests[where] != table.digests[rows]).any(axis=1)
        if lying.any():
            yield "the digest of an array's chunk is not that of its bytes", where[lying]
        return
    if layout == "rows":
        if kind.schema.variable_shape:
            yield "samples of varying shape lie in rows", where
            return
        outside = index >= items
    else:
        shapes = shapes_of(kind, entries, where)
        if layout == "run":
            pairs = zip(index.tolist(), shapes, items.tolist(), strict=True)
            outside = np.array([start + math.prod(shape) > most for start, shape, most in pairs], np.bool_)
        else:
            outside = np.array(
                [count != _grid_count(encoding, shape) for count, shape in zip(index.tolist(), shapes, strict=True)]
            ) | (rows.astype(np.int64) + index.astype(np.int64) > len(table))
    if outside.any():
        yield "an entry points outside its chunk", where[outside]


def _grid_count(encoding: Encoding, shape: tuple[int, ...]) -> Any:
    cut = encoding.chunk_shape or ()
    return math.prod(-(-n // c) for n, c in zip(shape, cut, strict=True)) if len(cut) == len(shape) else None
