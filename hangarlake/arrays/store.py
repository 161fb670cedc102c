"""The Zarr store of a checkout: what zarr-python, xarray and Dask read and write through."""

from __future__ import annotations

import asyncio
import os
import secrets
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from hangarlake.arrays.detached import DetachedStore
from hangarlake.arrays.hierarchy import Hierarchy, WritableHierarchy
from hangarlake.chunks.packs import ChunkRef
from hangarlake.errors import ReadOnlyError
from hangarlake.storage.executors import cpu_pool, io_pool

if TYPE_CHECKING:
    from hangarlake.checkout import BaseCheckout

__all__ = ["HangarlakeStore"]

T = TypeVar("T")

# What is shorter is read from a local file, or hashed, sooner than another thread wakes up.
_INLINE_BYTES = 256 << 10
_LISTED_AT_ONCE = 4096


class HangarlakeStore(Store):
    """The Zarr hierarchy of a checkout as a Zarr store: read-only of a :class:`~hangarlake.Checkout`, writable of a write checkout.

    What is written is staged, and committed with everything else by ``w.commit``. A read-only store pickles; a writable one is
    itself again in its own process only, and refuses everything elsewhere (use ``w.fork()`` there).

    Parameters
    ----------
    checkout : Checkout or WriteCheckout
    read_only : bool, optional
        By default whether the checkout is.

    Raises
    ------
    ReadOnlyError
        For a writable store of a read-only checkout.
    """

    supports_writes: bool = True
    supports_deletes: bool = True
    supports_listing: bool = True

    def __init__(self, checkout: BaseCheckout, *, read_only: bool | None = None) -> None:
        writes = checkout.is_writable
        if read_only is False and not writes:
            raise ReadOnlyError(
                "this checkout is read-only, and so is its store; open one with repo.checkout(branch, write=True)"
            )
        super().__init__(read_only=not writes if read_only is None else read_only)
        self._checkout = checkout
        self._core: Hierarchy = checkout.hierarchy
        self._local = checkout.chunks.local

    @property
    def supports_consolidated_metadata(self) -> bool:
        """``False``: all metadata lies in the catalog, so that copies of it would only grow stale."""
        return False

    @property
    def checkout(self) -> BaseCheckout:
        """The checkout that this is the store of."""
        return self._checkout

    def with_read_only(self, read_only: bool = False) -> HangarlakeStore:
        """Return a store of the same checkout that is read-only, or not.

        Raises
        ------
        ReadOnlyError
            For a writable store of a read-only checkout.
        """
        return type(self)(self._checkout, read_only=read_only)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, HangarlakeStore)
            and self.read_only == other.read_only
            and self._checkout.same_view(other._checkout)
        )

    __hash__ = None  # type: ignore[assignment]  # equal stores are equal by what they show

    def __repr__(self) -> str:
        return f"<HangarlakeStore of {self._checkout!r}{', read-only' if self.read_only else ''}>"

    def __str__(self) -> str:
        return self._checkout.place

    def __reduce__(self) -> tuple[Any, ...]:
        if self._checkout.is_writable:
            return _find_writer, (_token_of(self._checkout), os.getpid(), self.read_only)
        return _reopen, (self._checkout,)

    def _writer(self) -> WritableHierarchy:
        self._check_writable()
        core = self._core
        assert isinstance(core, WritableHierarchy)
        return core

    # ---- reading ----------------------------------------------------------------------------------------------------

    def get_sync(
        self, key: str, *, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the value of a key, or a part of it; ``None`` if there is none."""
        _check_range(byte_range)
        found = self._core.locate(key)
        return self._take(found, prototype or default_buffer_prototype(), byte_range)

    def _take(
        self, found: bytes | ChunkRef | None, prototype: BufferPrototype, byte_range: ByteRequest | None
    ) -> Buffer | None:
        if found is None:
            return None
        if isinstance(found, ChunkRef):
            if byte_range is None:
                data = self._core.read(found)
            else:
                start, stop = _bounds(byte_range, found.length)
                data = self._core.read_part(found, start, stop - start)
        elif byte_range is None:
            data = found
        else:
            start, stop = _bounds(byte_range, len(found))
            data = found[start:stop]
        return prototype.buffer.from_bytes(data)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return the value of a key, or a part of it; ``None`` if there is none."""
        if not self._is_open:
            await self._open()
        _check_range(byte_range)
        if self._local:
            found = self._core.locate(key)
            if not isinstance(found, ChunkRef) or found.length <= _INLINE_BYTES:
                return self._take(found, prototype, byte_range)
            return await _in_thread(lambda: self._take(found, prototype, byte_range))
        if key.endswith("zarr.json"):
            found = self._core.locate(key)
            return self._take(found, prototype, byte_range)
        return await _in_thread(lambda: self.get_sync(key, prototype=prototype, byte_range=byte_range))

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return the values of several keys, or parts of them, in order."""
        return list(await asyncio.gather(*(self.get(key, prototype, byte_range) for key, byte_range in key_ranges)))

    async def exists(self, key: str) -> bool:
        """Tell whether there is a value under a key."""
        return await self._run(lambda: self._core.locate(key) is not None)

    async def getsize(self, key: str) -> int:
        """Return the bytes of a value, without reading it."""
        size = await self._run(lambda: self._core.size(key))
        if size is None:
            raise FileNotFoundError(key)
        return size

    async def getsize_prefix(self, prefix: str) -> int:
        """Return the bytes of all values below a path, without reading any."""
        path = prefix.strip("/")
        return await _in_thread(lambda: self._core.size_prefix(f"{path}/" if path else ""))

    async def _run(self, function: Callable[[], T]) -> T:
        if not self._is_open:
            await self._open()
        return function() if self._local else await _in_thread(function)

    # ---- listing ----------------------------------------------------------------------------------------------------

    async def list(self) -> AsyncIterator[str]:
        """Yield all keys."""
        async for key in self.list_prefix(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield all keys that start with a prefix."""
        keys: Iterator[str] = self._core.list_prefix(prefix.lstrip("/"))
        while True:
            batch = await self._run(lambda: tuple(islice(keys, _LISTED_AT_ONCE)))
            for key in batch:
                yield key
            if len(batch) < _LISTED_AT_ONCE:
                return

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the next parts of all keys below a path."""
        for part in await self._run(lambda: self._core.list_dir(prefix.strip("/"))):
            yield part

    # ---- writing ----------------------------------------------------------------------------------------------------

    def set_sync(self, key: str, value: Buffer) -> None:
        """Stage a value under a key."""
        self._writer().set(key, _bytes_of(value))

    async def set(self, key: str, value: Buffer) -> None:
        """Stage a value under a key. Raises as :meth:`~hangarlake.arrays.hierarchy.WritableHierarchy.set`."""
        if not self._is_open:
            await self._open()
        core, data = self._writer(), _bytes_of(value)
        if len(data) <= _INLINE_BYTES:
            core.set(key, data)
        else:
            await asyncio.get_running_loop().run_in_executor(cpu_pool(), core.set, key, data)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Stage a value under a key that has none; looking and setting are one step."""
        if not self._is_open:
            await self._open()
        self._writer().set_if_absent(key, _bytes_of(value))

    def delete_sync(self, key: str) -> None:
        """Stage the removal of a key; one that is absent is no error."""
        self._writer().delete(key)

    async def delete(self, key: str) -> None:
        """Stage the removal of a key; one that is absent is no error."""
        core = self._writer()
        await self._run(lambda: core.delete(key))

    async def delete_dir(self, prefix: str) -> None:
        """Stage the removal of everything below a path: book-keeping alone, whatever there is. Columns stay."""
        core = self._writer()
        await self._run(lambda: core.delete_dir(prefix.strip("/")))


async def _in_thread(function: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(io_pool(), function)


def _bytes_of(value: Buffer) -> bytes:
    if not isinstance(value, Buffer):
        raise TypeError(f"a Zarr store keeps buffers, not {type(value).__name__}")
    return value.to_bytes()


def _check_range(byte_range: object) -> None:
    if byte_range is not None and not isinstance(byte_range, RangeByteRequest | OffsetByteRequest | SuffixByteRequest):
        raise ValueError(f"Unexpected byte_range, got {byte_range}.")


def _bounds(byte_range: ByteRequest, size: int) -> tuple[int, int]:
    """Return start and stop of a request within a value of `size` bytes."""
    if isinstance(byte_range, RangeByteRequest):
        start, stop = byte_range.start, byte_range.end
    elif isinstance(byte_range, OffsetByteRequest):
        start, stop = byte_range.offset, size
    else:
        start, stop = size - byte_range.suffix, size
    start = min(max(start, 0), size)
    return start, min(max(stop, start), size)


# ---- pickling -----------------------------------------------------------------------------------------------------------

_writers: weakref.WeakValueDictionary[str, BaseCheckout] = weakref.WeakValueDictionary()
_tokens: weakref.WeakKeyDictionary[BaseCheckout, str] = weakref.WeakKeyDictionary()


def _token_of(checkout: BaseCheckout) -> str:
    token = _tokens.setdefault(checkout, secrets.token_hex(16))
    _writers[token] = checkout
    return token


def _find_writer(token: str, pid: int, read_only: bool) -> HangarlakeStore | DetachedStore:
    checkout = _writers.get(token) if pid == os.getpid() else None
    if checkout is None:
        return DetachedStore((_find_writer, (token, pid, read_only)), read_only=read_only)
    return HangarlakeStore(checkout, read_only=read_only)


def _reopen(checkout: BaseCheckout) -> HangarlakeStore:
    return HangarlakeStore(checkout)
