"""Objects in the memory of this process, shared by name."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakValueDictionary

from hangarlake.errors import ObjectNotFoundError, ObjectTruncatedError, StorageError
from hangarlake.storage.base import Buffer, ByteRange, ObjectInfo, ObjectStore, check_range
from hangarlake.storage.keys import check_folder, check_key, check_prefix, next_parts

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterator, Sequence

__all__ = ["MemoryStore"]


class _Object(NamedTuple):
    data: bytes
    modified: datetime


class _Bucket:
    """The objects of one name.

    Every operation is a single dict method, which CPython makes atomic; there is no lock that a fork could leave held
    for ever.
    """

    __slots__ = ("__weakref__", "name", "objects", "token")

    def __init__(self, name: str) -> None:
        self.name = name
        self.objects: dict[str, _Object] = {}
        # Tells this bucket from one of the same name in another process; forked children inherit it with the content.
        self.token = secrets.token_hex(8)


_named: dict[str, _Bucket] = {}
_anonymous: WeakValueDictionary[str, _Bucket] = WeakValueDictionary()


class MemoryStore(ObjectStore):
    """A store in memory.

    Stores of one name share their objects for as long as the process lives; a store without a name has its own, which
    are freed with the last store (and pickle) that refers to them.

    Parameters
    ----------
    name : str, optional
        What follows ``memory://``. Without it the store is anonymous.
    """

    def __init__(self, name: str | None = None) -> None:
        if name is None:
            bucket = _Bucket("anonymous-" + secrets.token_hex(8))
            _anonymous[bucket.name] = bucket
        else:
            name = name.strip("/")
            bucket = _named.setdefault(name, _Bucket(name))
        self._bucket = bucket
        self.url = f"memory://{bucket.name}"

    @property
    def creates_atomically(self) -> bool:
        return True

    def get(self, key: str) -> bytes:
        found = self._bucket.objects.get(key)
        if found is None:
            raise ObjectNotFoundError(f"There is no object {check_key(key)} in {self.url}.")
        return found.data

    def get_bounded(self, key: str, limit: int) -> bytes:
        data = self.get(key)
        self._check_length(key, len(data), limit)
        return data

    def get_ranges(self, ranges: Sequence[ByteRange]) -> builtins.list[Buffer]:
        return [self.get_range(item.key, item.start, item.length) for item in ranges]

    def get_range(self, key: str, start: int, length: int) -> Buffer:
        if length == 0:
            return b""
        data = self.get(key)
        if start < 0 or length < 0:
            check_range(ByteRange(key, start, length), self.url)
        if start + length > len(data):
            raise ObjectTruncatedError(f"{key} in {self.url} has {len(data)} bytes; cannot read {length} from {start}.")
        return data if length == len(data) else data[start : start + length]

    def put(self, key: str, data: Buffer) -> None:
        self._bucket.objects[check_key(key)] = _Object(bytes(data), datetime.now(UTC))

    def put_new(self, key: str, data: Buffer) -> bool:
        new = _Object(bytes(data), datetime.now(UTC))
        return self._bucket.objects.setdefault(check_key(key), new) is new

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        objects = self._bucket.objects.copy()
        for key in sorted(key for key in objects if key.startswith(prefix)):
            yield ObjectInfo(key, len(objects[key].data), objects[key].modified)

    def list_prefixes(self, prefix: str) -> builtins.list[str]:
        check_folder(prefix)
        return next_parts(list(self._bucket.objects.copy()), prefix)

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._bucket.objects.pop(check_key(key), None)

    def exists(self, key: str) -> bool:
        return check_key(key) in self._bucket.objects

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return _reopen, (self._bucket.name, self._bucket.token)

    def __repr__(self) -> str:
        return f"MemoryStore({self._bucket.name!r})"


def _reopen(name: str, token: str) -> MemoryStore:
    bucket = _named.get(name) or _anonymous.get(name)
    if bucket is None or bucket.token != token:
        # Opening an empty store here would look like data loss to whoever reads from it.
        raise StorageError(
            f"memory://{name} lives in the process that made it and cannot be opened in another one. "
            "Use a folder or a bucket to share a repository between processes."
        )
    store = MemoryStore.__new__(MemoryStore)
    store._bucket = bucket
    store.url = f"memory://{name}"
    return store
