"""Tree nodes: leaves and inner nodes, and their bytes (``docs/format.md`` §6).

A node's id covers its logical part. Its physical part says where things lie; two stored copies of one node may differ there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from hangarlake.chunks import zstd
from hangarlake.errors import CorruptionError, SchemaError
from hangarlake.records.children import Children, NodeRef, tree_pack_key
from hangarlake.records.entries import PENDING, SOLO, U64, ChunkTable, Digests, Entries
from hangarlake.records.keys import KeyArray, byte_matrix, decode_key

__all__ = [
    "MAX_NODE_BYTES",
    "MAX_VALUE_CHUNKS",
    "Children",
    "Inner",
    "Leaf",
    "Node",
    "NodeRef",
    "decode_node",
    "encode_inner",
    "encode_leaf",
    "node_length",
    "tree_pack_key",
]

MAGIC = b"HLN1"
HEADER_BYTES = 32
MAX_ITEMS = 512

# Codes of packs that are no index: in leaves a chunk by itself, in inner nodes the pack that this node lies in.
_SOLO_CODE = _THIS_PACK = 0xFFFF
_PENDING_CODE = 0xFFFE  # in staged nodes only
_MAX_PACKS = 0xFFFE

_MAX_KEY_WIDTH = 2 * 1026

# No reader takes more memory for the physical part of a node, so no writer makes a larger one.
_MAX_PHYSICAL = 1 << 30

MAX_NODE_BYTES = _MAX_PHYSICAL + (16 << 20)
"""No stored node is longer."""

MAX_VALUE_CHUNKS = 1 << 15
"""The most chunks that a value may be cut into: whatever values meet in a leaf, its physical part (50 bytes for each chunk) is
within its bound."""

# Longer lists of encodings are not remembered: what a bucket holds must not fill the memory.
_KNOWN_LIST_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf and its entries (at least one)."""

    entries: Entries
    id: bytes

    level = 0

    @property
    def keys(self) -> KeyArray:
        return self.entries.keys

    @property
    def count(self) -> int:
        return len(self.entries)

    @property
    def nbytes(self) -> int:
        return self.entries.nbytes

    @classmethod
    def of(cls, entries: Entries) -> Leaf:
        return cls(entries, _leaf_id(entries))


@dataclass(frozen=True, slots=True)
class Inner:
    """An inner node: level ≥ 1 and its children, each under the last key below it."""

    level: int
    children: Children
    id: bytes
    count: int = field(default=0)

    @property
    def keys(self) -> KeyArray:
        return self.children.keys

    @property
    def nbytes(self) -> int:
        return len(self.children) * (self.keys.itemsize + 48) + 200

    @classmethod
    def of(cls, level: int, children: Children) -> Inner:
        return cls(level, children, _inner_id(level, children), int(children.counts.sum()))


Node: TypeAlias = Leaf | Inner


# ---- bytes --------------------------------------------------------------------------------------------------------------


def _planes(array: npt.NDArray[Any]) -> bytes:
    size = array.dtype.itemsize
    return np.ascontiguousarray(array).view(np.uint8).reshape(-1, size).T.tobytes()


def _from_planes(data: memoryview, dtype: str, count: int) -> npt.NDArray[Any]:
    size = np.dtype(dtype).itemsize
    return (
        np.ascontiguousarray(np.frombuffer(data, np.uint8, count * size).reshape(size, count).T)
        .view(dtype)
        .reshape(count)
    )


def _key_section(keys: KeyArray) -> tuple[int, bytes]:
    """Return the key width and section K, uncompressed."""
    matrix = byte_matrix(keys)
    width = keys.itemsize
    if not matrix[:, width - 1].any():
        used = np.flatnonzero(matrix.any(axis=0))
        width = int(used[-1]) + 1
    return width, matrix[:, :width].T.tobytes()


def _logical(
    level: int, rank: int, keys: KeyArray, digests: Digests, shapes: U64 | None
) -> tuple[bytes, bytes, bytes, bytes]:
    """Return (bytes 4–11 of the header, K, D, S), uncompressed."""
    width, k = _key_section(keys)
    head = bytes((level, rank)) + width.to_bytes(2, "little") + len(keys).to_bytes(4, "little")
    return head, k, digests.tobytes(), _planes(shapes) if shapes is not None else b""


