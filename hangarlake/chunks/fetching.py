"""Fetches the encoded bytes of chunks in few, concurrent requests, and verifies them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias

from hangarlake.chunks.digests import BytesLike, blake3_160
from hangarlake.chunks.packs import ChunkRef, describe_ref
from hangarlake.errors import CorruptionError, DataNotLocalError, ObjectNotFoundError, ObjectTruncatedError
from hangarlake.storage import ByteRange, cpu_count, cpu_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from concurrent.futures import Future

    from hangarlake.chunks.cache import DiskCache
    from hangarlake.storage import ObjectStore

__all__ = ["ChunkFetcher", "Describe", "Missing", "needed_for"]

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

_REMEDY: Final = "restore the object from a clone or a backup"

Describe: TypeAlias = "Callable[[int], str]"
"""What the chunk of a position is needed for; called for error messages only."""

Missing: TypeAlias = "Callable[[Sequence[ChunkRef]], Sequence[bytes | None]]"
"""Encoded bytes of chunks whose object is not in the store, ``None`` for those that are nowhere."""

Deliver: TypeAlias = "Callable[[int, BytesLike, bool], None]"
"""Takes the number of a chunk, its verified bytes, and whether these are a part of a larger buffer."""


class ChunkFetcher:
    """Fetches encoded chunks of one store. Any number of threads may share it; it works after a fork.

    Parameters
    ----------
    store : ObjectStore
    disk : DiskCache or None
    missing : callable or None
        Asked for chunks whose object is not in the store. What it returns is verified like everything else.
    local : bool
        Whether a request to the store costs a system call rather than a round trip.
    """

    def __init__(self, store: ObjectStore, disk: DiskCache | None, missing: Missing | None, local: bool) -> None:
        self.store = store
        self.disk = disk
        self.missing = missing
        self.local = local

    def fetch_one(self, ref: ChunkRef, label: str) -> BytesLike:
        """Return the verified bytes of one chunk, read in the calling thread.

        Raises
        ------
        CorruptionError, ObjectNotFoundError, DataNotLocalError, StorageError
            Naming the object and `label`, what the chunk is needed for.
        """
        kept = self.disk.get(ref.digest) if self.disk is not None else None
        if kept is not None:
            return kept
        try:
            data = self.store.get_range(ref.key, ref.offset, ref.length)
        except ObjectNotFoundError as error:
            data = self._from_elsewhere([ref], [label], error)[0]
        except ObjectTruncatedError as error:
            raise _cut_short(ref, label) from error
        self._accept(ref, data, lambda: label)
        return data

    def fetch(self, refs: list[ChunkRef], deliver: Deliver, nbytes: int, label: Describe) -> None:
        """Fetch chunks and hand each to `deliver` once, on any thread and in any order.

        Near ranges of one object are merged; what is in flight at a time is bounded (about 16 MiB of a bucket and 1 MiB of
        a local store for each processor). After an error nothing is at work any more.

        Parameters
        ----------
        refs : list of ChunkRef
        deliver : callable
        nbytes : int
            Bytes that the chunks decode to: how much work there is.
        label : callable
            What the chunk of a number is needed for.

        Raises
        ------
        CorruptionError, ObjectNotFoundError, DataNotLocalError, StorageError
            As :meth:`fetch_one`. Whatever `deliver` raises comes through as well.
        """
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

    def _fetch_batch(self, refs: list[ChunkRef], numbers: list[int], deliver: Deliver, label: Describe) -> None:
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
        deliver: Deliver,
        label: Describe,
    ) -> None:
        try:
            buffers = self.store.get_ranges(ranges)
        except ObjectTruncatedError as error:
            numbers = [number for group in members for number in group]
            if len(numbers) == 1:
                raise _cut_short(refs[numbers[0]], label(numbers[0])) from error
            # Which one is it? Ask chunk by chunk.
            for number in numbers:
                ref = refs[number]
                self._fetch_ranges(refs, [ByteRange(ref.key, ref.offset, ref.length)], [[number]], deliver, label)
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
                self._deliver(refs[number], number, data, False, deliver, label)
            return
        for item, buffer, group in zip(ranges, buffers, members, strict=True):
            if len(group) == 1:
                self._deliver(refs[group[0]], group[0], buffer, False, deliver, label)
                continue
            view = memoryview(buffer)
            for number in group:
                start = refs[number].offset - item.start
                part: BytesLike = view[start : start + refs[number].length]
                self._deliver(refs[number], number, part, True, deliver, label)

    def _deliver(
        self, ref: ChunkRef, number: int, data: BytesLike, sliced: bool, deliver: Deliver, label: Describe
    ) -> None:
        self._accept(ref, data, lambda: label(number))
        deliver(number, data, sliced)

    def _accept(self, ref: ChunkRef, data: BytesLike, label: Callable[[], str]) -> None:
        """Verify what was fetched, and keep it on disk."""
        digest = blake3_160(data)
        if digest != ref.digest:
            raise CorruptionError(
                f"{describe_ref(ref)} is damaged: its {len(data):,} bytes have the digest {digest.hex()}"
                f"{needed_for(label())}; {_REMEDY}"
            )
        if self.disk is not None:
            self.disk.put(ref.digest, data)

    def _from_elsewhere(self, refs: list[ChunkRef], labels: list[str], error: ObjectNotFoundError) -> list[bytes]:
        try:
            found: Sequence[bytes | None] = self.missing(refs) if self.missing is not None else [None] * len(refs)
        except DataNotLocalError as absent:
            raise DataNotLocalError(f"{absent}{needed_for(labels[0])}") from error
        result: list[bytes] = []
        for ref, data, label in zip(refs, found, labels, strict=True):
            if data is None:
                raise ObjectNotFoundError(f"{ref.key} is not in {self.store.url}{needed_for(label)}") from error
            result.append(data)
        return result


def needed_for(label: str) -> str:
    """Return the end of a message that says what a chunk is needed for."""
    return f" (needed for {label})" if label else ""


def _cut_short(ref: ChunkRef, label: str) -> CorruptionError:
    return CorruptionError(
        f"{ref.key} is cut short: it ends before the end of the chunk at offset {ref.offset:,}{needed_for(label)}; {_REMEDY}"
    )


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
