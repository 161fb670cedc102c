"""Reads chunks: from the caches, else from the store in few, concurrent, verified ranges, decoded on threads."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from hangarlake.chunks.codecs import decode_chunk
from hangarlake.chunks.digests import BytesLike, blake3_160
from hangarlake.chunks.packs import ChunkRef, describe_ref
from hangarlake.errors import (
    CorruptionError,
    DataNotLocalError,
    ObjectNotFoundError,
    ObjectTruncatedError,
    UnsupportedFormatError,
)
from hangarlake.storage import ByteRange, cpu_count, cpu_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Future

    import numpy.typing as npt

    from hangarlake.chunks.cache import ChunkCache, DiskCache
    from hangarlake.chunks.encodings import Encoding
    from hangarlake.storage import ObjectStore

__all__ = ["ChunkReader", "ChunkRequest"]

# Of a bucket, one request more costs as much time as 64 KiB; of a file it costs a system call.
_REMOTE_GAP: Final = 64 << 10
_REMOTE_RANGE: Final = 4 << 20
_REMOTE_BATCH: Final = 16 << 20
_LOCAL_GAP: Final = 4 << 10
_LOCAL_RANGE: Final = 1 << 20
_LOCAL_BATCH: Final = 1 << 20
_BATCH_RANGES: Final = 64

# A thread's share of a read is not made smaller than this.
_REMOTE_SHARE: Final = 512 << 10
_LOCAL_SHARE: Final = 32 << 10

# Less than this is decoded sooner than another thread wakes up.
_INLINE_BYTES: Final = 64 << 10

# An encoded chunk is longer than its array only by headers and indices. A length beyond this is not asked of the store.
_MAX_GROWTH: Final = 32
_SLACK: Final = 64 << 10
_MAX_RAW: Final = (1 << 32) // _MAX_GROWTH
_MAX_OFFSET: Final = 1 << 62

Describe: TypeAlias = "Callable[[int], str]"
Missing: TypeAlias = "Callable[[Sequence[ChunkRef]], Sequence[bytes | None]]"


@dataclass(frozen=True, slots=True)
class ChunkRequest:
    """A chunk, and the array that it decodes to.

    Attributes
    ----------
    ref : ChunkRef
    encoding : Encoding
    dtype : numpy.dtype
        Canonical (little-endian).
    shape : tuple of int
        Of the decoded array.
    fill_value : scalar, optional
        Of the parts that a Zarr shard leaves out; hashable.
    """

    ref: ChunkRef
    encoding: Encoding
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fill_value: Any = None

    @property
    def nbytes(self) -> int:
        """Bytes of the decoded array."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def key(self) -> tuple[Any, ...]:
        """What the decoded array is cached under."""
        return self.ref.digest, self.encoding, self.dtype, self.shape, self.fill_value