def _id(parts: Sequence[bytes]) -> bytes:
    return bytes(blake3(b"".join(parts)).digest(20))


def _leaf_id(entries: Entries) -> bytes:
    rank = entries.rank
    return _id(_logical(0, rank, entries.keys, entries.digests, entries.shapes if rank else None))


def _inner_id(level: int, children: Children) -> bytes:
    return _id(_logical(level, 0, children.keys, children.ids, children.counts))


def _assemble(parts: tuple[bytes, bytes, bytes, bytes], physical: bytes) -> bytes:
    head, k, d, s = parts
    k_stored = zstd.compress(k)
    s_stored = zstd.compress(s) if s else b""
    p_stored = zstd.compress(physical)
    sizes = b"".join(len(x).to_bytes(4, "little") for x in (k_stored, s_stored, p_stored))
    start = MAGIC + head + sizes
    body = b"".join((k_stored, d, s_stored, p_stored))
    check: bytes = blake3(start + body).digest(8)
    return start + check + body


def encode_leaf(leaf: Leaf, *, staged: bool = False) -> bytes:
    """Return the stored bytes of a leaf. Unless it is only `staged`, pending chunks must have been given their places before."""
    entries = leaf.entries
    if len(entries) == len(entries.table) and not entries.index.any():
        # Rows in another order than the entries, as edits leave them, would cost an array 32 bytes for each chunk.
        rows = entries.rows
        if not np.array_equal(rows, np.arange(len(rows))) and np.array_equal(
            entries.digests, entries.table.digests[rows]
        ):
            ordered = np.arange(len(rows), dtype=np.uint32)
            if np.array_equal(np.sort(rows), ordered):
                entries = replace(entries, table=entries.table.take(rows), rows=ordered)
    table = entries.table
    n, m = len(entries), len(table)
    packs = table.packs
    if not staged and (packs == PENDING).any():
        raise ValueError("a leaf with pending chunks cannot be stored")
    if len(table.pack_ids) > _MAX_PACKS:
        raise _too_large(entries, f"lie in {len(table.pack_ids):,} packs, of {_MAX_PACKS:,}")
    direct = bool(
        n == m
        and not entries.index.any()
        and np.array_equal(entries.rows, np.arange(n))
        and np.array_equal(entries.digests, table.digests)
    )
    listed = "[" + ",".join(table.encodings) + "]"
    encodings = listed.encode()
    parts = [
        np.array([m, len(table.pack_ids), len(encodings), int(direct)], "<u4").tobytes(),
        *table.pack_ids,
        b"" if direct else table.digests.tobytes(),
        _planes((packs & 0xFFFF).astype("<u2")),
        _planes(table.offsets),
        _planes(table.lengths),
        _planes(table.items),
        _planes(table.encoding.astype("<u2")),
    ]
    if not direct:
        parts += [_planes(entries.rows), _planes(entries.index)]
    parts.append(encodings)
    size = sum(map(len, parts))
    if size > _MAX_PHYSICAL:
        raise _too_large(entries, f"take {size:,} bytes to list their chunks, of {_MAX_PHYSICAL:,}")
    logical = _logical(0, entries.rank, entries.keys, entries.digests, entries.shapes if entries.rank else None)
    return _assemble(logical, b"".join(parts))


def _too_large(entries: Entries, what: str) -> SchemaError:
    first, last = decode_key(bytes(entries.keys[0])), decode_key(bytes(entries.keys[-1]))
    return SchemaError(
        f"the {len(entries)} samples from {first!r} to {last!r} are cut into {len(entries.table):,} chunks and {what} that the "
        "format has room for; give the column an encoding with larger chunks (chunk_shape), or store them as arrays"
    )


