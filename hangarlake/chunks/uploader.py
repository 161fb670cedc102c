"""Uploading new chunks: gathered into packs, or as objects of their own, while the writer goes on."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from hangarlake.chunks.packs import SOLO_BYTES, ChunkRef, Pack, PackBuilder
from hangarlake.storage.executors import io_pool

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from hangarlake.chunks.encodings import Encoding
    from hangarlake.storage.base import ObjectStore

__all__ = ["ChunkUploader", "PendingChunk"]

# Packs and large chunks that may be on their way at once: bounds the memory of a writer.
_IN_FLIGHT_BYTES = 40 << 20
# Places of committed chunks that are remembered, so that equal ones need not be uploaded again: some 300 bytes each.
_KEPT_PLACES = 1 << 17


class PendingChunk(NamedTuple):
    """An encoded chunk that is in no pack yet."""

    data: bytes
    items: int
    encoding: Encoding


class ChunkUploader:
    """Takes encoded chunks from one writer. May be called from several threads.

    A chunk is known by its digest: adding it again costs nothing. Its bytes stay in memory until they are
    durable in the bucket; :meth:`pending` finds them there. Once :meth:`flush` has returned, :attr:`places` tells where
    every chunk lies. A failed upload is kept and tried again by the next :meth:`flush`.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._builder = PackBuilder()
        self._pending: dict[bytes, PendingChunk] = {}
        self._unpacked: dict[bytes, PendingChunk] = {}
        # What is on its way (None in place of an upload that failed or never began, and is to be done by whoever waits for it).
        self._flying: deque[tuple[Future[None] | None, str, bytes, list[bytes]]] = deque()
        self._flying_bytes = 0
        self._lock = threading.RLock()
        # Where chunks lie: digest → reference. Chunks appear here as soon as their pack is sealed.
        self.places: dict[bytes, ChunkRef] = {}
        self._committed = 0
        self.bytes_added = 0

    def add(self, digest: bytes, data: bytes, items: int, encoding: Encoding, *, solo_bytes: int = SOLO_BYTES) -> None:
        """Take an encoded chunk.

        Parameters
        ----------
        digest : bytes
            BLAKE3-160 of `data`.
        data : bytes
        items : int
            Rows or elements, as in chunk tables.
        encoding : Encoding
        solo_bytes : int
            The size from which the chunk becomes an object of its own.

        Raises
        ------
        StorageError
            If an earlier upload failed. The chunk has been taken all the same.
        """
        with self._lock:
            if digest in self._pending or digest in self.places:
                return
            chunk = PendingChunk(data, items, encoding)
            self._pending[digest] = chunk
            self.bytes_added += len(data)
            if len(data) >= solo_bytes:
                ref = ChunkRef(digest, None, 0, len(data))
                self.places[digest] = ref
                self._send(ref.key, data, [digest])
            else:
                self._unpacked[digest] = chunk
                self._builder.add(digest, data, items, encoding)
                if self._builder.full:
                    self._seal()

    def pending(self, digest: bytes) -> PendingChunk | None:
        """Return a chunk whose bytes are not known to be in the bucket yet."""
        return self._pending.get(digest)

    def unpacked(self) -> Mapping[bytes, PendingChunk]:
        """Return the chunks that are in no pack yet: what staging must keep itself."""
        return dict(self._unpacked)

    def adopt(self, places: Iterable[ChunkRef], unpacked: Mapping[bytes, PendingChunk]) -> None:
        """Take over what an earlier session of this writer had uploaded, and what it had kept."""
        with self._lock:
            self.places.update((ref.digest, ref) for ref in places)
            for digest, chunk in unpacked.items():
                self.add(digest, chunk.data, chunk.items, chunk.encoding)

    def seal(self) -> None:
        """Make a pack of what has gathered, and begin to upload it."""
        with self._lock:
            if self._builder.count:
                self._seal()

    def _seal(self) -> None:
        pack: Pack = self._builder.finish()
        self.places.update(pack.refs)
        self._unpacked.clear()
        self._send(pack.key, pack.data, list(pack.refs))

    def _send(self, key: str, data: bytes, digests: list[bytes]) -> None:
        flight: Future[None] | None
        try:
            flight = io_pool().submit(self._store.put, key, data)
        except RuntimeError:  # no new threads at interpreter exit: the next flush uploads it
            flight = None
        self._flying.append((flight, key, data, digests))
        self._flying_bytes += len(data)
        while len(self._flying) > 1 and self._flying_bytes > _IN_FLIGHT_BYTES:
            self._land()

    def _land(self) -> None:
        """Wait for the oldest upload, or repeat it if it had failed."""
        flight, key, data, digests = self._flying.popleft()
        try:
            if flight is None:
                self._store.put(key, data)
            else:
                flight.result()
        except BaseException:
            self._flying.append((None, key, data, digests))
            raise
        self._landed(data, digests)

    def _landed(self, data: bytes, digests: list[bytes]) -> None:
        self._flying_bytes -= len(data)
        for digest in digests:
            self._pending.pop(digest, None)

    def flush(self, *, seal: bool = True) -> None:
        """Wait until everything (except, without `seal`, what is in no pack yet) is durable in the bucket.

        Raises
        ------
        StorageError
            If an upload failed; nothing is lost, call it again.
        """
        with self._lock:
            if seal:
                self.seal()
            for _ in range(len(self._flying)):
                self._land()

    def settle(self) -> bool:
        """Take note that a commit names all chunks so far, which bounds the memory of a writer that goes on for long.

        Returns
        -------
        bool
            Whether places of earlier commits were forgotten: then nothing may look for pending chunks of these any more.
        """
        with self._lock:
            surplus = 0
            if len(self.places) > _KEPT_PLACES:
                surplus = min(self._committed, len(self.places) - _KEPT_PLACES // 2)  # by halves, so that it is rare
                self.places = dict(
                    islice(self.places.items(), surplus, None)
                )  # another dict: who looks has the old one
            self._committed = len(self.places)
            return surplus > 0

    def forget(self) -> None:
        """Drop what is pending, after a reset. Uploads under way end by themselves; what they leave is garbage."""
        with self._lock:
            self._builder = PackBuilder()
            self._pending.clear()
            self._unpacked.clear()
            self._flying.clear()
            self._flying_bytes = 0
            self.places = {}
            self._committed = 0
