"""The storage port and its engines: immutable bytes under keys, in any bucket."""

from hangarlake.storage.base import Buffer, ByteRange, ObjectInfo, ObjectStore
from hangarlake.storage.executors import cpu_count, cpu_pool, io_pool, map_io, put_all
from hangarlake.storage.local import LocalStore
from hangarlake.storage.memory import MemoryStore

__all__ = [
    "Buffer",
    "ByteRange",
    "LocalStore",
    "MemoryStore",
    "ObjectInfo",
    "ObjectStore",
    "cpu_count",
    "cpu_pool",
    "io_pool",
    "map_io",
    "put_all",
]