def encode_inner(inner: Inner) -> bytes:
    """Return the stored bytes of an inner node. Children with PENDING packs are taken to lie in the same tree pack, at their offsets."""
    children = inner.children
    packs = np.where(children.packs >= 0, children.packs, _THIS_PACK).astype("<u2")
    physical = b"".join(
        [
            np.array([len(children.pack_ids), 0], "<u4").tobytes(),
            *children.pack_ids,
            _planes(packs),
            _planes(children.offsets),
            _planes(children.lengths),
        ]
    )
    return _assemble(_logical(inner.level, 0, children.keys, children.ids, children.counts), physical)


def node_length(header: bytes | memoryview) -> int:
    """Return the stored length of the node whose first 32 bytes are given."""
    if len(header) < HEADER_BYTES or bytes(header[:4]) != MAGIC:
        raise CorruptionError("a tree node does not start as one")
    n = int.from_bytes(header[8:12], "little")
    sizes = [int.from_bytes(header[i : i + 4], "little") for i in (12, 16, 20)]
    return HEADER_BYTES + 20 * n + sum(sizes)


def decode_node(data: bytes | bytearray | memoryview, ref: NodeRef, what: str = "", *, staged: bool = False) -> Node:
    """Decode and verify a stored node; only where it is `staged` may chunks and children be pending.

    Raises
    ------
    CorruptionError
        If the checksum, the id, the number of entries or the structure is wrong. The message names `what` and the place.
    """
    view = memoryview(data)
    try:
        return _decode(view, ref, staged)
    except (CorruptionError, ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError) as error:
        where = f"{ref.key}, offset {ref.offset}" if ref.pack is not None else "an inlined node"
        raise CorruptionError(
            f"a tree node{f' of {what}' if what else ''} is damaged ({where}): {error}; restore the object from a clone, or run verify"
        ) from error


def _decode(view: memoryview, ref: NodeRef, staged: bool) -> Node:
    if len(view) < HEADER_BYTES or bytes(view[:4]) != MAGIC:
        raise ValueError("it does not start as a node")
    if bytes(view[24:32]) != blake3(b"".join((view[:24], view[32:]))).digest(8):
        raise ValueError("its checksum is wrong")
    level, rank = view[4], view[5]
    width = int.from_bytes(view[6:8], "little")
    n = int.from_bytes(view[8:12], "little")
    k_size, s_size, p_size = (int.from_bytes(view[i : i + 4], "little") for i in (12, 16, 20))
    if level != ref.level or not 0 < n <= MAX_ITEMS or not 0 < width <= _MAX_KEY_WIDTH:
        raise ValueError("its header is out of bounds")
    at = HEADER_BYTES
    k = zstd.decompress(view[at : at + k_size], width * n)
    at += k_size
    d = view[at : at + 20 * n]
    at += 20 * n
    columns = rank if level == 0 else 1
    s = zstd.decompress(view[at : at + s_size], 8 * columns * n) if columns else b""
    at += s_size
    if _id((bytes(view[4:12]), k, bytes(d), s)) != ref.id:
        raise ValueError("its content does not have its id")
    physical = memoryview(zstd.decompress(view[at : at + p_size], limit=_MAX_PHYSICAL))
    keys = np.ascontiguousarray(np.frombuffer(k, np.uint8).reshape(width, n).T).view(f"S{width}").reshape(n)
    digests = np.frombuffer(bytes(d), np.uint8).reshape(n, 20)
    if level:
        counts = _from_planes(memoryview(s), "<u8", n)
        _check_count(sum(counts.tolist()), ref)
        return Inner(level, _decode_children(physical, n, keys, digests, counts, ref, staged), ref.id, ref.count)
    _check_count(n, ref)
    shapes = _from_planes(memoryview(s), "<u8", n * rank).reshape(n, rank) if rank else np.empty((n, 0), np.uint64)
    return Leaf(_decode_entries(physical, n, keys, digests, shapes, staged), ref.id)


def _check_count(count: int, ref: NodeRef) -> None:
    if count != ref.count:
        raise ValueError(f"it has {count:,} entries, and what leads to it says {ref.count:,}")


def _pack_ids(physical: memoryview, start: int, count: int) -> tuple[bytes, ...]:
    if count > _THIS_PACK:
        raise ValueError("too many packs")
    ids = bytes(physical[start : start + 32 * count])
    return tuple(ids[i : i + 32] for i in range(0, 32 * count, 32))


