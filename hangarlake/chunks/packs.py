"""Data packs: chunks one behind the other in one object, with a footer that lists them (``docs/format.md`` §5)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hangarlake.chunks.compressors import compressor
from hangarlake.chunks.digests import DIGEST_SIZE, BytesLike, blake3_160, blake3_256
from hangarlake.chunks.encodings import Encoding, parse_encodings
from hangarlake.errors import CorruptionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from hangarlake.storage.base import ObjectStore

__all__ = [
    "PACK_BYTES",
    "SOLO_BYTES",
    "ChunkRef",
    "Pack",
    "PackBuilder",
    "PackIndex",
    "fetch_footer",
    "iter_pack",
    "pack_key",
    "read_footer",
    "solo_bytes",
]

SOLO_BYTES: Final = 1 << 20
"""A chunk of this size or more is an object of its own."""

PACK_BYTES: Final = 16 << 20
"""A pack that has reached this size is full."""

# A leaf of a tree lists up to 512 values, and 65,534 packs; so much of them is left for each value.
_VALUE_PACKS: Final = 120

# Half a million chunks of 32 bytes fill a pack; beyond that its footer would outgrow its data.
_MAX_CHUNKS: Final = 1 << 19
_MAX_ENCODINGS: Final = 256
_MAX_ENCODINGS_BYTES: Final = 1 << 20
_MAX_FOOTER: Final = 64 << 20

_TRAILER: Final = struct.Struct("<Q8s8s")
_MAGIC: Final = b"HLPACK01"
_COUNTS: Final = struct.Struct("<II")
_ENTRY_BYTES: Final = DIGEST_SIZE + 3 * 8 + 1
_FIRST_READ: Final = 64 << 10


def solo_bytes(count: int) -> int:
    """Return the size from which a chunk of a value that is cut into `count` chunks is an object of its own.

    Less than :data:`SOLO_BYTES` for values so large that their chunks would fill more packs than a leaf of a tree can name.
    """
    return min(SOLO_BYTES, _VALUE_PACKS * PACK_BYTES // max(1, count))


def pack_key(pack_id: bytes) -> str:
    """Return the object key of a data pack (an id of 32 bytes) or of a chunk by itself (20 bytes)."""
    name = pack_id.hex()
    return f"packs/{name[:2]}/{name}"


@dataclass(frozen=True, slots=True)
class ChunkRef:
    """Where a chunk lies.

    Attributes
    ----------
    digest : bytes
        Of the encoded chunk, 20 bytes.
    pack : bytes or None
        Id of its pack, 32 bytes; ``None``: the chunk is an object of its own.
    offset, length : int
        In bytes, within the object.
    """

    digest: bytes
    pack: bytes | None
    offset: int
    length: int

    @property
    def key(self) -> str:
        """Key of the object that holds the chunk."""
        return pack_key(self.digest if self.pack is None else self.pack)


@dataclass(frozen=True, slots=True)
class Pack:
    """A finished pack.

    Attributes
    ----------
    id : bytes
        BLAKE3-256 of `data`.
    data : bytes
        The object.
    refs : dict of bytes to ChunkRef
        By chunk digest, in the order in which the chunks were added.
    """

    id: bytes
    data: bytes
    refs: dict[bytes, ChunkRef]

    @property
    def key(self) -> str:
        return pack_key(self.id)


class PackBuilder:
    """Gathers chunks until there are enough for a pack. Owned by one thread at a time.

    Examples
    --------
    >>> builder = PackBuilder()
    >>> offset = builder.add(blake3_160(b"abc"), b"abc", 3, Encoding("rows", ["bytes"]))
    >>> builder.finish().refs[blake3_160(b"abc")].length
    3
    """

    def __init__(self) -> None:
        self._buffers: list[BytesLike] = []
        self._digests: dict[bytes, int] = {}
        self._offsets: list[int] = []
        self._lengths: list[int] = []
        self._items: list[int] = []
        self._codes: list[int] = []
        self._encodings: dict[Encoding, int] = {}
        self._encodings_bytes = 0
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the chunks added so far, without the footer."""
        return self._nbytes

    @property
    def count(self) -> int:
        """Number of chunks."""
        return len(self._offsets)

    @property
    def full(self) -> bool:
        """Whether it is time to :meth:`finish`: enough bytes, or no room for another chunk."""
        return (
            self._nbytes >= PACK_BYTES
            or len(self._offsets) >= _MAX_CHUNKS
            or len(self._encodings) >= _MAX_ENCODINGS
            or self._encodings_bytes >= _MAX_ENCODINGS_BYTES // 2
        )

    def __contains__(self, digest: object) -> bool:
        return digest in self._digests

    def add(self, digest: bytes, data: BytesLike, items: int, encoding: Encoding) -> int:
        """Add a chunk and return its offset; of a chunk that is there already, the offset it has.

        Parameters
        ----------
        digest : bytes
            BLAKE3-160 of `data`.
        data : buffer
            Encoded; kept until :meth:`finish`, and not to be changed before.
        items : int
            Rows or elements of the decoded chunk, as in chunk tables.
        encoding : Encoding

        Raises
        ------
        ValueError
            The pack has no room for another encoding or chunk: look at :attr:`full` after each chunk.
        """
        known = self._digests.get(digest)
        if known is not None:
            return self._offsets[known]
        if len(digest) != DIGEST_SIZE:
            raise ValueError(f"a chunk digest has {DIGEST_SIZE} bytes, not {len(digest)}")
        code = self._encodings.get(encoding)
        new = code is None
        if len(self._offsets) >= _MAX_CHUNKS or (new and len(self._encodings) >= _MAX_ENCODINGS):
            raise ValueError("the pack is full; finish it and begin another one")
        if code is None:
            code = self._encodings[encoding] = len(self._encodings)
            self._encodings_bytes += len(encoding.to_json().encode()) + 1
        offset = self._nbytes
        self._digests[digest] = len(self._offsets)
        self._buffers.append(data)
        self._offsets.append(offset)
        self._lengths.append(len(data))
        self._items.append(items)
        self._codes.append(code)
        self._nbytes += len(data)
        return offset

    def finish(self) -> Pack:
        """Return the pack, and be empty again.

        Raises
        ------
        ValueError
            Nothing was added.
        """
        if not self._offsets:
            raise ValueError("a pack holds at least one chunk")
        count = len(self._offsets)
        texts = ",".join(encoding.to_json() for encoding in self._encodings)
        encodings = f"[{texts}]".encode()
        footer = b"".join(
            (
                _COUNTS.pack(count, len(encodings)),
                *self._digests,
                np.asarray(self._offsets, dtype="<u8").tobytes(),
                np.asarray(self._lengths, dtype="<u8").tobytes(),
                np.asarray(self._items, dtype="<u8").tobytes(),
                np.asarray(self._codes, dtype="|u1").tobytes(),
                encodings,
            )
        )
        stored = _zstd().encode(footer)
        trailer = _TRAILER.pack(len(stored), blake3_256(stored)[:8], _MAGIC)
        data = b"".join((*self._buffers, stored, trailer))
        pack_id = blake3_256(data)
        refs = {
            digest: ChunkRef(digest, pack_id, offset, length)
            for digest, offset, length in zip(self._digests, self._offsets, self._lengths, strict=True)
        }
        self.__init__()  # type: ignore[misc]  # begins again with every field as it was
        return Pack(pack_id, data, refs)


