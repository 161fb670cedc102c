"""Location segments, by themselves and as a repository uses them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hangarlake.chunks.packs import ChunkRef
from hangarlake.errors import CorruptionError
from hangarlake.locality import Locality
from hangarlake.records.locations import Locations, decode_locations, encode_locations, location_key
from hangarlake.storage import MemoryStore
from hangarlake.testing import CountingStore

digests = st.binary(min_size=20, max_size=20)
packs = st.none() | st.binary(min_size=32, max_size=32)
refs = st.builds(ChunkRef, digests, packs, st.integers(0, 2**63), st.integers(0, 2**63))


@given(st.lists(refs, min_size=1, max_size=50))
def test_what_a_segment_says_is_read_back(rows: list[ChunkRef]) -> None:
    expected = {ref.digest: ref for ref in rows}
    segment_id, data = encode_locations(Locations.of(rows))
    read = decode_locations(segment_id, data)
    assert read.find(list(expected)) == list(expected.values())
    assert {ref.digest: ref for ref in read.refs()} == expected


@given(st.lists(refs, max_size=20), st.lists(refs, max_size=20), digests)
def test_of_several_segments_the_last_one_counts(first: list[ChunkRef], second: list[ChunkRef], other: bytes) -> None:
    joined = Locations.concat([Locations.of(first), Locations.of(second)])
    expected = {ref.digest: ref for ref in first} | {ref.digest: ref for ref in second}
    assert joined.find([*expected, other]) == [*expected.values(), expected.get(other)]


@given(st.lists(refs, min_size=1, max_size=5), st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_segment_is_refused(rows: list[ChunkRef], at: int, flip: int) -> None:
    segment_id, data = encode_locations(Locations.of(rows))
    damaged = bytearray(data)
    damaged[at % len(data)] ^= flip
    with pytest.raises(CorruptionError):
        decode_locations(segment_id, bytes(damaged))


def test_segments_are_read_once_and_only_when_something_is_missing(tmp_path: object) -> None:
    ref = ChunkRef(b"d" * 20, b"p" * 32, 0, 3)
    inner = MemoryStore()
    Locality(inner).record([ChunkRef(ref.digest, b"q" * 32, 5, 3)])
    inner.put(ref.key, b"abc")
    store = CountingStore(inner)
    locality = Locality(store)
    assert locality.holds([ref]) == [True]
    assert [request.op for request in store.requests] == ["exists"]
    store.reset()
    assert locality.find([ref.digest, b"x" * 20]) == [ChunkRef(ref.digest, b"q" * 32, 5, 3), None]
    assert locality.find([ref.digest]) == [ChunkRef(ref.digest, b"q" * 32, 5, 3)]
    assert [request.op for request in store.requests] == ["list", "get"]


def test_a_segment_that_is_damaged_in_the_bucket_is_left_aside() -> None:
    store = MemoryStore()
    place = ChunkRef(b"d" * 20, b"q" * 32, 5, 3)
    segment_id, data = encode_locations(Locations.of([place]))
    store.put(location_key(segment_id), data[:-1])
    assert Locality(store).find([place.digest]) == [None]


def test_a_segment_that_claims_another_length_is_not_believed() -> None:
    ref = ChunkRef(b"d" * 20, b"p" * 32, 0, 3)
    store = CountingStore(MemoryStore())
    Locality(store).record([ChunkRef(ref.digest, b"q" * 32, 0, 1 << 40)])
    assert Locality(store).reader_hook(read_through=True)([ref]) == [None]
    assert not any(request.key.startswith("packs/") for request in store.requests)
