"""Reads chunks: from the caches, else fetched from the store, decoded on threads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hangarlake.chunks.codecs import decode_chunk
from hangarlake.chunks.fetching import ChunkFetcher, Describe, Missing, needed_for
from hangarlake.chunks.packs import ChunkRef, describe_ref
from hangarlake.errors import CorruptionError, UnsupportedFormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from hangarlake.chunks.cache import ChunkCache, DiskCache
    from hangarlake.chunks.digests import BytesLike
    from hangarlake.chunks.encodings import Encoding
    from hangarlake.storage import ObjectStore

__all__ = ["ChunkReader", "ChunkRequest"]

# An encoded chunk is longer than its array only by headers and indices. A length beyond this is not asked of the store.
_MAX_GROWTH: Final = 32
_SLACK: Final = 64 << 10
_MAX_RAW: Final = (1 << 32) // _MAX_GROWTH
_MAX_OFFSET: Final = 1 << 62


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
        self.local = store.creates_atomically if local is None else local
        self._fetcher = ChunkFetcher(store, disk, missing, self.local)

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
        data = self._fetcher.fetch_one(ref, label)
        array = _decode(request, data, None, lambda: label)
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

        self._fetcher.fetch(
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
        self._fetcher.fetch(wanted, deliver, total, lambda number: _label(describe, todo[number][0]))
        return results


def _label(describe: Describe | None, i: int) -> str:
    return describe(i) if describe is not None else ""


def _plausible(ref: ChunkRef, nbytes: int) -> bool:
    """Tell whether a chunk of an array of `nbytes` can lie where its reference says."""
    return 0 <= ref.offset < _MAX_OFFSET and 0 <= ref.length <= nbytes * _MAX_GROWTH + _SLACK


def _implausible(ref: ChunkRef, label: str) -> CorruptionError:
    return CorruptionError(
        f"{describe_ref(ref)} is said to have {ref.length:,} bytes, which cannot be{needed_for(label)}"
    )


def _decode(
    request: ChunkRequest, data: BytesLike, out: npt.NDArray[Any] | None, label: Callable[[], str]
) -> npt.NDArray[Any]:
    try:
        return decode_chunk(data, request.encoding, request.dtype, request.shape, out, fill_value=request.fill_value)
    except (CorruptionError, UnsupportedFormatError) as error:
        raise type(error)(f"{describe_ref(request.ref)}: {error}{needed_for(label())}") from error
