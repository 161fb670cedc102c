from __future__ import annotations

import os
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hangarlake.chunks import fetching
from hangarlake.chunks.cache import ChunkCache, DiskCache
from hangarlake.chunks.codecs import compressor_codecs, encode_chunk
from hangarlake.chunks.digests import blake3_160
from hangarlake.chunks.encodings import Encoding
from hangarlake.chunks.packs import ChunkRef, PackBuilder
from hangarlake.chunks.reader import ChunkReader, ChunkRequest
from hangarlake.errors import CorruptionError, ObjectNotFoundError, StorageError, UnsupportedFormatError
from hangarlake.storage import ByteRange, LocalStore, MemoryStore

U1 = np.dtype("u1")
PLAIN = Encoding("rows", compressor_codecs(None))
ZSTD = Encoding("rows", compressor_codecs("zstd"))


class CountingStore(MemoryStore):
    """A memory store that remembers every range that was asked for."""

    def __init__(self):
        super().__init__()
        self.asked = []
        self.calls = 0
        self.fail = None

    def get_ranges(self, ranges):
        self.calls += 1
        self.asked += ranges
        if self.fail is not None:
            raise self.fail
        return [MemoryStore.get_range(self, item.key, item.start, item.length) for item in ranges]

    def get_range(self, key, start, length):
        return self.get_ranges([ByteRange(key, start, length)])[0]


def fill(store, arrays, encoding=ZSTD, per_pack=1000):
    """Store arrays in packs; return their requests."""
    requests = {}
    for first in range(0, len(arrays), per_pack):
        builder = PackBuilder()
        digests = []
        for array in arrays[first : first + per_pack]:
            data = encode_chunk(array, encoding)
            digests.append(blake3_160(data))
            builder.add(digests[-1], data, len(array), encoding)
        pack = builder.finish()
        store.put(pack.key, pack.data)
        for i, digest in enumerate(digests):
            array = arrays[first + i]
            requests[first + i] = ChunkRequest(pack.refs[digest], encoding, array.dtype, array.shape)
    return [requests[i] for i in range(len(arrays))]


def noise(count, size=300, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (count, size), dtype="u1"))


def both(test):
    return pytest.mark.parametrize("local", [True, False], ids=["local", "remote"])(test)


# ---- reading ---------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("encoding", [PLAIN, ZSTD], ids=["plain", "zstd"])
@pytest.mark.parametrize("size", [0, 1, 300, 70_000])
def test_chunks_come_back_in_the_order_of_the_requests(local, encoding, size):
    store = CountingStore()
    arrays = noise(20, size)
    requests = fill(store, arrays, encoding, per_pack=7)
    for cache in (None, ChunkCache()):
        reader = ChunkReader(store, cache, local=local)
        order = np.random.default_rng(1).permutation(20)
        for _ in range(2):
            for i, array in zip(order, reader.read([requests[i] for i in order]), strict=True):
                np.testing.assert_array_equal(array, arrays[i])
                assert not array.flags.writeable
            np.testing.assert_array_equal(reader.read_one(requests[3]), arrays[3])
            assert reader.read_raw([requests[i].ref for i in order]) == [
                encode_chunk(arrays[i], encoding) for i in order
            ]


@both
def test_nothing_is_asked_for_where_nothing_is_wanted(local):
    store = CountingStore()
    reader = ChunkReader(store, local=local)
    assert reader.read([]) == []
    assert reader.read([], lambda i, array: None) is None
    assert reader.read_raw([]) == []
    assert store.calls == 0


@both
@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 29), st.booleans()), max_size=60), st.booleans(), st.integers(1, 30))
def test_sinks_and_destinations_get_every_request_once(local, wanted, warm, per_pack):
    store = MemoryStore()
    arrays = noise(30, 500)
    requests = fill(store, arrays, per_pack=per_pack)
    reader = ChunkReader(store, ChunkCache(), local=local)
    if warm:
        reader.read(requests[::2])
    seen = []
    destinations = {i: np.zeros(500, "u1") for i, (_, placed) in enumerate(wanted) if placed}

    def sink(i, array):
        seen.append(i)
        np.testing.assert_array_equal(array, arrays[wanted[i][0]])
        if i in destinations:
            assert array is destinations[i]

    asked = [requests[number] for number, _ in wanted]
    assert reader.read(asked, sink, into=destinations.get) is None
    assert sorted(seen) == list(range(len(wanted)))
    results = reader.read(asked, into=destinations.get)
    for i, (number, placed) in enumerate(wanted):
        np.testing.assert_array_equal(results[i], arrays[number])
        assert not placed or results[i] is destinations[i]


