"""Checking data: every chunk that trees name, and every sample in them, with each pack read once."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from hangarlake.chunks.codecs import decode_chunk
from hangarlake.chunks.digests import blake3_160, blake3_256
from hangarlake.chunks.encodings import Encoding
from hangarlake.chunks.grid import iter_chunks
from hangarlake.chunks.packs import ChunkRef
from hangarlake.errors import (
    CorruptionError,
    HangarlakeError,
    ObjectNotFoundError,
    ObjectTruncatedError,
    UnsupportedFormatError,
)
from hangarlake.records.models import Commit
from hangarlake.records.node import Leaf
from hangarlake.storage.base import Buffer, ByteRange, ObjectStore
from hangarlake.storage.executors import cpu_count, io_pool
from hangarlake.upkeep.entries import TreeKind, encoding_of, shapes_of
from hangarlake.upkeep.findings import Findings, value_spot
from hangarlake.upkeep.ledger import FACT, Chooser, Distinct, Facts, GridSample, Ledger
from hangarlake.upkeep.places import Places
from hangarlake.upkeep.presence import DataObject, Presence
from hangarlake.upkeep.values import ValueHasher, lying

__all__ = ["DataChecker"]

T = TypeVar("T")

_RESTORE = "restore it from a clone or a backup"
_FAULT = "whoever wrote it has a fault"
# An object of more is read in ranges, and a decoded chunk (or a slab of a large sample) of more is not believed.
_WHOLE = 512 << 20
_MOST_DECODED = 4 << 30
_MOST_SLAB = 1 << 30
_KEPT_PACKS = 4  # of 16 to 32 MiB
_GAP = 64 << 10
_RANGE = 8 << 20


@dataclass(frozen=True, slots=True)
class _Held:
    """What was read of a data object: parts by where they start, and whether all of it is what its name says."""

    parts: tuple[tuple[int, Buffer], ...]
    sound: bool | None

    def chunk(self, offset: int, length: int) -> memoryview | None:
        for start, data in self.parts:
            if start <= offset and offset + length <= start + len(data):
                return memoryview(data)[offset - start : offset - start + length]
        return None


class DataChecker:
    """Takes the leaves of trees, and then checks the data that they name.

    Parameters
    ----------
    sample, seed
        As :meth:`Repository.verify` takes them.
    """

    def __init__(
        self,
        store: ObjectStore,
        findings: Findings,
        presence: Presence,
        *,
        sample: float | int | None = None,
        seed: int = 0,
        memory: int | None = None,
    ) -> None:
        self._store = store
        self._findings = findings
        self._presence = presence
        self._chooser = Chooser(sample, seed)
        self._named = Distinct()
        self._ledger = Ledger() if memory is None else Ledger(memory)
        self._kinds: dict[TreeKind, int] = {}
        self._encodings: dict[str, int] = {}
        self._shapes: dict[tuple[int, ...], int] = {}
        self._holders: dict[str, int] = {}
        # Objects that were read as a whole, and whether they are what their names say.
        self._judged: dict[bytes, bool] = {}
        self._packs: OrderedDict[bytes, _Held] = OrderedDict()
        self._reading: dict[bytes, threading.Lock] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Give temporary files back."""
        self._ledger.close()

    @property
    def named(self) -> int:
        """How many chunks were named, of which a sample takes some; known where there is one."""
        return len(self._named.all())

    # ---- what trees say ----------------------------------------------------------------------------------------------

    def take(self, leaf: Leaf, kind: TreeKind, holder: str, commit: Commit) -> None:
        """Write down what a leaf says of its samples."""
        entries = leaf.entries
        table = entries.table
        spans = entries.spans()
        first = entries.rows.astype(np.int64)
        used = np.zeros(len(table), np.bool_)
        used[first] = True
        for row, span in zip(first[spans != 1].tolist(), spans[spans != 1].tolist(), strict=True):
            used[row : row + span] = True
        places = Places.of(leaf, used, self._presence, commit.id)
        grid = (
            table.grid_encodings()[table.encoding[entries.rows]]
            if table.has_grids
            else np.zeros(len(entries), np.bool_)
        )
        holder_code = self._holders.setdefault(holder, len(self._holders))
        kind_code = self._kinds.setdefault(kind, len(self._kinds))
        # An empty large sample has no chunk at all, and nothing that could be damaged.
        for i in np.flatnonzero(grid & (spans > 0)).tolist():
            row, span = int(first[i]), int(spans[i])
            refs = [places.ref(leaf, each) for each in range(row, row + span)]
            if any(ref is None for ref in refs):
                continue
            if not self._chooser.everything:
                # The chunks of a large sample are checked once for each such sample, equal ones among them as well.
                marks = np.arange(span, dtype=np.uint64) + entries.digests[i, :8].view("<u8")
                self._named.add(self._chooser.numbers(table.digests[row : row + span], marks))
            if not self._chooser.choose(table.digests[row : row + 1]).any():
                continue
            shape = shapes_of(kind, entries, np.array([i]))[0]
            there = tuple(ref for ref in refs if ref is not None)
            text = table.encodings[int(table.encoding[row])]
            self._ledger.add_grid(GridSample(there, text, shape, kind_code, entries.digests[i].tobytes(), holder_code))
        shared = np.flatnonzero(~grid)
        shared = shared[places.objects[first[shared]] >= 0]
        if len(shared):
            if not self._chooser.everything:
                rows = first[shared]
                where = (places.objects[rows].astype(np.uint64) << np.uint64(40)) + places.offsets[rows].astype(
                    np.uint64
                )
                self._named.add(np.unique(self._chooser.numbers(table.digests[rows], where)))
            shared = shared[self._chooser.choose(table.digests[first[shared]])]
        if not len(shared):
            return
        rows = first[shared]
        facts: Facts = np.zeros(len(shared), FACT)
        facts["pack"], facts["offset"] = places.objects[rows], places.offsets[rows]
        facts["length"], facts["items"] = table.lengths[rows], table.items[rows]
        codes = np.array(
            [self._encodings.setdefault(text, len(self._encodings)) for text in table.encodings], np.uint32
        )
        facts["encoding"] = codes[table.encoding[rows]]
        facts["index"], facts["chunk"] = entries.index[shared], table.digests[rows]
        facts["value"] = entries.digests[shared]
        facts["kind"], facts["holder"] = kind_code, holder_code
        facts["size"] = self._sizes(kind, leaf, shared)
        self._ledger.add(facts)

    def _sizes(self, kind: TreeKind, leaf: Leaf, where: npt.NDArray[np.intp]) -> Any:
        if kind.schema is None or not kind.schema.variable_shape:
            return 0
        if kind.schema.kind != "ndarray":
            return leaf.entries.shapes[where, 0]
        known = self._shapes
        return [known.setdefault(shape, len(known)) for shape in shapes_of(kind, leaf.entries, where)]

    # ---- what the data says ------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Check the data, several objects at once, and give temporary files back."""
        self._chooser.settle()
        self._kind_list = list(self._kinds)
        self._encoding_list = list(self._encodings)
        self._shape_list = list(self._shapes)
        self._holder_list = list(self._holders)
        try:
            _in_parallel(self._check_object, self._ledger.by_pack(), cpu_count() + 1)
            _in_parallel(self._check_large, self._ledger.large(), cpu_count() + 1)
        finally:
            self._ledger.close()

    def _check_object(self, facts: Facts) -> None:
        facts = facts[self._chooser.choose(facts["chunk"], final=True)]
        if not len(facts):
            return
        held_object = self._presence.objects[int(facts["pack"][0])]
        chunks = _groups(facts)
        ranges = _ranges([(int(facts["offset"][a]), int(facts["length"][a])) for a, _ in chunks])
        held = self._read(held_object, ranges)
        if held is None:
            return
        checked = samples = 0
        before: tuple[int, bytes] | None = None
        for a, b in chunks:
            part = facts[a:b]
            ref = ChunkRef(part["chunk"][0].tobytes(), None, int(part["offset"][0]), int(part["length"][0]))
            checked += (ref.offset, ref.digest) != before
            before = ref.offset, ref.digest
            data = held.chunk(ref.offset, ref.length)
            if data is None or blake3_160(data) != ref.digest:
                self._bad_chunk(held_object, held, ref, self._holder_list[int(part["holder"][0])], data is None)
            elif self._check_samples(part, data):
                samples += len(part)
        self._findings.count(chunks=checked, samples=samples)

    def _check_samples(self, facts: Facts, data: memoryview) -> bool:
        """Check the samples of one chunk; tell whether it could be decoded."""
        kind = self._kind_list[int(facts["kind"][0])]
        if kind.schema is None:
            return True  # the digest of an array's chunk is that of its bytes
        encoding = encoding_of(self._encoding_list[int(facts["encoding"][0])])
        items, holder = int(facts["items"][0]), self._holder_list[int(facts["holder"][0])]
        if isinstance(encoding, str):
            return False  # found when its leaf was looked at
        sample = () if kind.schema.variable_shape else tuple(n or 0 for n in kind.schema.shape)
        shape = (items, *sample) if encoding.layout == "rows" else (items,)
        chunk = self._decode(data, encoding, kind.schema.np_dtype, shape, facts["chunk"][0].tobytes(), holder)
        if chunk is None:
            return False
        if not kind.schema.variable_shape and encoding.layout == "run":
            facts = facts.copy()
            facts["size"] = 0
            shapes = [sample]
        else:
            shapes = self._shape_list
        for i in lying(kind.schema, encoding.layout, chunk, facts, shapes).tolist():
            fact = facts[i]
            told = fact["value"].tobytes(), fact["chunk"].tobytes(), int(fact["index"])
            self._bad_value(self._holder_list[int(fact["holder"])], *told)
        return True

    def _decode(
        self,
        data: memoryview,
        encoding: Encoding,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        digest: bytes,
        holder: str,
    ) -> npt.NDArray[Any] | None:
        nbytes = math.prod(shape) * dtype.itemsize
        try:
            if nbytes > _MOST_DECODED:
                raise CorruptionError(f"it is said to decode to {nbytes:,} bytes")
            if not nbytes:
                return np.empty(shape, dtype)
            return decode_chunk(data, encoding, dtype, shape)
        except UnsupportedFormatError as error:
            self._findings.add(
                holder, "unsupported", f"chunk {digest.hex()} cannot be decoded here: {error}", chunk=digest
            )
        except HangarlakeError as error:
            what = f"chunk {digest.hex()} is whole, and does not decode to what is said of it: {error}; {_FAULT}"
            self._findings.add(holder, "mismatch", what, chunk=digest)
        return None

    def _bad_value(self, holder: str, value: bytes, chunk: bytes, index: int) -> None:
        what = f"a sample is said to have the digest {value.hex()}, and what its chunk {chunk.hex()} holds has another; {_FAULT}"
        self._findings.add(holder, "mismatch", what, value=value_spot(value, chunk, index))

    def _bad_chunk(self, where: DataObject, held: _Held, ref: ChunkRef, holder: str, beyond: bool) -> None:
        sound = held.sound if held.sound is not None else self._judge(where)
        if sound:
            place = f"{where.key} at offset {ref.offset:,}"
            what = f"it says that chunk {ref.digest.hex()} lies in {place}, which is whole and has no such chunk"
            self._findings.add(holder, "mismatch", f"{what}; {_FAULT}", chunk=ref.digest)
        elif beyond:
            what = f"it ends before the end of the chunk at offset {ref.offset:,}; {_RESTORE}"
            self._findings.add(where.key, "truncated", what, chunk=ref.digest)
        else:
            what = f"the {ref.length:,} bytes at offset {ref.offset:,} do not have the digest {ref.digest.hex()}; {_RESTORE}"
            self._findings.add(where.key, "damaged", what, chunk=ref.digest)

    def _judge(self, where: DataObject) -> bool:
        """Tell whether a whole object is what its name says; it is read for that, once."""
        with self._lock:
            known = self._judged.get(where.id)
        if known is None:
            try:
                known = self._is_named(where, self._store.get_bounded(where.key, _WHOLE))
            except (ObjectNotFoundError, CorruptionError):
                known = False
            with self._lock:
                self._judged[where.id] = known
        return known

    @staticmethod
    def _is_named(where: DataObject, data: Buffer) -> bool:
        return (blake3_160(data) if len(where.id) == 20 else blake3_256(data)) == where.id

    # ---- reading -----------------------------------------------------------------------------------------------------

    def _read(self, where: DataObject, ranges: list[tuple[int, int]]) -> _Held | None:
        """Read a data object as a whole where most of it is wanted, else in ranges; ``None`` for what is gone."""
        wanted = sum(end - start for start, end in ranges)
        size = where.size or 0
        whole = size <= _WHOLE and (self._chooser.everything or wanted * 2 >= size > 0 or len(where.id) == 20)
        if not whole:
            return self._read_named(where, ranges)
        try:
            data = self._store.get_bounded(where.key, _WHOLE)
        except ObjectNotFoundError:
            self._gone(where)
            return None
        except CorruptionError as error:
            self._findings.add(where.key, "damaged", str(error), pack=where.id)
            return None
        sound = self._is_named(where, data)
        with self._lock:
            first = where.id not in self._judged
            self._judged[where.id] = sound
        self._findings.read("data", len(data), objects=int(first))
        if not sound:
            cut = bool(ranges) and ranges[-1][1] > len(data)
            what = f"its {len(data):,} bytes do not hash to its name; {_RESTORE}"
            self._findings.add(where.key, "truncated" if cut else "damaged", what)
        return _Held(((0, data),), sound)

    def _read_named(self, where: DataObject, ranges: list[tuple[int, int]]) -> _Held | None:
        """Read ranges of a data object; the digests of its chunks tell whether they are right."""
        try:
            parts = self._store.get_ranges([ByteRange(where.key, start, end - start) for start, end in ranges])
        except ObjectNotFoundError:
            self._gone(where)
            return None
        except ObjectTruncatedError:
            # Which of them? Those that can be read are.
            return _Held(tuple(part for start, end in ranges for part in self._piece(where, start, end)), None)
        self._findings.read("data", sum(map(len, parts)))
        return _Held(tuple((start, part) for (start, _), part in zip(ranges, parts, strict=True)), None)

    def _piece(self, where: DataObject, start: int, end: int) -> list[tuple[int, Buffer]]:
        size = self._presence.size(where.id)
        end = end if size is None else min(end, size)
        try:
            return (
                [(start, self._store.get_ranges([ByteRange(where.key, start, end - start)])[0])] if end > start else []
            )
        except (ObjectNotFoundError, ObjectTruncatedError):
            return []

    def _gone(self, where: DataObject) -> None:
        self._findings.add(where.key, "missing", f"it is gone since it was listed; {_RESTORE}", pack=where.id)

    # ---- large samples -----------------------------------------------------------------------------------------------

    def _check_large(self, sample: GridSample) -> None:
        if not self._chooser.choose(np.frombuffer(sample.refs[0].digest, np.uint8)[None], final=True).any():
            return
        kind, encoding = self._kind_list[sample.kind], encoding_of(sample.encoding)
        holder = self._holder_list[sample.holder]
        if kind.schema is None or isinstance(encoding, str) or encoding.chunk_shape is None:
            return
        cut, shape, dtype = encoding.chunk_shape, sample.shape, kind.schema.np_dtype
        hasher: ValueHasher | None = ValueHasher(kind.schema, shape)
        # A slab is what lies side by side in the value: the chunks with one coordinate along the first axis.
        refs = iter(sample.refs)
        parts = self._read_chunks(sample.refs, holder)
        for start in range(0, shape[0], cut[0]):
            slab_shape = (min(cut[0], shape[0] - start), *shape[1:])
            if math.prod(slab_shape) * dtype.itemsize > _MOST_SLAB:
                hasher = None  # its chunks are checked, one by one
            slab = np.empty(slab_shape, dtype) if hasher is not None else None
            # Regions come first: at the end of a slab nothing may be taken from the others.
            for region, ref, data in zip(iter_chunks(slab_shape, (slab_shape[0], *cut[1:])), refs, parts, strict=False):
                extent = tuple(part.stop - part.start for part in region)
                chunk = None if data is None else self._decode(data, encoding, dtype, extent, ref.digest, holder)
                if chunk is None:
                    hasher = slab = None
                elif slab is not None:
                    slab[region] = chunk
            if hasher is not None and slab is not None:
                hasher.add(slab)
        if hasher is not None:
            self._findings.count(samples=1)
            if hasher.digest != sample.value:
                self._bad_value(holder, sample.value, sample.refs[0].digest, len(sample.refs))

    def _read_chunks(self, refs: Sequence[ChunkRef], holder: str) -> Iterator[memoryview | None]:
        """Yield the bytes of chunks, verified, some MiB at a time; ``None`` for what is a finding."""
        batch: list[ChunkRef] = []
        for ref in refs:
            batch.append(ref)
            if sum(each.length for each in batch) >= _RANGE:
                yield from self._read_batch(batch, holder)
                batch = []
        yield from self._read_batch(batch, holder)

    def _read_batch(self, refs: list[ChunkRef], holder: str) -> list[memoryview | None]:
        wanted: dict[bytes, list[tuple[int, int]]] = {}
        for ref in refs:
            wanted.setdefault(ref.pack or ref.digest, []).append((ref.offset, ref.length))
        held = {
            each: self._hold(DataObject(each, self._presence.size(each), True), _ranges(sorted(places)))
            for each, places in wanted.items()
        }
        out: list[memoryview | None] = []
        for ref in refs:
            where = DataObject(ref.pack or ref.digest, None, True)
            parts = held[where.id]
            data = None if parts is None else parts.chunk(ref.offset, ref.length)
            self._findings.count(chunks=parts is not None)
            if parts is not None and (data is None or blake3_160(data) != ref.digest):
                self._bad_chunk(where, parts, ref, holder, data is None)
                data = None
            out.append(data)
        return out

    def _hold(self, where: DataObject, ranges: list[tuple[int, int]]) -> _Held | None:
        """Read a data object for large samples; a pack that was read as a whole is kept for the next one."""
        if len(where.id) == 20:
            return self._read(where, ranges)
        with self._lock:
            lock = self._reading.setdefault(where.id, threading.Lock())
        with lock:
            with self._lock:
                kept = self._packs.get(where.id)
            if kept is not None:
                return kept
            # If small samples lie beside them, it is read for the second time.
            held = self._read(where, ranges)
            if held is not None and held.sound is not None:
                with self._lock:
                    self._packs[where.id] = held
                    while len(self._packs) > _KEPT_PACKS:
                        self._packs.popitem(last=False)
            return held


