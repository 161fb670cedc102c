"""Two bounded caches: decoded chunks in memory, and encoded chunks on a local disk."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import secrets
import threading
import time
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from filelock import FileLock, Timeout

from hangarlake.chunks.digests import DIGEST_SIZE, BytesLike, blake3_160

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    import numpy.typing as npt

__all__ = ["CacheStats", "ChunkCache", "DiskCache"]

logger = logging.getLogger(__name__)

_MIB: Final = 1 << 20
_LITTER_SECONDS: Final = 3600
Key: TypeAlias = "Hashable"


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a cache has done since it was made.

    Attributes
    ----------
    hits, misses, evictions : int
    entries, nbytes : int
        What it holds now.
    max_bytes : int
    """

    hits: int
    misses: int
    evictions: int
    entries: int
    nbytes: int
    max_bytes: int


_caches: weakref.WeakSet[ChunkCache] = weakref.WeakSet()


def _after_fork() -> None:
    # Another thread of the parent may have held a lock at the moment of the fork; nobody would ever release it here, nor
    # finish what it was counting.
    for cache in list(_caches):
        cache._lock = threading.Lock()
        cache._nbytes = sum(array.nbytes for array in cache._entries.values())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class ChunkCache:
    """Decoded chunks in memory, least recently used out first. Thread-safe; pickles empty.

    Parameters
    ----------
    max_bytes : int
        Bound of the arrays' bytes; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int = 256 * _MIB) -> None:
        self.max_bytes = max_bytes
        self._entries: OrderedDict[Key, npt.NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()
        self._nbytes = 0
        self._hits = 0
        self._misses = 0
        self._evictions = 0
        _caches.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return ChunkCache, (self.max_bytes,)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> npt.NDArray[Any] | None:
        """Return the read-only array under a key, or ``None``."""
        with self._lock:
            array = self._entries.get(key)
            if array is None:
                self._misses += 1
                return None
            self._entries.move_to_end(key)
            self._hits += 1
            return array

    def put(self, key: Key, array: npt.NDArray[Any]) -> None:
        """Keep an array that owns its memory; it becomes read-only. Larger than the whole cache: not kept."""
        array.flags.writeable = False
        size = array.nbytes
        if size > self.max_bytes:
            return
        with self._lock:
            old = self._entries.pop(key, None)
            self._entries[key] = array
            self._nbytes += size - (old.nbytes if old is not None else 0)
            while self._nbytes > self.max_bytes:
                _, evicted = self._entries.popitem(last=False)
                self._nbytes -= evicted.nbytes
                self._evictions += 1

    def clear(self) -> None:
        """Forget everything; statistics stay."""
        with self._lock:
            self._entries.clear()
            self._nbytes = 0

    @property
    def stats(self) -> CacheStats:
        with self._lock:
            return CacheStats(
                self._hits, self._misses, self._evictions, len(self._entries), self._nbytes, self.max_bytes
            )


class DiskCache:
    """Encoded chunks in a local folder, one file each, named by digest. Any number of threads and processes may share it.

    A file is written aside and renamed in, and is verified whenever it is read: a damaged one is removed and counts as
    absent. Eviction goes by the time of last use (a file's modification time), down to nine tenths of the bound. Failures of
    the disk are logged and cost speed, never an answer.

    Parameters
    ----------
    path : path-like
        Made when the first chunk is kept.
    max_bytes : int
        Bound of the files' sizes. Several processes together may pass it for a short while, by a sixteenth each.
    """

    def __init__(self, path: str | os.PathLike[str], max_bytes: int = 10 << 30) -> None:
        self.path = Path(path)
        self.max_bytes = max_bytes
        self._folder = os.fspath(self.path)
        # What was there at the last look, and what this process has added since; None: never looked.
        self._nbytes: int | None = None
        self._added = 0
        self._told: set[str] = set()
        self._hits = 0
        self._misses = 0
        self._evictions = 0

    def __reduce__(self) -> tuple[Any, ...]:
        return DiskCache, (self._folder, self.max_bytes)

    def _file(self, digest: bytes) -> str:
        name = digest.hex()
        return f"{self._folder}/{name[:2]}/{name}"

    def get(self, digest: bytes) -> bytes | None:
        """Return the encoded chunk of a digest, verified, or ``None``."""
        file = self._file(digest)
        try:
            with open(file, "rb") as stream:  # noqa: PTH123 - a Path object costs as much as the read
                data = stream.read()
        except FileNotFoundError:
            self._misses += 1
            return None
        except OSError as error:
            self._failed("read", error)
            self._misses += 1
            return None
        if blake3_160(data) != digest:
            logger.warning("disk cache %s: dropped a damaged file", self._folder)
            with contextlib.suppress(OSError):
                os.unlink(file)  # noqa: PTH108
            self._misses += 1
            return None
        with contextlib.suppress(OSError):
            os.utime(file)
        self._hits += 1
        return data

    def put(self, digest: bytes, data: BytesLike) -> None:
        """Keep an encoded chunk whose digest the caller has checked."""
        size = len(data)
        if size > self.max_bytes or len(digest) != DIGEST_SIZE:
            return
        file = self._file(digest)
        aside = f"{self._folder}/tmp/{os.getpid()}-{secrets.token_hex(8)}"
        try:
            if os.path.exists(file):  # noqa: PTH110
                return
            os.makedirs(os.path.dirname(file), exist_ok=True)  # noqa: PTH103, PTH120
            os.makedirs(os.path.dirname(aside), exist_ok=True)  # noqa: PTH103, PTH120
            try:
                with open(aside, "wb") as stream:  # noqa: PTH123
                    stream.write(data)
                os.replace(aside, file)  # noqa: PTH105
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(aside)  # noqa: PTH108
                raise
        except OSError as error:
            self._failed("written", error)
            return
        self._added += size
        if self._due(size):
            self.trim()

    def _failed(self, doing: str, error: OSError) -> None:
        # Once: on a full disk every chunk fails, and there are many.
        logger.log(
            logging.DEBUG if doing in self._told else logging.WARNING,
            "disk cache %s cannot be %s: %s",
            self._folder,
            doing,
            error,
        )
        self._told.add(doing)

    def _due(self, size: int) -> bool:
        """Tell whether to look at the folder, after `size` bytes more."""
        if self._added > self.max_bytes // 16:
            return True  # others add as well, so look now and then although this process alone has not filled it
        if self._nbytes is None:
            # Many short-lived processes must not all list a large folder, and must not all leave it to the others.
            return random.random() * self.max_bytes < 64 * size
        return self._nbytes + self._added > self.max_bytes

    def _files(self) -> Iterator[os.DirEntry[str]]:
        with contextlib.suppress(OSError), os.scandir(self._folder) as folders:
            for folder in folders:
                if len(folder.name) == 2 and folder.is_dir(follow_symlinks=False):
                    with contextlib.suppress(OSError), os.scandir(folder.path) as entries:
                        yield from entries

    def trim(self) -> None:
        """Look at what is there and, above the bound, remove what was not used for longest."""
        try:
            # One process tidies up; the others go on.
            with FileLock(f"{self._folder}/lock", timeout=0):
                self._trim()
        except (Timeout, OSError, NotImplementedError):  # the last: a file system without locks
            self._nbytes = (self._nbytes or 0) + self._added
            self._added = 0

    def _trim(self) -> None:
        with contextlib.suppress(OSError), os.scandir(f"{self._folder}/tmp") as entries:
            # What a process that died was writing.
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < time.time() - _LITTER_SECONDS:
                        os.unlink(entry.path)  # noqa: PTH108
        found: list[tuple[float, int, str]] = []
        for entry in self._files():
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                found.append((status.st_mtime, status.st_size, entry.path))
        total = sum(size for _, size, _ in found)
        if total > self.max_bytes:
            found.sort()
            for _, size, path in found:
                if total <= self.max_bytes - self.max_bytes // 10:
                    break
                with contextlib.suppress(OSError):
                    os.unlink(path)  # noqa: PTH108
                    self._evictions += 1
                total -= size
        self._nbytes = total
        self._added = 0

    @property
    def stats(self) -> CacheStats:
        """Counts of this process, and the folder as it is now (which lists it)."""
        sizes = []
        for entry in self._files():
            with contextlib.suppress(OSError):
                sizes.append(entry.stat(follow_symlinks=False).st_size)
        return CacheStats(self._hits, self._misses, self._evictions, len(sizes), sum(sizes), self.max_bytes)
