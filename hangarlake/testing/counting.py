"""A store that counts requests, and finds the longest chain of those that had to wait for each other."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from hangarlake.testing.wrapping import WrappingStore

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterator, Sequence

    from hangarlake.storage.base import Buffer, ByteRange, ObjectInfo, ObjectStore

__all__ = ["CountingStore", "Request"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request:
    """One request to a store.

    Attributes
    ----------
    op : str
        ``"get"``, ``"get_ranges"`` (one request for each range), ``"put"``, ``"put_new"``, ``"list"``,
        ``"list_prefixes"``, ``"delete"`` or ``"exists"``.
    key : str
        The object's key, or the prefix of a listing; of a deletion all keys, with commas between them.
    bytes : int
        Received or sent; 0 for a request that failed.
    start, end : float
        Seconds of the monotonic clock.
    """

    op: str
    key: str
    bytes: int
    start: float
    end: float


class CountingStore(WrappingStore):
    """A store that passes everything on to another one and records it. May be called from any thread.

    Pickles to a counting store of its own, with nothing recorded.

    Parameters
    ----------
    inner : ObjectStore
    latency : float
        Seconds that every request takes longer. Requests that were made at once, to a store that answers within
        microseconds, may happen to run one after the other and look dependent; a few milliseconds tell them apart.
    """

    def __init__(self, inner: ObjectStore, latency: float = 0.0) -> None:
        super().__init__(inner)
        self.latency = latency
        self._requests: list[Request] = []
        self._lock = threading.Lock()

    # ---- what was counted ------------------------------------------------------------------------------------------

    @property
    def requests(self) -> builtins.list[Request]:
        """The requests so far, in the order in which they ended."""
        with self._lock:
            return list(self._requests)

    @property
    def bytes_read(self) -> int:
        """Bytes that came back from `get` and `get_ranges`."""
        return sum(item.bytes for item in self.requests if item.op in ("get", "get_ranges"))

    @property
    def bytes_written(self) -> int:
        """Bytes that `put` and `put_new` sent."""
        return sum(item.bytes for item in self.requests if item.op in ("put", "put_new"))

    def round_trips(self) -> int:
        """Return the length of the longest chain of requests of which each started after the one before had ended."""
        # The greatest number of intervals that do not overlap: always take the one that ends first.
        length, last = 0, float("-inf")
        for end, start in sorted((item.end, item.start) for item in self.requests):
            if start >= last:
                length, last = length + 1, end
        return length

    def reset(self) -> None:
        """Forget what was recorded."""
        with self._lock:
            self._requests.clear()

    # ---- the port --------------------------------------------------------------------------------------------------

    def get(self, key: str) -> bytes:
        return self._record("get", key, lambda: self.inner.get(key), len)

    def get_bounded(self, key: str, limit: int) -> bytes:
        return self._record("get", key, lambda: self.inner.get_bounded(key, limit), len)

    def get_ranges(self, ranges: Sequence[ByteRange]) -> builtins.list[Buffer]:
        start = time.monotonic()
        self._wait()
        try:
            results = self.inner.get_ranges(ranges)
        except BaseException:
            self._add([Request("get_ranges", item.key, 0, start, time.monotonic()) for item in ranges if item.length])
            raise
        end = time.monotonic()
        self._add([Request("get_ranges", item.key, item.length, start, end) for item in ranges if item.length])
        return results

    def put(self, key: str, data: Buffer) -> None:
        self._record("put", key, lambda: self.inner.put(key, data), lambda _: memoryview(data).nbytes)

    def put_new(self, key: str, data: Buffer) -> bool:
        return self._record("put_new", key, lambda: self.inner.put_new(key, data), lambda _: memoryview(data).nbytes)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        # Read to its end: a listing that is consumed slowly would seem to take as long as its consumer.
        yield from self._record("list", prefix, lambda: [*self.inner.list(prefix)], lambda _: 0)

    def list_prefixes(self, prefix: str) -> builtins.list[str]:
        return self._record("list_prefixes", prefix, lambda: self.inner.list_prefixes(prefix), lambda _: 0)

    def delete(self, keys: Sequence[str]) -> None:
        self._record("delete", ",".join(keys), lambda: self.inner.delete(keys), lambda _: 0)

    def exists(self, key: str) -> bool:
        return self._record("exists", key, lambda: self.inner.exists(key), lambda _: 0)

    def __reduce__(self) -> tuple[type[CountingStore], tuple[ObjectStore, float]]:
        return CountingStore, (self.inner, self.latency)

    def _record(self, op: str, key: str, call: Callable[[], T], size: Callable[[T], int]) -> T:
        start = time.monotonic()
        self._wait()
        try:
            result = call()
        except BaseException:
            self._add([Request(op, key, 0, start, time.monotonic())])
            raise
        self._add([Request(op, key, size(result), start, time.monotonic())])
        return result

    def _wait(self) -> None:
        if self.latency:
            time.sleep(self.latency)

    def _add(self, requests: Sequence[Request]) -> None:
        with self._lock:
            self._requests.extend(requests)