def _groups(facts: Facts) -> list[tuple[int, int]]:
    """Return where the facts about one chunk, read in one way, begin and end."""
    names = ["offset", "length", "items", "encoding", "kind"]
    if len(facts) == 1:
        return [(0, 1)]
    changes = np.zeros(len(facts) - 1, np.bool_)
    for name in names:
        changes |= facts[name][1:] != facts[name][:-1]
    changes |= (facts["chunk"][1:] != facts["chunk"][:-1]).any(axis=1)
    return list(pairwise([0, *(np.flatnonzero(changes) + 1).tolist(), len(facts)]))


def _ranges(chunks: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge (offset, length) in order of offset into (start, end), with small gaps between them."""
    ranges: list[tuple[int, int]] = []
    for offset, length in chunks:
        end = offset + length
        if ranges and offset <= ranges[-1][1] + _GAP and end - ranges[-1][0] <= max(_RANGE, length):
            ranges[-1] = ranges[-1][0], max(end, ranges[-1][1])
        else:
            ranges.append((offset, end))
    return ranges


def _in_parallel(function: Callable[[T], object], items: Iterable[T], width: int) -> None:
    """Apply a function on the I/O threads, to so many items at once; after an error nothing new is begun."""
    flying: deque[Future[object]] = deque()
    try:
        for item in items:
            if len(flying) >= width:
                flying.popleft().result()
            flying.append(io_pool().submit(function, item))
        while flying:
            flying.popleft().result()
    finally:
        for each in flying:
            each.cancel()
        wait(flying)