@dataclass(frozen=True, slots=True, eq=False)
class PackIndex:
    """What a pack's footer says; every chunk lies within the pack, one behind the other.

    Attributes
    ----------
    digests : ndarray of uint8, shape (n, 20)
    offsets, lengths, items : ndarray of uint64, shape (n,)
    codes : ndarray of uint8, shape (n,)
        Position of each chunk's encoding in `encodings`.
    encodings : tuple of Encoding
    """

    digests: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.uint64]
    lengths: npt.NDArray[np.uint64]
    items: npt.NDArray[np.uint64]
    codes: npt.NDArray[np.uint8]
    encodings: tuple[Encoding, ...]

    def __len__(self) -> int:
        return len(self.offsets)

    def refs(self, pack_id: bytes) -> Iterator[ChunkRef]:
        """Yield a reference to each chunk of the pack that this index was read from."""
        raw = self.digests.tobytes()
        for i, (offset, length) in enumerate(zip(self.offsets.tolist(), self.lengths.tolist(), strict=True)):
            yield ChunkRef(raw[i * DIGEST_SIZE : (i + 1) * DIGEST_SIZE], pack_id, offset, length)


def _zstd() -> Any:
    return compressor("zstd", {"level": 3}, 1)


def _parse_trailer(trailer: BytesLike, size: int) -> tuple[int, bytes]:
    if len(trailer) != _TRAILER.size:
        raise CorruptionError(f"a pack of {size:,} bytes is too short for its trailer")
    length, check, magic = _TRAILER.unpack(trailer)
    if magic != _MAGIC:
        raise CorruptionError("no pack: its last bytes are not HLPACK01")
    if length > min(size - _TRAILER.size, _MAX_FOOTER):
        raise CorruptionError(f"a pack of {size:,} bytes with a footer of {length:,}")
    return length, check


