"""History segments: the records of many ancestors in one object (docs/format.md §13).

Commits name their parents only, so a walk through objects alone costs one round trip for each generation. A segment
beside every sixteenth commit holds the sixteen generations below it, one beside every 256th all 256; each ends with the
commit beside which the next one is. So a walk of n generations takes about 30 + n/256 round trips.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from blake3 import blake3

from hangarlake.chunks import zstd
from hangarlake.errors import CorruptionError, ObjectNotFoundError
from hangarlake.records.canonical import object_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hangarlake.storage.base import ObjectStore

__all__ = ["SEGMENT_LINES", "decode_segment", "encode_segment", "read_segment", "segment_key", "segment_span"]

_log = logging.getLogger(__name__)

#: The most lines and bytes that a segment is given, and the most bytes that a reader unpacks.
SEGMENT_LINES = 4096
SEGMENT_BYTES = 4 * 2**20
SEGMENT_LIMIT = 64 * 2**20


def segment_key(commit_id: str) -> str:
    """Return the key of the segment beside a commit. Raises like :func:`~hangarlake.records.canonical.object_key`."""
    return object_key("history", commit_id)


def segment_span(generation: int) -> int:
    """Return how many generations the segment beside a commit of this one covers; 0 where there is no segment."""
    if generation <= 0 or generation % 16:
        return 0
    return 256 if generation % 256 == 0 else 16


def encode_segment(records: Iterable[bytes]) -> bytes:
    """Pack commit records, the commit itself first; the last ones are left out where there are too many."""
    lines: list[bytes] = []
    size = 0
    for record in records:
        size += len(record) + 1
        if len(lines) == SEGMENT_LINES or size > SEGMENT_BYTES:
            break
        if b"\n" not in record:
            lines.append(record)
    return zstd.compress(b"\n".join(lines) + b"\n", 3)


def decode_segment(data: bytes, what: str) -> dict[str, bytes]:
    """Return the records of a segment by the ids that they hash to: whoever looks one up by its id has verified it.

    Raises
    ------
    CorruptionError
        If it cannot be unpacked.
    """
    try:
        text = zstd.decompress(data, limit=SEGMENT_LIMIT)
    except CorruptionError as error:
        raise CorruptionError(f"{what} is not a history segment, or damaged: {error}") from error
    return {blake3(line).hexdigest(): line for line in text.split(b"\n") if line}


def read_segment(store: ObjectStore, commit_id: str) -> dict[str, bytes]:
    """Return what the segment beside a commit holds, as :func:`decode_segment` does.

    Segments are conveniences: a missing or damaged one gives an empty answer.
    """
    key = segment_key(commit_id)
    try:
        return decode_segment(store.get(key), key)
    except ObjectNotFoundError:
        return {}
    except OSError as error:
        _log.warning("history segment not used: %s", error)
        return {}