def _decode_entries(
    physical: memoryview, n: int, keys: KeyArray, digests: Digests, shapes: U64, staged: bool
) -> Entries:
    m, p, e, flags = (int.from_bytes(physical[i : i + 4], "little") for i in (0, 4, 8, 12))
    direct = flags & 1
    if direct and m != n:
        raise ValueError("its chunks are not as many as its entries")
    pack_ids = _pack_ids(physical, 16, p)
    at = 16 + 32 * p
    if direct:
        chunk_digests = digests
    else:
        chunk_digests = np.frombuffer(physical[at : at + 20 * m], np.uint8).reshape(m, 20)
        at += 20 * m
    packs = _from_planes(physical[at:], "<u2", m).astype(np.int32)
    packs[packs == _SOLO_CODE] = SOLO
    if staged:
        packs[packs == _PENDING_CODE] = PENDING
    at += 2 * m
    offsets = _from_planes(physical[at:], "<u8", m)
    lengths = _from_planes(physical[at + 8 * m :], "<u8", m)
    items = _from_planes(physical[at + 16 * m :], "<u8", m)
    encoding = _from_planes(physical[at + 24 * m :], "<u2", m)
    at += 26 * m
    if direct:
        rows, index = np.arange(n, dtype=np.uint32), np.zeros(n, np.uint64)
    else:
        rows = _from_planes(physical[at:], "<u4", n)
        index = _from_planes(physical[at + 4 * n :], "<u8", n)
        at += 12 * n
    if at + e != len(physical):
        raise ValueError("its physical part has the wrong size")
    encodings = _encodings(bytes(physical[at:]))
    if m and (int(packs.max()) >= p or int(encoding.max()) >= len(encodings)):
        raise ValueError("its chunk table points outside")
    if int(rows.max()) >= m:
        raise ValueError("an entry points outside the chunk table")
    table = ChunkTable(chunk_digests, packs, offsets, lengths, items, encoding, pack_ids, encodings)
    if table.has_grids:
        cut = table.grid_encodings()[encoding[rows]]
        if (index[cut] > m - rows[cut].astype(np.uint64)).any():
            raise ValueError("the chunks of an entry reach beyond the chunk table")
    return Entries(keys, digests, shapes, rows, index, table)


_ENCODING_LISTS: dict[bytes, tuple[str, ...]] = {}


def _encodings(data: bytes) -> tuple[str, ...]:
    known = _ENCODING_LISTS.get(data)
    if known is None:
        listed = json.loads(data)
        if not isinstance(listed, list):
            raise ValueError("its encodings are no list")
        known = tuple(json.dumps(e, sort_keys=True, separators=(",", ":"), ensure_ascii=False) for e in listed)
        "".join(known).encode()  # a lone surrogate could not be written again
        if len(_ENCODING_LISTS) < 4096 and len(data) <= _KNOWN_LIST_BYTES:
            _ENCODING_LISTS[data] = known
    return known


def _decode_children(
    physical: memoryview, n: int, keys: KeyArray, ids: Digests, counts: U64, ref: NodeRef, staged: bool
) -> Children:
    p = int.from_bytes(physical[:4], "little")
    pack_ids = _pack_ids(physical, 8, p)
    at = 8 + 32 * p
    if len(physical) != at + 14 * n:
        raise ValueError("its physical part has the wrong size")
    packs = _from_planes(physical[at:], "<u2", n).astype(np.int32)
    offsets = _from_planes(physical[at + 2 * n :], "<u8", n)
    lengths = _from_planes(physical[at + 10 * n :], "<u4", n)
    here = packs == _THIS_PACK
    if here.any():
        if ref.pack is not None:
            packs = np.where(here, len(pack_ids), packs).astype(np.int32)
            pack_ids = (*pack_ids, ref.pack)
        elif staged:
            packs = np.where(here, PENDING, packs).astype(np.int32)
        else:
            raise ValueError("it refers to its own tree pack, and has none")
    if int(packs.max()) >= len(pack_ids):
        raise ValueError("a child points outside its packs")
    return Children(keys, ids, counts, packs, offsets, lengths, pack_ids)