def _parse_footer(stored: BytesLike, check: bytes, end: int) -> PackIndex:
    """Return the index of a footer; `end` is where the chunks end and the footer begins."""
    if blake3_256(stored)[:8] != check:
        raise CorruptionError("the footer of a pack does not have the checksum in its trailer")
    footer = bytes(_zstd().decode(stored, _MAX_FOOTER, False))
    if len(footer) < _COUNTS.size:
        raise CorruptionError("the footer of a pack is too short")
    count, tail = _COUNTS.unpack_from(footer)
    if count < 1 or tail > _MAX_ENCODINGS_BYTES or len(footer) != _COUNTS.size + count * _ENTRY_BYTES + tail:
        raise CorruptionError(f"the footer of a pack has {len(footer):,} bytes, but lists {count:,} chunks")
    position = _COUNTS.size

    def take(dtype: str, each: int = 1) -> npt.NDArray[Any]:
        nonlocal position
        section = np.frombuffer(footer, dtype=dtype, count=count * each, offset=position)
        position += section.nbytes
        return section

    digests = take("|u1", DIGEST_SIZE).reshape(count, DIGEST_SIZE)
    offsets, lengths, items = take("<u8"), take("<u8"), take("<u8")
    codes = take("|u1")
    encodings = parse_encodings(footer[position:])
    # Lengths are compared one by one first, so that their sum cannot wrap around.
    if int(lengths.max()) > end:
        raise CorruptionError("a pack lists a chunk that is longer than the pack")
    ends = np.cumsum(lengths, dtype=np.uint64)
    if int(ends[-1]) != end or not np.array_equal(offsets, ends - lengths):
        raise CorruptionError("the chunks of a pack do not lie one behind the other")
    if int(codes.max()) >= len(encodings):
        raise CorruptionError("a pack lists a chunk with an encoding that it does not have")
    return PackIndex(digests, offsets, lengths, items, codes, encodings)


def read_footer(data: BytesLike) -> PackIndex:
    """Return the index of a whole pack in memory.

    Raises
    ------
    CorruptionError
        Not a pack, or a damaged one. (The chunks themselves are not verified: see :func:`iter_pack`.)
    """
    view = memoryview(data)
    size = len(view)
    length, check = _parse_trailer(view[max(0, size - _TRAILER.size) :], size)
    end = size - _TRAILER.size - length
    return _parse_footer(view[end : end + length], check, end)


def fetch_footer(store: ObjectStore, pack_id: bytes, size: int) -> PackIndex:
    """Return the index of a pack in a store, in one or two ranged reads.

    Parameters
    ----------
    store : ObjectStore
    pack_id : bytes
    size : int
        Of the object, as a listing tells it.

    Raises
    ------
    CorruptionError
        Not a pack of that size, or a damaged one; the message names the object.
    ObjectNotFoundError, StorageError
        From the store.
    """
    key = pack_key(pack_id)
    try:
        first = min(size, _FIRST_READ)
        tail = memoryview(store.get_range(key, size - first, first))
        length, check = _parse_trailer(tail[max(0, first - _TRAILER.size) :], size)
        end = size - _TRAILER.size - length
        if length + _TRAILER.size > first:
            stored = memoryview(store.get_range(key, end, length))
        else:
            stored = tail[first - _TRAILER.size - length : first - _TRAILER.size]
        return _parse_footer(stored, check, end)
    except CorruptionError as error:
        raise CorruptionError(f"{key}: {error}") from error


def iter_pack(data: BytesLike, *, pack_id: bytes | None = None) -> Iterator[tuple[ChunkRef, memoryview, int, Encoding]]:
    """Yield each chunk of a whole pack: its reference, encoded bytes, items and encoding, verified.

    Parameters
    ----------
    data : buffer
        The object.
    pack_id : bytes, optional
        Where given, the whole object is verified first.

    Raises
    ------
    CorruptionError
        Bytes that are not what their name says; the message tells which.
    """
    identity = blake3_256(data)
    if pack_id is not None and identity != pack_id:
        raise CorruptionError(
            f"{pack_key(pack_id)} is damaged: its BLAKE3-256 is {identity.hex()}; restore it from a clone or a backup"
        )
    index = read_footer(data)
    view = memoryview(data)
    for i, ref in enumerate(index.refs(identity)):
        chunk = view[ref.offset : ref.offset + ref.length]
        if blake3_160(chunk) != ref.digest:
            raise CorruptionError(f"{describe_ref(ref)} is damaged; restore the object from a clone or a backup")
        yield ref, chunk, int(index.items[i]), index.encodings[index.codes[i]]


def describe_ref(ref: ChunkRef) -> str:
    """Return what an error message calls a chunk."""
    return f"chunk {ref.digest.hex()} in {ref.key} at offset {ref.offset:,}"