def test_a_destination_is_neither_cached_nor_locked():
    store = MemoryStore()
    arrays = noise(3)
    requests = fill(store, arrays)
    cache = ChunkCache()
    out = np.zeros((3, 300), "u1")
    ChunkReader(store, cache).read(requests, into=lambda i: out[i])
    assert len(cache) == 0
    out[0] = 1


def test_large_chunks_are_objects_of_their_own():
    store = CountingStore()
    array = noise(1, 1 << 20)[0]
    data = encode_chunk(array, ZSTD)
    ref = ChunkRef(blake3_160(data), None, 0, len(data))
    store.put(ref.key, data)
    request = ChunkRequest(ref, ZSTD, U1, array.shape)
    for result in ChunkReader(store).read([request, request]):
        np.testing.assert_array_equal(result, array)
    assert [item.key for item in store.asked] == [f"packs/{ref.digest.hex()[:2]}/{ref.digest.hex()}"]


def test_what_is_not_compressed_does_not_keep_its_neighbours_alive():
    store = MemoryStore()
    requests = fill(store, noise(50), PLAIN)
    cache = ChunkCache()
    for array in ChunkReader(store, cache, local=False).read(requests):
        owner = array
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        assert len(owner.base if owner.base is not None else owner) == 300


# ---- requests to the store -------------------------------------------------------------------------------------------


def test_near_ranges_are_merged_and_far_ones_are_not():
    store = CountingStore()
    requests = fill(store, noise(30, 20_000), PLAIN)
    reader = ChunkReader(store, local=False)
    reader.read([requests[i] for i in (22, 0, 1, 20, 3)])
    assert [(item.start, item.length) for item in store.asked] == [(0, 80_000), (400_000, 60_000)]
    assert store.calls == 1
    store.asked.clear()
    reader.read([requests[0], requests[29]])
    assert sorted(item.length for item in store.asked) == [20_000, 20_000]


def test_merged_ranges_are_bounded():
    store = CountingStore()
    requests = fill(store, noise(12, 1_000_000), PLAIN)
    ChunkReader(store, local=False).read(requests, lambda i, array: None)
    assert max(item.length for item in store.asked) <= 4 << 20
    store.asked.clear()
    ChunkReader(store, local=True).read(requests, lambda i, array: None)
    assert max(item.length for item in store.asked) <= 1 << 20


def test_equal_requests_are_read_once():
    store = CountingStore()
    (request,) = fill(store, noise(1))
    assert len(ChunkReader(store).read([request] * 5)) == 5
    ChunkReader(store).read_raw([request.ref] * 5)
    assert len(store.asked) == 2


def test_cached_chunks_are_not_asked_for():
    store = CountingStore()
    requests = fill(store, noise(5))
    reader = ChunkReader(store, ChunkCache())
    first = reader.read(requests)
    assert all(a is b for a, b in zip(first, reader.read(requests), strict=True))
    reader.read(requests, lambda i, array: None)
    assert reader.read_one(requests[0]) is first[0]
    assert len(store.asked) == 1
    uncached = ChunkReader(store, ChunkCache())
    uncached.read(requests, cache=False)
    uncached.read_one(requests[0], cache=False)
    assert len(uncached.cache) == 0


def test_one_chunk_as_two_arrays_is_cached_twice():
    store = MemoryStore()
    (request,) = fill(store, noise(1))
    reader = ChunkReader(store, ChunkCache())
    other = ChunkRequest(request.ref, ZSTD, U1, (3, 100))
    assert [array.shape for array in reader.read([request, other])] == [(300,), (3, 100)]
    assert reader.read_one(other).shape == (3, 100)


def test_one_chunk_is_read_in_the_calling_thread(monkeypatch):
    def no_pool():
        raise AssertionError("a thread was asked for")

    monkeypatch.setattr(fetching, "cpu_pool", no_pool)
    store = MemoryStore()
    arrays = noise(1)
    requests = fill(store, arrays)
    threads = []
    ChunkReader(store).read(requests, lambda i, array: threads.append(threading.get_ident()))
    assert threads == [threading.get_ident()]


