"""A store that passes everything on to another one: what aids that watch or disturb a store are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hangarlake.storage.base import ObjectStore

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterator, Sequence

    from hangarlake.storage.base import Buffer, ByteRange, ObjectInfo

__all__ = ["WrappingStore"]


class WrappingStore(ObjectStore):
    """A store in front of another one. Derive from it, and override the requests that are to be different.

    A range is a request of `get_ranges`, that of `get_range` too. Copies in the server are not passed on, because no
    request of theirs could be seen: what is copied is read and written.

    Parameters
    ----------
    inner : ObjectStore
    """

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner
        self.url = inner.url

    @property
    def place(self) -> str:
        return self.inner.place

    @property
    def creates_atomically(self) -> bool:
        return self.inner.creates_atomically

    @property
    def creates_unsafely(self) -> bool:
        return self.inner.creates_unsafely

    @property
    def can_list(self) -> bool:
        return self.inner.can_list

    def get(self, key: str) -> bytes:
        return self.inner.get(key)

    def get_ranges(self, ranges: Sequence[ByteRange]) -> builtins.list[Buffer]:
        return self.inner.get_ranges(ranges)

    def put(self, key: str, data: Buffer) -> None:
        self.inner.put(key, data)

    def put_new(self, key: str, data: Buffer) -> bool:
        return self.inner.put_new(key, data)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        yield from self.inner.list(prefix)

    def list_prefixes(self, prefix: str) -> builtins.list[str]:
        return self.inner.list_prefixes(prefix)

    def delete(self, keys: Sequence[str]) -> None:
        self.inner.delete(keys)

    def exists(self, key: str) -> bool:
        return self.inner.exists(key)

    def close(self) -> None:
        self.inner.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inner!r})"
