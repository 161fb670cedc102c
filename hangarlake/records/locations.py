"""Location segments: where chunks lie in a clone that keeps them in other packs than its trees say (docs/format.md §14)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hangarlake.chunks.compressors import compressor
from hangarlake.chunks.digests import blake3_256
from hangarlake.chunks.packs import ChunkRef
from hangarlake.errors import CorruptionError

__all__ = ["LOCATIONS", "SEGMENT_ROWS", "Locations", "decode_locations", "encode_locations", "location_key"]

LOCATIONS = "locations/"
#: The most rows that one segment has.
SEGMENT_ROWS = 1 << 20

_MAGIC = b"HLLOC001"
_SOLO = 0xFFFF
_ROW_BYTES = 20 + 2 + 8 + 8
_LIMIT = 16 + 32 * _SOLO + SEGMENT_ROWS * _ROW_BYTES

Digests: TypeAlias = npt.NDArray[np.bytes_]


def location_key(segment_id: bytes) -> str:
    """Return the object key of a segment."""
    name = segment_id.hex()
    return f"{LOCATIONS}{name[:2]}/{name}"


def _zstd() -> Any:
    return compressor("zstd", {"level": 3}, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Locations:
    """Where chunks lie: n rows, sorted by digest, each digest once.

    Attributes
    ----------
    digests : S20 (n,)
    packs : int32 (n,)
        Index into `pack_ids`; −1: the chunk is an object of its own.
    offsets, lengths : uint64 (n,)
    pack_ids : tuple of bytes
        32 bytes each.
    """

    digests: Digests
    packs: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.uint64]
    lengths: npt.NDArray[np.uint64]
    pack_ids: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, refs: Iterable[ChunkRef]) -> Locations:
        """Build from references; of several for one chunk the last counts."""
        rows = sorted({ref.digest: ref for ref in refs}.values(), key=lambda ref: ref.digest)
        index: dict[bytes, int] = {}
        return cls(
            np.array([ref.digest for ref in rows], dtype="S20"),
            np.array([-1 if r.pack is None else index.setdefault(r.pack, len(index)) for r in rows], np.int32),
            np.array([ref.offset for ref in rows], np.uint64),
            np.array([ref.length for ref in rows], np.uint64),
            tuple(index),
        )

    @classmethod
    def concat(cls, parts: Sequence[Locations]) -> Locations:
        """Join several; where they know the same chunk, the last one counts."""
        if len(parts) == 1:
            return parts[0]
        index: dict[bytes, int] = {}
        packs = []
        for part in parts:
            remap = np.array([index.setdefault(pack, len(index)) for pack in part.pack_ids] + [-1], np.int32)
            packs.append(remap[part.packs])
        digests = np.concatenate([part.digests for part in parts] or [np.empty(0, "S20")])
        # The first of equal digests, seen from the end.
        kept, where = np.unique(digests[::-1], return_index=True)
        rows = len(digests) - 1 - where
        return cls(
            kept,
            np.concatenate(packs or [np.empty(0, np.int32)])[rows],
            np.concatenate([part.offsets for part in parts] or [np.empty(0, np.uint64)])[rows],
            np.concatenate([part.lengths for part in parts] or [np.empty(0, np.uint64)])[rows],
            tuple(index),
        )

    def __len__(self) -> int:
        return len(self.digests)

    def _ref(self, digest: bytes, row: int) -> ChunkRef:
        code = int(self.packs[row])
        pack = self.pack_ids[code] if code >= 0 else None
        return ChunkRef(digest, pack, int(self.offsets[row]), int(self.lengths[row]))

    def find(self, digests: Sequence[bytes]) -> list[ChunkRef | None]:
        """Return where chunks lie, in the order asked for; ``None`` for those that no row names."""
        if not len(self) or not digests:
            return [None] * len(digests)
        wanted = np.array(digests, dtype="S20")
        at = np.minimum(np.searchsorted(self.digests, wanted), len(self) - 1)
        hit = self.digests[at] == wanted
        return [
            self._ref(digest, row) if found else None
            for digest, row, found in zip(digests, at.tolist(), hit.tolist(), strict=True)
        ]

    def refs(self) -> Iterator[ChunkRef]:
        """Yield every row as a reference."""
        raw = np.ascontiguousarray(self.digests).tobytes()
        for row in range(len(self)):
            yield self._ref(raw[20 * row : 20 * row + 20], row)


def _planes(array: npt.NDArray[Any], dtype: str) -> bytes:
    typed = np.ascontiguousarray(array.astype(dtype))
    return typed.view(np.uint8).reshape(-1, typed.dtype.itemsize).T.tobytes()


def encode_locations(locations: Locations) -> tuple[bytes, bytes]:
    """Return the id and the bytes of a segment.

    Raises
    ------
    ValueError
        If it has no rows, or more rows or packs than a segment may have.
    """
    n, p = len(locations), len(locations.pack_ids)
    if not 0 < n <= SEGMENT_ROWS:
        raise ValueError(f"a location segment has 1 to {SEGMENT_ROWS:,} rows, not {n:,}")
    if p >= _SOLO:
        raise ValueError(f"a location segment names at most {_SOLO - 1:,} packs, not {p:,}")
    raw = np.ascontiguousarray(locations.digests).tobytes()
    body = b"".join(
        (
            _MAGIC,
            n.to_bytes(4, "little"),
            p.to_bytes(4, "little"),
            *locations.pack_ids,
            raw,
            _planes(np.where(locations.packs < 0, _SOLO, locations.packs), "<u2"),
            _planes(locations.offsets, "<u8"),
            _planes(locations.lengths, "<u8"),
        )
    )
    data = bytes(_zstd().encode(body))
    return blake3_256(data), data


def decode_locations(segment_id: bytes, data: bytes) -> Locations:
    """Read a segment's bytes, verifying them against its id.

    Raises
    ------
    CorruptionError
        If they are not what the name says, or are no segment.
    """
    what = location_key(segment_id)
    if blake3_256(data) != segment_id:
        raise CorruptionError(f"{what} is damaged: its bytes do not hash to its name")
    body = bytes(_zstd().decode(data, _LIMIT, False))
    n, p = int.from_bytes(body[8:12], "little"), int.from_bytes(body[12:16], "little")
    if body[:8] != _MAGIC or not 0 < n <= SEGMENT_ROWS or p >= _SOLO or len(body) != 16 + 32 * p + _ROW_BYTES * n:
        raise CorruptionError(f"{what} is not a location segment")
    ids = tuple(body[at : at + 32] for at in range(16, 16 + 32 * p, 32))
    at = 16 + 32 * p
    digests = np.frombuffer(body, "S20", n, at)
    at += 20 * n

    def planes(dtype: str) -> npt.NDArray[Any]:
        nonlocal at
        size = np.dtype(dtype).itemsize
        section = np.frombuffer(body, np.uint8, n * size, at).reshape(size, n)
        at += n * size
        return np.ascontiguousarray(section.T).view(dtype).reshape(n)

    codes = planes("<u2").astype(np.int32)
    packs = np.where(codes == _SOLO, -1, codes).astype(np.int32)
    offsets, lengths = planes("<u8"), planes("<u8")
    if n and int(packs.max()) >= p:
        raise CorruptionError(f"{what} names a pack that it does not list")
    order = np.argsort(digests, kind="stable")
    return Locations(digests[order], packs[order], offsets[order], lengths[order], ids)