@both
def test_the_disk_cache_answers_before_the_store(tmp_path, local):
    store = CountingStore()
    arrays = noise(6)
    requests = fill(store, arrays)
    ChunkReader(store, disk=DiskCache(tmp_path), local=local).read(requests[:4])
    store.asked.clear()
    reader = ChunkReader(store, disk=DiskCache(tmp_path), local=local)
    reader.read(requests[:4])
    reader.read_one(requests[0])
    reader.read_raw([requests[1].ref])
    assert store.asked == []
    for file in tmp_path.rglob("*"):
        if file.name == requests[0].ref.digest.hex():
            file.write_bytes(b"damaged")
    for array, expected in zip(reader.read(requests), arrays, strict=True):
        np.testing.assert_array_equal(array, expected)
    assert sum(item.length for item in store.asked) <= sum(requests[i].ref.length for i in range(6))
    assert DiskCache(tmp_path).get(requests[0].ref.digest) is not None


# ---- what goes wrong -------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("how", ["read_one", "read", "read_raw"])
def test_damage_names_object_offset_and_sample(local, how, tmp_path):
    store = MemoryStore()
    requests = fill(store, noise(5))
    bad = requests[2].ref
    data = bytearray(store.get(bad.key))
    data[bad.offset] ^= 1
    store.put(bad.key, bytes(data))
    disk = DiskCache(tmp_path)
    reader = ChunkReader(store, ChunkCache(), disk, local=local)
    call = {
        "read_one": lambda: reader.read_one(requests[2], label="sample 2"),
        "read": lambda: reader.read(requests, describe=lambda i: f"sample {i}"),
        "read_raw": lambda: reader.read_raw([request.ref for request in requests], describe=lambda i: f"sample {i}"),
    }[how]
    with pytest.raises(CorruptionError) as caught:
        call()
    for part in (bad.key, f"offset {bad.offset:,}", bad.digest.hex(), "needed for sample 2"):
        assert part in str(caught.value)
    assert disk.get(bad.digest) is None


@both
@pytest.mark.parametrize("how", ["read_one", "read", "read_raw"])
def test_a_pack_that_is_cut_short_is_told_with_the_chunk_that_it_lacks(local, how):
    store = MemoryStore()
    requests = fill(store, noise(5))
    lost = requests[3].ref
    store.put(lost.key, store.get(lost.key)[: lost.offset + lost.length - 1])
    reader = ChunkReader(store, local=local)
    call = {
        "read_one": lambda: reader.read_one(requests[3], label="sample 3"),
        "read": lambda: reader.read(requests[:4], describe=lambda i: f"sample {i}"),
        "read_raw": lambda: reader.read_raw([r.ref for r in requests[:4]], describe=lambda i: f"sample {i}"),
    }[how]
    with pytest.raises(
        CorruptionError, match=rf"{lost.key} is cut short.* offset {lost.offset:,} \(needed for sample 3\); restore"
    ):
        call()


@both
def test_chunks_that_decode_to_something_else_name_their_place(local):
    store = MemoryStore()
    request, other = fill(store, noise(2))
    wrong = ChunkRequest(request.ref, ZSTD, U1, (301,))
    for asked in ([wrong], [wrong, other]):
        with pytest.raises(CorruptionError, match=f"{request.ref.key}.*301.*needed for x"):
            ChunkReader(store, local=local).read(asked, describe=lambda i: "x")
    unknown = ChunkRequest(request.ref, Encoding("rows", ["no-such"]), U1, (300,))
    for asked in ([unknown], [unknown, other]):
        with pytest.raises(UnsupportedFormatError, match=f"{request.ref.key}.*no-such"):
            ChunkReader(store, local=local).read(asked)


@pytest.mark.parametrize(("offset", "length"), [(0, 1 << 40), (1 << 63, 10), ((1 << 64) - 1, 10), (0, (1 << 64) - 1)])
def test_impossible_places_are_refused_without_a_request(offset, length):
    store = CountingStore()
    ref = ChunkRef(bytes(20), bytes(32), offset, length)
    request = ChunkRequest(ref, ZSTD, U1, (10,))
    reader = ChunkReader(store)
    for call in (
        lambda: reader.read_one(request),
        lambda: reader.read([request, request]),
        lambda: reader.read_raw([ref]),
    ):
        with pytest.raises(CorruptionError, match="cannot be"):
            call()
    assert store.calls == 0


