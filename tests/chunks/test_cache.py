from __future__ import annotations

import logging
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hangarlake.chunks.cache import ChunkCache, DiskCache
from hangarlake.chunks.digests import blake3_160


def array(size=100, value=0):
    return np.full(size, value, np.uint8)


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_arrays_come_back_and_cannot_be_written_to():
    cache = ChunkCache()
    kept = array()
    cache.put("a", kept)
    assert cache.get("a") is kept
    assert cache.get("b") is None
    with pytest.raises(ValueError, match="read-only"):
        kept[0] = 1
    stats = cache.stats
    assert (stats.hits, stats.misses, stats.evictions, stats.entries, stats.nbytes) == (1, 1, 0, 1, 100)


def test_the_least_recently_used_goes_first():
    cache = ChunkCache(300)
    for key in "abc":
        cache.put(key, array())
    cache.get("a")
    cache.put("d", array())
    assert [cache.get(key) is not None for key in "abcd"] == [True, False, True, True]
    cache.put("e", array(250))
    assert (len(cache), cache.stats.nbytes, cache.stats.evictions) == (1, 250, 4)


def test_putting_again_replaces_and_counts_once():
    cache = ChunkCache(300)
    cache.put("a", array(200))
    cache.put("a", array(100, 1))
    assert cache.stats.nbytes == 100
    assert cache.get("a")[0] == 1


def test_what_is_larger_than_the_cache_is_not_kept():
    cache = ChunkCache(99)
    kept = array()
    cache.put("a", kept)
    assert cache.get("a") is None
    assert not kept.flags.writeable
    assert ChunkCache(0).get("a") is None


def test_a_cleared_cache_is_empty():
    cache = ChunkCache()
    cache.put("a", array())
    cache.clear()
    assert (len(cache), cache.stats.nbytes) == (0, 0)


def test_a_memory_cache_pickles_empty():
    cache = ChunkCache(1234)
    cache.put("a", array())
    other = pickle.loads(pickle.dumps(cache))
    assert (other.max_bytes, len(other)) == (1234, 0)


def test_many_threads_keep_the_bound():
    cache = ChunkCache(5_000)

    def work(seed):
        for i in range(500):
            key = (seed * 7 + i) % 90
            found = cache.get(key)
            assert found is None or found[0] == key
            cache.put(key, array(100, key))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert cache.stats.nbytes == 100 * len(cache) <= 5_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_lock_that_was_held_at_a_fork_does_not_stop_the_child():
    cache = ChunkCache()
    cache.put("a", array())
    held, release = threading.Event(), threading.Event()

    def hold():
        with cache._lock:
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        os._exit(0 if cache.get("a") is not None else 1)
    release.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ---- disk ------------------------------------------------------------------------------------------------------------


def chunk(i, size=1000):
    data = bytes([i % 256, i // 256]) * (size // 2)
    return blake3_160(data), data


def files(path):
    return sorted(file for file in path.rglob("*") if file.is_file() and len(file.name) == 40)


def test_chunks_stay_for_the_next_process(tmp_path):
    cache = DiskCache(tmp_path / "cache")
    digest, data = chunk(1)
    assert cache.get(digest) is None
    cache.put(digest, memoryview(data))
    assert cache.get(digest) == data
    again = pickle.loads(pickle.dumps(cache))
    assert again.get(digest) == data
    assert (again.stats.hits, again.stats.entries, again.stats.nbytes) == (1, 1, 1000)
    assert [file.name for file in files(tmp_path)] == [digest.hex()]


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: b"", lambda data: b"x" + data[1:], lambda data: data + b"x"]
)
def test_a_damaged_file_is_dropped(tmp_path, damage, caplog):
    cache = DiskCache(tmp_path)
    digest, data = chunk(1)
    cache.put(digest, data)
    (file,) = files(tmp_path)
    file.write_bytes(damage(data))
    with caplog.at_level(logging.WARNING):
        assert cache.get(digest) is None
    assert "damaged" in caplog.text
    assert files(tmp_path) == []
    cache.put(digest, data)
    assert cache.get(digest) == data


def test_the_folder_stays_below_its_bound_and_keeps_what_was_used(tmp_path):
    cache = DiskCache(tmp_path, 20_000)
    first, data = chunk(0)
    cache.put(first, data)
    for i in range(1, 100):
        cache.put(*chunk(i))
        # Times of use as they would be: in order, and the first chunk is always the youngest.
        for file in files(tmp_path):
            if file.name == chunk(i)[0].hex():
                os.utime(file, (i, i))
            if file.name == first.hex():
                os.utime(file, (1000, 1000))
        assert sum(file.stat().st_size for file in files(tmp_path)) <= 20_000
    assert cache.get(first) == data
    assert cache.get(chunk(1)[0]) is None
    assert cache.get(chunk(99)[0]) is not None
    assert cache.stats.evictions > 0


def test_a_folder_that_others_filled_is_trimmed(tmp_path):
    for i in range(50):
        DiskCache(tmp_path, 1 << 30).put(*chunk(i))
    DiskCache(tmp_path, 10_000).put(*chunk(50))
    assert sum(file.stat().st_size for file in files(tmp_path)) <= 10_000


def test_what_is_larger_than_the_bound_is_not_kept(tmp_path):
    cache = DiskCache(tmp_path, 999)
    cache.put(*chunk(1))
    assert files(tmp_path) == []


def test_what_a_dead_process_left_is_removed(tmp_path):
    cache = DiskCache(tmp_path)
    (tmp_path / "tmp").mkdir()
    old, young = tmp_path / "tmp/1-old", tmp_path / "tmp/1-young"
    for file in (old, young):
        file.write_bytes(b"half a chunk")
    os.utime(old, (1, 1))
    cache.trim()
    assert (old.exists(), young.exists()) == (False, True)


def test_a_disk_that_cannot_be_written_costs_no_answer(tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    cache = DiskCache(tmp_path / "file")
    digest, data = chunk(1)
    with caplog.at_level(logging.WARNING):
        cache.put(digest, data)
        assert cache.get(digest) is None
    assert "cannot be written" in caplog.text


def test_many_threads_may_share_a_folder(tmp_path):
    chunks = [chunk(i) for i in range(40)]

    def work(seed):
        cache = DiskCache(tmp_path, 15_000)
        for i in range(200):
            digest, data = chunks[(seed + i * 7) % 40]
            found = cache.get(digest)
            assert found is None or found == data
            if found is None:
                cache.put(digest, data)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    DiskCache(tmp_path, 15_000).trim()
    assert sum(file.stat().st_size for file in files(tmp_path)) <= 15_000
    assert not list((tmp_path / "tmp").iterdir())
