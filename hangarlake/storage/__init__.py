"""The storage port and its engines: immutable bytes under keys, in any bucket."""

from hangarlake.storage.base import Buffer, ByteRange, ObjectInfo, ObjectStore
from hangarlake.storage.executors import cpu_count, cpu_pool, io_pool, map_io, put_all
from hangarlake.storage.fsspec_store import FsspecStore
from hangarlake.storage.local import LocalStore
from hangarlake.storage.memory import MemoryStore
from hangarlake.storage.obstore_store import ObstoreStore
from hangarlake.storage.probe import probe_create_if_absent
from hangarlake.storage.redact import redact_url
from hangarlake.storage.retry import RetryPolicy
from hangarlake.storage.url import StoreLike, open_store

__all__ = [
    "Buffer",
    "ByteRange",
    "FsspecStore",
    "LocalStore",
    "MemoryStore",
    "ObjectInfo",
    "ObjectStore",
    "ObstoreStore",
    "RetryPolicy",
    "StoreLike",
    "cpu_count",
    "cpu_pool",
    "io_pool",
    "map_io",
    "open_store",
    "probe_create_if_absent",
    "put_all",
    "redact_url",
]