@both
def test_a_missing_object_is_named(local):
    store = MemoryStore()
    requests = fill(store, noise(6), per_pack=2)
    gone = requests[2].ref
    store.delete([gone.key])
    reader = ChunkReader(store, local=local)
    for call in (
        lambda: reader.read_one(requests[2]),
        lambda: reader.read(requests),
        lambda: reader.read_raw([r.ref for r in requests]),
    ):
        with pytest.raises(ObjectNotFoundError, match=gone.key):
            call()


@both
def test_what_is_missing_may_come_from_elsewhere(local):
    store, remote = MemoryStore(), MemoryStore()
    arrays = noise(6)
    requests = fill(remote, arrays, per_pack=2)
    fill(store, arrays, per_pack=2)
    store.delete([requests[2].ref.key])
    asked = []

    def missing(refs):
        asked.extend(refs)
        return ChunkReader(remote).read_raw(refs)

    reader = ChunkReader(store, local=local, missing=missing)
    for array, expected in zip(reader.read(requests), arrays, strict=True):
        np.testing.assert_array_equal(array, expected)
    assert sorted(asked, key=lambda ref: ref.offset) == [requests[2].ref, requests[3].ref]
    np.testing.assert_array_equal(reader.read_one(requests[3]), arrays[3])


@both
@pytest.mark.parametrize(("answer", "error"), [(None, ObjectNotFoundError), (b"something else", CorruptionError)])
def test_what_comes_from_elsewhere_is_verified(local, answer, error):
    store = MemoryStore()
    requests = fill(store, noise(2))
    store.delete([requests[0].ref.key])
    reader = ChunkReader(store, local=local, missing=lambda refs: [answer] * len(refs))
    for asked in (requests, requests[:1]):
        with pytest.raises(error, match=requests[0].ref.key):
            reader.read(asked)


@both
def test_errors_of_the_store_come_through(local):
    store = CountingStore()
    requests = fill(store, noise(40, 50_000))
    store.fail = StorageError("out of order")
    with pytest.raises(StorageError, match="out of order"):
        ChunkReader(store, local=local).read(requests)


@both
def test_after_an_error_nothing_is_at_work(local):
    store = MemoryStore()
    requests = fill(store, noise(60, 50_000), per_pack=5)
    lock = threading.Lock()
    active = 0
    calls = 0

    def sink(i, array):
        nonlocal active, calls
        with lock:
            active += 1
            calls += 1
            number = calls
        try:
            if number == 3:
                raise ZeroDivisionError("sink")
        finally:
            with lock:
                active -= 1

    reader = ChunkReader(store, local=local)
    with pytest.raises(ZeroDivisionError, match="sink"):
        reader.read(requests, sink)
    assert active == 0
    before = calls
    reader.read(requests)  # would run behind anything that was left over
    assert calls == before


@both
def test_a_sink_may_read_chunks_itself(local):
    store = MemoryStore()
    arrays = noise(40, 50_000)
    requests = fill(store, arrays)
    reader = ChunkReader(store, local=local)

    def sink(i, array):
        for other in reader.read(requests[:4]):
            assert len(other) == 50_000

    reader.read(requests, sink)


@both
def test_many_threads_may_share_a_reader(local, tmp_path):
    store = LocalStore(tmp_path)
    arrays = noise(50, 3000)
    requests = fill(store, arrays, per_pack=9)
    reader = ChunkReader(store, ChunkCache(20_000), local=local)
    failures = []

    def work(seed):
        rng = np.random.default_rng(seed)
        try:
            for _ in range(20):
                order = rng.integers(0, 50, 20)
                for i, array in zip(order, reader.read([requests[i] for i in order]), strict=True):
                    np.testing.assert_array_equal(array, arrays[i])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_reader_works_after_a_fork(tmp_path):
    store = LocalStore(tmp_path)
    arrays = noise(50, 30_000)
    requests = fill(store, arrays, per_pack=9)
    reader = ChunkReader(store, ChunkCache())
    reader.read(requests[:25])
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for array, expected in zip(reader.read(requests), arrays, strict=True):
                np.testing.assert_array_equal(array, expected)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
