"""The ledger of a full check: what trees say of every sample, sorted by where its bytes lie, on disk where it gets long.

Trees name samples in the order of their keys, and packs hold them in the order of writing. So that each pack is read once, what
trees say is written down first: a fact for each sample, some hundred bytes.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, TypeAlias

import numpy as np
import numpy.typing as npt

from hangarlake.chunks.packs import ChunkRef
from hangarlake.records.entries import Digests

__all__ = ["FACT", "Chooser", "Distinct", "Facts", "GridSample", "Ledger", "sample_bounds"]

U64: TypeAlias = npt.NDArray[np.uint64]
Facts: TypeAlias = npt.NDArray[np.void]

#: What a tree says of a sample in a shared chunk. The first 96 bytes are the fact, the rest says who told it.
FACT = np.dtype(
    [
        ("pack", "<u4"),  # number of the object
        ("encoding", "<u4"),
        ("offset", "<u8"),
        ("length", "<u8"),
        ("items", "<u8"),
        ("index", "<u8"),
        ("size", "<u8"),  # bytes of a str, bytes or json sample; else the number of the shape
        ("chunk", "u1", 20),
        ("value", "u1", 20),
        ("kind", "<u8"),
        ("holder", "<u8"),
    ]
)
_WORDS = 12
_BUCKETS = 64
_MEMORY = 64 << 20  # bytes of facts, from which on they go to disk
_FILTER = 1 << 21
_GRID_MEMORY = 16 << 20


def sample_bounds(sample: float | int | None) -> tuple[int | None, float | None]:
    """Return what a `sample` means: so many chunks, or such a share of them.

    Raises
    ------
    ValueError
        For a negative number, and a share above one.
    """
    if sample is None:
        return None, None
    if isinstance(sample, bool) or not isinstance(sample, int | float):
        raise ValueError(
            f"sample is a number of chunks (an int) or a share of them (a float from 0 to 1), not {sample!r}"
        )
    if isinstance(sample, int):
        if sample < 0:
            raise ValueError(f"sample is 0 chunks or more, not {sample}")
        return sample, None
    if not 0 <= sample <= 1:
        raise ValueError(f"sample is a share from 0.0 to 1.0, or a whole number of chunks, not {sample}")
    return None, sample


def _mix(x: U64) -> U64:
    # The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class Distinct:
    """Counts distinct numbers of 64 bits, in 8 bytes each."""

    def __init__(self) -> None:
        self._sorted: U64 = np.empty(0, np.uint64)
        self._fresh: list[U64] = []
        self._waiting = 0

    def add(self, numbers: U64) -> None:
        """Take in some."""
        self._fresh.append(numbers)
        self._waiting += len(numbers)
        if self._waiting > 65_536 + len(self._sorted):
            self.all()

    def all(self) -> U64:
        """Return what was taken in, sorted, each once."""
        if self._fresh:
            self._sorted = np.unique(np.concatenate([self._sorted, *self._fresh]))
            self._fresh, self._waiting = [], 0
        return self._sorted


class Chooser:
    """Chooses chunks by their digests and a seed: the same of the same repository, whatever the order.

    Parameters
    ----------
    sample : int, float or None
        As :func:`sample_bounds` takes it. A share above none takes at least one chunk.
    """

    def __init__(self, sample: float | int | None, seed: int) -> None:
        self._count, share = sample_bounds(sample)
        self.everything = sample is None
        self._seed = np.uint64(seed & ((1 << 64) - 1))
        self._most = (1 << 64) - 1 if share is None else math.floor(share * (1 << 64)) - 1
        # Of a few chunks a small share may take none: the one that drew the least is taken then.
        self._share = bool(share)
        self._least = (1 << 64) - 1
        self._held = Distinct()
        if self._count == 0:
            self._most = -1

    def numbers(self, digests: Digests, marks: U64 | None = None) -> U64:
        """Return the lots that chunks have drawn, shape (n,); with `marks` others, that tell equal chunks apart by these."""
        words = np.ascontiguousarray(digests[:, :8]).view("<u8").reshape(-1)
        if marks is not None:
            words = words ^ _mix(marks)
        return _mix(words ^ _mix(np.array([self._seed], np.uint64) + np.uint64(0x9E3779B97F4A7C15)))

    def choose(self, digests: Digests, *, final: bool = False) -> npt.NDArray[np.bool_]:
        """Tell which chunks may be (with `final`: are) among those chosen; all have to be shown before the last word."""
        if self.everything or not len(digests):
            return np.ones(len(digests), np.bool_)
        if self._most < 0 and not self._share:
            return np.zeros(len(digests), np.bool_)
        lots = self.numbers(digests)
        if self._share and not final:
            self._least = min(self._least, int(lots.min()))
        most = max(self._most, self._least) if self._share else self._most
        chosen: npt.NDArray[np.bool_] = lots <= np.uint64(most)
        if self._count is not None and not final:
            self._held.add(lots[chosen])
            self._tighten(self._count)
        return chosen

    def _tighten(self, count: int) -> None:
        if self._held._waiting > 4 * count + 4096:
            self.settle()

    def settle(self) -> None:
        """Draw the line below the chunks that were shown."""
        if self._count:
            held = self._held.all()
            if len(held) > self._count:
                self._held._sorted = held[: self._count]
                self._most = int(held[self._count - 1])


@dataclass(frozen=True, slots=True)
class GridSample:
    """What a tree says of a large sample, which is cut into chunks."""

    refs: tuple[ChunkRef, ...]
    encoding: str
    shape: tuple[int, ...]
    kind: int
    value: bytes
    holder: int

    def to_line(self) -> bytes:
        """Write it as one line."""
        refs = [[ref.digest.hex(), ref.pack.hex() if ref.pack else None, ref.offset, ref.length] for ref in self.refs]
        return json.dumps([refs, self.encoding, self.shape, self.kind, self.value.hex(), self.holder]).encode() + b"\n"

    @staticmethod
    def of_line(line: bytes) -> GridSample:
        """Read what :meth:`to_line` wrote."""
        refs, encoding, shape, kind, value, holder = json.loads(line)
        places = (ChunkRef(bytes.fromhex(d), bytes.fromhex(p) if p else None, at, length) for d, p, at, length in refs)
        return GridSample(tuple(places), encoding, tuple(shape), kind, bytes.fromhex(value), holder)


class Ledger:
    """Facts, in memory and then in temporary files that nobody else sees. Owned by one thread.

    Parameters
    ----------
    memory : int
        Bytes that are kept in memory.
    """

    def __init__(self, memory: int = _MEMORY) -> None:
        self._memory = memory
        self._held: list[Facts] = []
        self._held_bytes = 0
        self._files: list[IO[bytes]] = []
        # Most facts are told again and again, by every later copy of a leaf. This remembers many of the latest.
        self._recent: U64 = np.zeros(_FILTER, np.uint64)
        self._keys: U64 = np.random.default_rng().integers(0, 1 << 64, _WORDS, np.uint64, endpoint=False) | np.uint64(1)
        self._grids: IO[bytes] = tempfile.SpooledTemporaryFile(_GRID_MEMORY)  # noqa: SIM115 - closed by close()
        self._grid_values: set[bytes] = set()
        self.grids = 0

    def add(self, facts: Facts) -> None:
        """Write facts down; what was written down lately is left out."""
        words = np.ascontiguousarray(facts).view("<u8").reshape(len(facts), -1)[:, :_WORDS]
        marks = _mix((_mix(words) * self._keys).sum(axis=1, dtype=np.uint64)) | np.uint64(1)
        slots = marks % np.uint64(_FILTER)
        new = self._recent[slots] != marks
        if not new.any():
            return
        self._recent[slots] = marks
        kept = facts[new]
        self._held.append(kept)
        self._held_bytes += kept.nbytes
        if self._held_bytes > self._memory:
            self._spill()

    def add_grid(self, sample: GridSample) -> None:
        """Write down a large sample."""
        mark = sample.value + sample.refs[0].digest if sample.refs else sample.value
        if mark not in self._grid_values:
            self._grid_values.add(mark)
            self._grids.write(sample.to_line())
            self.grids += 1

    def _spill(self) -> None:
        if not self._files:
            self._files = [tempfile.TemporaryFile() for _ in range(_BUCKETS)]  # noqa: SIM115 - closed by close()
        facts = np.concatenate(self._held)
        buckets = facts["pack"] % _BUCKETS
        order = np.argsort(buckets, kind="stable")
        ends = np.searchsorted(buckets[order], np.arange(_BUCKETS + 1))
        for bucket, file in enumerate(self._files):
            file.write(facts[order[ends[bucket] : ends[bucket + 1]]].tobytes())
        self._held, self._held_bytes = [], 0

    def by_pack(self) -> Iterator[Facts]:
        """Yield the facts of one object after the other, by offset, each fact once."""
        if self._held and self._files:
            self._spill()
        if self._held:
            held, self._held = np.concatenate(self._held), []
            yield from _split(held)
        for file in self._files:
            file.seek(0)
            yield from _split(np.frombuffer(file.read(), FACT))

    def large(self) -> Iterator[GridSample]:
        """Yield the large samples, in the order of the trees."""
        self._grids.seek(0)
        for line in self._grids:
            yield GridSample.of_line(line)

    def close(self) -> None:
        """Give the temporary files back."""
        for file in [*self._files, self._grids]:
            file.close()


def _split(facts: Facts) -> Iterator[Facts]:
    if not len(facts):
        return
    words = np.ascontiguousarray(facts).view("<u8").reshape(len(facts), -1)[:, :_WORDS]
    fields = [facts[name] for name in ("size", "index", "kind", "encoding", "offset", "pack")]
    order = np.lexsort((words[:, 8], *fields))
    facts, words = facts[order], words[order]
    new = np.concatenate([[True], (words[1:] != words[:-1]).any(axis=1)])
    facts = facts[new]
    ends = [*(np.flatnonzero(np.diff(facts["pack"])) + 1).tolist(), len(facts)]
    start = 0
    for end in ends:
        yield facts[start:end]
        start = end