class ChunkReader:
    """Reads chunks of one store. Any number of threads may share it; it works after a fork.

    Parameters
    ----------
    store : ObjectStore
    cache : ChunkCache, optional
        Of decoded arrays.
    disk : DiskCache, optional
        Of encoded chunks.
    missing : callable, optional
        Given references whose object is not in the store, returns the encoded bytes of each (or ``None``), for instance from a
        remote. What it returns is verified like everything else. It may be called on several threads at once.
    local : bool, optional
        Whether a request to the store costs a system call rather than a round trip; default: whether the store is a local one.
    """

    def __init__(
        self,
        store: ObjectStore,
        cache: ChunkCache | None = None,
        disk: DiskCache | None = None,
        *,
        missing: Missing | None = None,
        local: bool | None = None,
    ) -> None:
        self.store = store
        self.cache = cache
        self.disk = disk
        self.missing = missing
        self.local = store.creates_atomically if local is None else local

    # ---- arrays ------------------------------------------------------------------------------------------------------

    def read_one(self, request: ChunkRequest, *, cache: bool = True, label: str = "") -> npt.NDArray[Any]:
        """Return one decoded chunk, read in the calling thread.

        Parameters
        ----------
        request : ChunkRequest
        cache : bool
            Whether to keep the array in the memory cache (which is looked at in any case).
        label : str
            What an error message says the chunk is needed for.

        Returns
        -------
        ndarray
            Read-only; others may hold it as well.

        Raises
        ------
        CorruptionError, ObjectNotFoundError, StorageError, UnsupportedFormatError
        """
        memory = self.cache
        if memory is not None:
            key = request.key
            known = memory.get(key)
            if known is not None:
                return known
        ref = request.ref
        if not _plausible(ref, request.nbytes):
            raise _implausible(ref, label)
        data = self.disk.get(ref.digest) if self.disk is not None else None
        if data is None:
            try:
                found = self.store.get_range(ref.key, ref.offset, ref.length)
            except ObjectNotFoundError as error:
                found = self._from_elsewhere([ref], [label], error)[0]
            except ObjectTruncatedError as error:
                raise _cut_short(ref, label) from error
            _verify(ref, found, label)
            if self.disk is not None:
                self.disk.put(ref.digest, found)
        else:
            found = data
        array = _decode(request, found, None, lambda: label)
        if memory is not None and cache:
            memory.put(key, array)
        array.flags.writeable = False
        return array

    def read(
        self,
        requests: Sequence[ChunkRequest],
        sink: Callable[[int, npt.NDArray[Any]], None] | None = None,
        *,
        into: Callable[[int], npt.NDArray[Any] | None] | None = None,
        cache: bool = True,
        describe: Describe | None = None,
    ) -> list[npt.NDArray[Any]] | None:
        """Read many chunks with few requests to the store.

        Equal requests are read once. Near ranges of one object are merged, fetched concurrently, verified and decoded on several
        threads; what is in flight at a time is bounded (about 16 MiB of a bucket and 1 MiB of a local store for each
        processor).

        Parameters
        ----------
        requests : sequence of ChunkRequest
        sink : callable, optional
            Called with ``(i, array)`` as soon as request `i` is decoded, on any thread and in any order, at most once for each `i`.
            The array is read-only and may be valid during the call only: copy out of it.
        into : callable, optional
            Called with ``i`` before request `i` is decoded; returns the array to decode into (C-contiguous, of the request's dtype
            and shape; no other thread touches it), or ``None``. Such an array is not cached and stays writeable.
        cache : bool
            Whether to keep decoded arrays in the memory cache (which is looked at in any case).
        describe : callable, optional
            Returns what request `i` is needed for; called for error messages only.

        Returns
        -------
        list of ndarray, or None with `sink`
            In the order of the requests; read-only (but for `into`), and equal requests may share one array.

        Raises
        ------
        CorruptionError
            Naming the object, the offset and what `describe` says.
        ObjectNotFoundError
            Naming the pack.
        StorageError, UnsupportedFormatError
            As the store and the codecs raise them. Whatever `sink` or `into` raises comes through as well. After an
            error nothing is at work any more.
        """
        if len(requests) == 1 and into is None:
            array = self.read_one(requests[0], cache=cache, label=describe(0) if describe is not None else "")
            if sink is None:
                return [array]
            sink(0, array)
            return None
        results: list[npt.NDArray[Any] | None] | None = [None] * len(requests) if sink is None else None
        memory = self.cache
        waiting: dict[tuple[Any, ...], list[int]] = {}
        for i, request in enumerate(requests):
            waiting.setdefault(request.key, []).append(i)

        def hand_over(positions: list[int], array: npt.NDArray[Any], placed: bool) -> None:
            for i in positions:
                target = into(i) if into is not None and not placed else None
                placed = False
                if target is not None:
                    target[...] = array
                if sink is not None:
                    sink(i, array if target is None else target)
                elif results is not None:
                    results[i] = array if target is None else target

        todo: list[list[int]] = []
        for key, positions in waiting.items():
            known = memory.get(key) if memory is not None else None
            if known is None:
                if not _plausible(requests[positions[0]].ref, requests[positions[0]].nbytes):
                    raise _implausible(requests[positions[0]].ref, _label(describe, positions[0]))
                todo.append(positions)
            else:
                hand_over(positions, known, False)

        def deliver(number: int, data: BytesLike, sliced: bool) -> None:
            positions = todo[number]
            first = positions[0]
            request = requests[first]
            target = into(first) if into is not None else None
            array = _decode(request, data, target, lambda: _label(describe, first))
            if target is None:
                keep = cache and memory is not None
                # An uncompressed chunk is a view of what was fetched, and would keep the whole range alive.
                if (
                    sliced
                    and (keep or sink is None)
                    and np.may_share_memory(array, np.frombuffer(data, dtype=np.uint8))
                ):
                    array = array.copy()
                array.flags.writeable = False
                if keep and memory is not None:
                    memory.put(request.key, array)
            hand_over(positions, array, target is not None)

        self._fetch(
            [requests[positions[0]].ref for positions in todo],
            deliver,
            sum(requests[positions[0]].nbytes for positions in todo),
            lambda number: _label(describe, todo[number][0]),
        )
        return [array for array in results if array is not None] if results is not None else None

    def read_raw(self, refs: Sequence[ChunkRef], *, describe: Describe | None = None) -> list[bytes]:
        """Return the encoded bytes of chunks, verified, for copying and repacking.

        Raises
        ------
        CorruptionError, ObjectNotFoundError, StorageError
            As :meth:`read`.
        """
        waiting: dict[bytes, list[int]] = {}
        for i, ref in enumerate(refs):
            if not _plausible(ref, _MAX_RAW):
                raise _implausible(ref, _label(describe, i))
            waiting.setdefault(ref.digest, []).append(i)
        todo = list(waiting.values())
        results: list[bytes] = [b""] * len(refs)

        def deliver(number: int, data: BytesLike, sliced: bool) -> None:  # noqa: ARG001 - bytes() copies a slice anyway
            raw = bytes(data)
            for i in todo[number]:
                results[i] = raw

        wanted = [refs[positions[0]] for positions in todo]
        total = sum(ref.length for ref in wanted)
        self._fetch(wanted, deliver, total, lambda number: _label(describe, todo[number][0]))
        return results

    # ---- bytes -------------------------------------------------------------------------------------------------------

    def _fetch(
        self, refs: list[ChunkRef], deliver: Callable[[int, BytesLike, bool], None], nbytes: int, label: Describe
    ) -> None:
        """Fetch and verify chunks of distinct digests, and call `deliver` with number, bytes and «is part of more»."""
        order = sorted(
            range(len(refs)), key=lambda number: (refs[number].pack or refs[number].digest, refs[number].offset)
        )
        threads = cpu_count() + (0 if self.local else 1)
        least, most = (_LOCAL_SHARE, _LOCAL_BATCH) if self.local else (_REMOTE_SHARE, _REMOTE_BATCH)
        if self.local and nbytes <= _INLINE_BYTES:
            threads = 1
        # Enough batches for all threads, none so small that near ranges are torn apart for nothing, and none so large that
        # all of them together would not fit into memory.
        total = sum(ref.length for ref in refs)
        share = min(most, max(least, -(-total // threads)))
        batches: deque[list[int]] = deque()
        batch: list[int] = []
        size = 0
        for number in order:
            batch.append(number)
            size += refs[number].length
            if size >= share:
                batches.append(batch)
                batch, size = [], 0
        if batch:
            batches.append(batch)
        _share_out(batches, lambda numbers: self._fetch_batch(refs, numbers, deliver, label), threads)

    def _fetch_batch(
        self, refs: list[ChunkRef], numbers: list[int], deliver: Callable[[int, BytesLike, bool], None], label: Describe
    ) -> None:
        disk = self.disk
        if disk is not None:
            absent = []
            for number in numbers:
                kept = disk.get(refs[number].digest)
                if kept is None:
                    absent.append(number)
                else:
                    deliver(number, kept, False)
            numbers = absent
        gap, most = (_LOCAL_GAP, _LOCAL_RANGE) if self.local else (_REMOTE_GAP, _REMOTE_RANGE)
        ranges: list[ByteRange] = []
        members: list[list[int]] = []
        end = 0
        pack: bytes | None = None
        for number in numbers:
            ref = refs[number]
            stop = ref.offset + ref.length
            if members and ref.pack is not None and ref.pack == pack and ref.offset - end <= gap:
                last = ranges[-1]
                if max(stop, end) - last.start <= most:
                    end = max(stop, end)
                    ranges[-1] = ByteRange(last.key, last.start, end - last.start)
                    members[-1].append(number)
                    continue
            ranges.append(ByteRange(ref.key, ref.offset, ref.length))
            members.append([number])
            pack, end = ref.pack, stop
        for position in range(0, len(ranges), _BATCH_RANGES):
            part = slice(position, position + _BATCH_RANGES)
            self._fetch_ranges(refs, ranges[part], members[part], deliver, label)

    def _fetch_ranges(
        self,
        refs: list[ChunkRef],
        ranges: list[ByteRange],
        members: list[list[int]],
        deliver: Callable[[int, BytesLike, bool], None],
        label: Describe,
    ) -> None:
        try:
            buffers = self.store.get_ranges(ranges)
        except ObjectTruncatedError as error:
            if len(ranges) == 1:
                raise _cut_short(refs[members[0][0]], label(members[0][-1])) from error
            for item, group in zip(ranges, members, strict=True):
                self._fetch_ranges(refs, [item], [group], deliver, label)
            return
        except ObjectNotFoundError as error:
            if len({item.key for item in ranges}) > 1:
                # Which one is not there? Ask object by object.
                for key in dict.fromkeys(item.key for item in ranges):
                    mine = [i for i, item in enumerate(ranges) if item.key == key]
                    self._fetch_ranges(refs, [ranges[i] for i in mine], [members[i] for i in mine], deliver, label)
                return
            numbers = [number for group in members for number in group]
            labels = [label(number) for number in numbers]
            for number, data in zip(
                numbers, self._from_elsewhere([refs[number] for number in numbers], labels, error), strict=True
            ):
                self._verified(refs[number], number, data, False, deliver, label)
            return
        for item, buffer, group in zip(ranges, buffers, members, strict=True):
            if len(group) == 1:
                self._verified(refs[group[0]], group[0], buffer, False, deliver, label)
                continue
            view = memoryview(buffer)
            for number in group:
                start = refs[number].offset - item.start
                part: BytesLike = view[start : start + refs[number].length]
                self._verified(refs[number], number, part, True, deliver, label)

    def _verified(
        self,
        ref: ChunkRef,
        number: int,
        data: BytesLike,
        sliced: bool,
        deliver: Callable[[int, BytesLike, bool], None],
        label: Describe,
    ) -> None:
        if blake3_160(data) != ref.digest:
            _verify(ref, data, label(number))
        if self.disk is not None:
            self.disk.put(ref.digest, data)
        deliver(number, data, sliced)

    def _from_elsewhere(self, refs: list[ChunkRef], labels: list[str], error: ObjectNotFoundError) -> list[bytes]:
        try:
            found: Sequence[bytes | None] = self.missing(refs) if self.missing is not None else [None] * len(refs)
        except DataNotLocalError as absent:
            raise DataNotLocalError(f"{absent}{_for(labels[0])}") from error
        result: list[bytes] = []
        for ref, data, label in zip(refs, found, labels, strict=True):
            if data is None:
                raise ObjectNotFoundError(f"{ref.key} is not in {self.store.url}{_for(label)}") from error
            result.append(data)
        return result


def _label(describe: Describe | None, i: int) -> str:
    return describe(i) if describe is not None else ""


def _for(label: str) -> str:
    return f" (needed for {label})" if label else ""


def _plausible(ref: ChunkRef, nbytes: int) -> bool:
    """Tell whether a chunk of an array of `nbytes` can lie where its reference says."""
    return 0 <= ref.offset < _MAX_OFFSET and 0 <= ref.length <= nbytes * _MAX_GROWTH + _SLACK


def _implausible(ref: ChunkRef, label: str) -> CorruptionError:
    return CorruptionError(f"{describe_ref(ref)} is said to have {ref.length:,} bytes, which cannot be{_for(label)}")


def _cut_short(ref: ChunkRef, label: str) -> CorruptionError:
    return CorruptionError(
        f"{ref.key} is cut short: it ends before the chunk at offset {ref.offset}{_for(label)}; "
        "restore the object from a clone or a backup"
    )


def _verify(ref: ChunkRef, data: BytesLike, label: str) -> None:
    digest = blake3_160(data)
    if digest != ref.digest:
        raise CorruptionError(
            f"{describe_ref(ref)} is damaged: its {len(data):,} bytes have the digest {digest.hex()}{_for(label)}; "
            "restore the object from a clone or a backup"
        )


def _decode(
    request: ChunkRequest, data: BytesLike, out: npt.NDArray[Any] | None, label: Callable[[], str]
) -> npt.NDArray[Any]:
    try:
        return decode_chunk(data, request.encoding, request.dtype, request.shape, out, fill_value=request.fill_value)
    except (CorruptionError, UnsupportedFormatError) as error:
        raise type(error)(f"{describe_ref(request.ref)}: {error}{_for(label())}") from error


def _share_out(batches: deque[list[int]], work: Callable[[list[int]], None], threads: int) -> None:
    """Work off batches on this thread and some more; return when nothing is at work any more.

    The calling thread takes part, so that progress never depends on a free thread in the pool: a sink may read chunks itself.
    """
    failures: list[BaseException] = []

    def loop() -> None:
        while not failures:
            try:
                batch = batches.popleft()
            except IndexError:
                return
            try:
                work(batch)
            except BaseException as error:
                failures.append(error)

    helpers: list[Future[None]] = []
    for _ in range(min(threads, len(batches)) - 1):
        try:
            helpers.append(cpu_pool().submit(loop))
        except RuntimeError:  # the interpreter is shutting down: do it all here
            break
    loop()
    _wait(helpers, failures)
    if failures:
        raise failures[0]


def _wait(helpers: Iterable[Future[None]], failures: list[BaseException]) -> None:
    for helper in helpers:
        while not helper.cancel():
            try:
                helper.result()
                break
            except BaseException as error:  # an interrupt of this thread; loop() itself raises nothing
                failures.append(error)
