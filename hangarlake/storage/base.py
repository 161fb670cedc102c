"""The storage port: what a bucket must be able to do.

A store keeps immutable bytes under keys. Everything above it relies on exactly the contract that is written
in the docstrings here; ``hangarlake.testing.StoreConformance`` checks it, concurrency included.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from hangarlake.errors import CorruptionError, ObjectTruncatedError, StorageError

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterator, Sequence
    from datetime import datetime

__all__ = ["Buffer", "ByteRange", "ObjectInfo", "ObjectStore", "check_range"]

Buffer: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object of a listing.

    Attributes
    ----------
    key : str
        Relative to the store's root.
    size : int
        Bytes.
    modified : datetime or None
        Aware, UTC; ``None`` where the store does not tell.
    """

    key: str
    size: int
    modified: datetime | None = None


@dataclass(frozen=True, slots=True)
class ByteRange:
    """`length` bytes of object `key` from `start` on. Lengths are always known; there is no “to the end”."""

    key: str
    start: int
    length: int


def check_range(item: ByteRange, url: str) -> None:
    """Check that some object could have such a range; `url` is the store's, for the message.

    Raises
    ------
    StorageError
        A negative start or length.
    ObjectTruncatedError
        The range ends where no object reaches, as numbers in damaged data may have it; 64-bit clients would overflow.
    """
    if item.start < 0 or item.length < 0:
        raise StorageError(f"{item} is not a range of bytes of an object in {url}.")
    if item.start + item.length >= 1 << 63:
        raise ObjectTruncatedError(
            f"{item.key} in {url} ends early: {item.length} bytes were asked for from {item.start}, and no object is that long."
        )


class ObjectStore(ABC):
    """Immutable objects under keys, in one folder of one bucket.

    Keys are relative paths without a leading slash, of ``A-Za-z0-9._%-`` between slashes, without parts ``.`` and
    ``..``. Every method may be called from any thread. A store pickles to what is needed to open it again (url and
    options), and works after ``fork``: connections of the parent are never used in the child.

    Errors: :class:`~hangarlake.errors.ObjectNotFoundError` where a key is absent,
    :class:`~hangarlake.errors.AccessDeniedError`, at once, where the caller may not do that, and
    :class:`~hangarlake.errors.StorageError` (cause chained, never with credentials in its message) for everything else,
    after transient faults (time-outs, 429, 5xx, dropped connections) were retried with backoff.
    """

    # What a person typed, without credentials or options.
    url: str

    @property
    def place(self) -> str:
        """The URL, and which server it is on where that is not the cloud's own: for messages."""
        return self.url

    @property
    def creates_atomically(self) -> bool:
        """Whether :meth:`put_new` is known by construction to be atomic (local, memory). Others are probed."""
        return False

    @property
    def creates_unsafely(self) -> bool:
        """Whether :meth:`put_new` can only look first and write then: good enough for a single writer.

        A probe cannot find out, because it does not race; :func:`~hangarlake.storage.probe_create_if_absent` refuses
        such a store.
        """
        return False

    @property
    def can_list(self) -> bool:
        """Whether there are listings. Plain HTTP has none; everything that is read by name works there all the same."""
        return True

    @abstractmethod
    def get(self, key: str) -> bytes:
        """Return the whole object. Read-after-write consistent: it sees every `put` that has returned."""

    def get_bounded(self, key: str, limit: int) -> bytes:
        """Return the whole object if it has at most `limit` bytes: for objects that somebody else wrote.

        Unless an engine learns the length before it reads, the listing is asked for it; without listings all is read.

        Raises
        ------
        CorruptionError
            If the object is longer. Where its length is known, nothing of it has been read.
        """
        if self.can_list:
            self._check_length(key, next((info.size for info in self.list(key) if info.key == key), 0), limit)
        data = self.get(key)
        self._check_length(key, len(data), limit)
        return data

    def _check_length(self, key: str, length: int, limit: int) -> None:
        if length > limit:
            raise CorruptionError(
                f"{key} in {self.url} is longer than the {limit:,} bytes that it can have; it was refused"
            )

    @abstractmethod
    def get_ranges(self, ranges: Sequence[ByteRange]) -> builtins.list[Buffer]:
        """Return the bytes of each range, in order; concurrently where the store gains from that.

        The caller coalesces; an implementation does one request per range. An answer that is shorter than asked for
        (the object ends early) raises ``ObjectTruncatedError``; an answer with the whole object (status 200 instead of 206) is
        sliced. Zero-length ranges return ``b""`` without a request.
        """

    def get_range(self, key: str, start: int, length: int) -> Buffer:
        """Return one range: shorthand for :meth:`get_ranges`."""
        return self.get_ranges([ByteRange(key, start, length)])[0]

    @abstractmethod
    def put(self, key: str, data: Buffer) -> None:
        """Write an object, replacing any.

        Atomic: readers see the old bytes or the new, never a part. Durable when it returns.
        """

    @abstractmethod
    def put_new(self, key: str, data: Buffer) -> bool:
        """Create an object if the key is absent; tell whether this call created it.

        Of any number of concurrent calls on one key, in any processes on any machines, exactly one
        creates it and its bytes are whole. ``False`` means the object exists; after a retried request this may have
        been our own earlier attempt whose answer was lost, so callers that care read it back and compare. Durable when
        it returns.
        """

    @abstractmethod
    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object whose key starts with `prefix`, in key order.

        `prefix` is a plain string prefix, not only whole path parts.
        """

    @abstractmethod
    def list_prefixes(self, prefix: str) -> builtins.list[str]:
        """Return the distinct next path parts below `prefix`, sorted.

        One level of a listing, folders and objects alike. `prefix` is empty or ends in ``/``; anything else is a
        ``StorageError``.
        """

    @abstractmethod
    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; absent keys are no error."""

    def exists(self, key: str) -> bool:
        """Tell whether there is an object under exactly this key."""
        # Of all keys that start with it, in key order, it is the first.
        first = next(iter(self.list(key)), None)
        return first is not None and first.key == key

    def copy_from(self, source: ObjectStore, key: str) -> int | None:  # noqa: ARG002 - most engines cannot
        """Copy an object of another store under the same key without moving its bytes through this machine.

        Returns its size; ``None`` where the two stores do not share a server that can do it, and nothing was done. The bytes
        are not seen, so they are not verified: only for objects that are trusted. Raises ``ObjectNotFoundError`` where
        `source` has no such object.
        """
        return None

    def close(self) -> None:  # noqa: B027 -- most engines keep nothing that would have to be closed
        """Release connections and descriptors. The store may be used again; it reopens what it needs."""
