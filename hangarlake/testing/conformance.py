"""What every store has to do: a suite to derive from.

::

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def store(self):
            return MyStore(...)

The store that the fixture returns has to be empty.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import pickle
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

import pytest

from hangarlake.errors import CorruptionError, ObjectNotFoundError, ObjectTruncatedError, StorageError
from hangarlake.storage import ByteRange, probe_create_if_absent, put_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from hangarlake.storage.base import ObjectStore

__all__ = ["StoreConformance"]

_ROUNDS = 50
_THREADS = 16
_PROCESSES = 4
_LARGE = 20 << 20


class StoreConformance:
    """The contract of :class:`~hangarlake.storage.ObjectStore`, sentence by sentence.

    Attributes
    ----------
    refuses_existing : bool
        Set to false for a server that is known to ignore conditions; what depends on them is then left out, and the
        probe has to find it out.
    spans_processes : bool
        Set to false for a store whose objects never leave the process.
    many : int
        Objects of the listing test: more than one page of the store's listing.
    """

    refuses_existing: ClassVar[bool] = True
    spans_processes: ClassVar[bool] = True
    many: ClassVar[int] = 1_005

    def reopen(self, store: ObjectStore) -> Callable[[], ObjectStore]:
        """Return a picklable callable that opens the same store in another process."""
        return functools.partial(pickle.loads, pickle.dumps(store))

    def fill(self, store: ObjectStore, keys: list[str]) -> None:
        """Write one byte under each of many keys; a suite may do that in a quicker way."""
        put_all(store, [(key, b"x") for key in keys])

    # ---- reading and writing ---------------------------------------------------------------------------------------

    def test_a_put_object_is_read_back(self, store: ObjectStore) -> None:
        store.put("packs/ab/cd", b"content")
        assert store.get("packs/ab/cd") == b"content"

    def test_get_returns_bytes(self, store: ObjectStore) -> None:
        store.put("a", bytearray(b"content"))
        assert type(store.get("a")) is bytes

    def test_put_takes_any_buffer_and_keeps_none(self, store: ObjectStore) -> None:
        data = bytearray(b"0123456789")
        store.put("a", data)
        store.put_new("b", memoryview(data)[2:5])
        data[:] = b"xxxxxxxxxx"
        assert store.get("a") == b"0123456789"
        assert store.get("b") == b"234"

    def test_put_replaces(self, store: ObjectStore) -> None:
        store.put("hints/branches/main.json", b"a long first content")
        assert store.get_range("hints/branches/main.json", 0, 6) == b"a long"
        store.put("hints/branches/main.json", b"second")
        assert store.get("hints/branches/main.json") == b"second"
        assert store.get_range("hints/branches/main.json", 0, 6) == b"second"

    def test_objects_may_be_empty(self, store: ObjectStore) -> None:
        store.put("empty", b"")
        assert store.get("empty") == b""
        assert store.exists("empty")
        assert [(info.key, info.size) for info in store.list("")] == [("empty", 0)]

    def test_large_objects(self, store: ObjectStore) -> None:
        data = os.urandom(_LARGE)
        store.put("packs/large", data)
        assert store.get("packs/large") == data
        assert store.get_range("packs/large", _LARGE - 7, 7) == data[-7:]
        assert store.get_range("packs/large", 1, _LARGE - 1) == data[1:]

    def test_objects_are_read_up_to_a_limit(self, store: ObjectStore) -> None:
        store.put("a", b"content")
        store.put("empty", b"")
        assert store.get_bounded("a", 7) == b"content"
        assert store.get_bounded("empty", 7) == b""
        with pytest.raises(CorruptionError, match="6 bytes"):
            store.get_bounded("a", 6)
        with pytest.raises(ObjectNotFoundError, match="absent"):
            store.get_bounded("absent", 7)

    def test_absent_objects(self, store: ObjectStore) -> None:
        store.put("folder/there", b"x")
        for key in ("absent", "folder", "folder/absent", "folder/ther", "absent/absent"):
            with pytest.raises(ObjectNotFoundError, match=key):
                store.get(key)
            with pytest.raises(ObjectNotFoundError, match=key):
                store.get_range(key, 0, 1)
            assert not store.exists(key)
        assert store.exists("folder/there")

    def test_bad_keys_are_refused(self, store: ObjectStore) -> None:
        for key in ("", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "ä", "a b", "a\n", "a\\b"):
            for call in (store.put, store.put_new):
                with pytest.raises(StorageError):
                    call(key, b"x")
        assert list(store.list("")) == []

    def test_percent_encoded_names(self, store: ObjectStore) -> None:
        for name in ("ünïcödé", "a/b", "100%", "%2F", "a b+c", "日本語", "~", ".hidden", "dots..in", "a=b&c?d#e"):
            key = f"refs/tags/{quote(name, safe='').replace('~', '%7E')}.json"
            assert store.put_new(key, name.encode())
            assert store.get(key) == name.encode()
            assert store.get_range(key, 0, 1) == name.encode()[:1]
            assert [info.key for info in store.list("refs/")] == [key]
            assert store.list_prefixes("refs/tags/") == [key.removeprefix("refs/tags/")]
            store.delete([key])
            assert not store.exists(key)

    # ---- ranges ----------------------------------------------------------------------------------------------------

    def test_ranges_come_in_the_order_asked_for(self, store: ObjectStore) -> None:
        one, two = os.urandom(100_000), os.urandom(5_000)
        put_all(store, [("packs/1", one), ("packs/2", two)])
        ranges = [ByteRange("packs/2", 4_990, 10), ByteRange("packs/1", 0, 1)]
        ranges += [ByteRange("packs/1", start, 777) for start in range(90_000, 0, -9_001)]
        ranges += [ByteRange("packs/2", 0, 5_000), ByteRange("packs/1", 99_999, 1)]
        content = {"packs/1": one, "packs/2": two}
        expected = [content[item.key][item.start : item.start + item.length] for item in ranges]
        assert [bytes(data) for data in store.get_ranges(ranges)] == expected
        assert store.get_ranges([]) == []

    def test_empty_ranges_need_no_object(self, store: ObjectStore) -> None:
        store.put("a", b"abc")
        ranges = [ByteRange("absent", 0, 0), ByteRange("a", 1, 1), ByteRange("a", 99, 0)]
        assert [bytes(data) for data in store.get_ranges(ranges)] == [b"", b"b", b""]
        assert store.get_range("absent", 5, 0) == b""

    @pytest.mark.parametrize(("start", "length"), [(0, 4), (2, 2), (3, 1), (99, 5)])
    def test_a_range_past_the_end_is_an_error(self, store: ObjectStore, start: int, length: int) -> None:
        store.put("a", b"abc")
        with pytest.raises(ObjectTruncatedError):
            store.get_range("a", start, length)
        with pytest.raises(ObjectTruncatedError):
            store.get_ranges([ByteRange("a", 0, 1)] * 5 + [ByteRange("a", start, length)])

    @pytest.mark.parametrize(
        ("start", "length"), [(0, 1 << 45), (1 << 45, 1), (1 << 63, 1), ((1 << 64) - 1, (1 << 64) - 1)]
    )
    def test_a_range_that_no_object_has_is_an_error(self, store: ObjectStore, start: int, length: int) -> None:
        store.put("a", b"abc")
        with pytest.raises(ObjectTruncatedError):
            store.get_range("a", start, length)
        assert store.get_range("a", 0, 3) == b"abc"

    def test_negative_ranges_are_an_error(self, store: ObjectStore) -> None:
        store.put("a", b"abc")
        for start, length in ((-1, 1), (0, -1)):
            with pytest.raises(StorageError):
                store.get_range("a", start, length)

    def test_one_absent_object_among_ranges(self, store: ObjectStore) -> None:
        store.put("a", b"abc")
        with pytest.raises(ObjectNotFoundError):
            store.get_ranges([ByteRange("a", 0, 1), ByteRange("absent", 0, 1), ByteRange("a", 1, 1)])

    # ---- create if absent ------------------------------------------------------------------------------------------

    def test_put_new_creates_once(self, store: ObjectStore) -> None:
        assert store.put_new("refs/branches/main/0000000000000001.json", b"mine") is True
        if self.refuses_existing:
            assert store.put_new("refs/branches/main/0000000000000001.json", b"theirs, and longer") is False
        assert store.put_new("refs/branches/main/0000000000000002.json", b"") is True
        if self.refuses_existing:
            assert store.put_new("refs/branches/main/0000000000000002.json", b"not empty") is False
            assert store.get("refs/branches/main/0000000000000001.json") == b"mine"
            assert store.get("refs/branches/main/0000000000000002.json") == b""

    def test_put_new_after_put_and_delete(self, store: ObjectStore) -> None:
        store.put("a", b"1")
        if self.refuses_existing:
            assert not store.put_new("a", b"2")
        store.delete(["a"])
        assert store.put_new("a", b"3")
        assert store.get("a") == b"3"

    def test_the_probe(self, store: ObjectStore) -> None:
        if self.refuses_existing:
            probe_create_if_absent(store)
        else:
            with pytest.raises(StorageError, match="allow_unsafe_store=True"):
                probe_create_if_absent(store)
        assert list(store.list("")) == []

    def test_threads_that_create_at_once(self, store: ObjectStore) -> None:
        if not self.refuses_existing:
            pytest.skip("the server ignores conditions")
        barrier = threading.Barrier(_THREADS)
        contents = [bytes([number]) * 20_000 for number in range(_THREADS)]

        def race(number: int) -> list[bool]:
            won = []
            for turn in range(_ROUNDS):
                barrier.wait(60)
                won.append(store.put_new(f"race/{turn}", contents[number]))
            return won

        with ThreadPoolExecutor(_THREADS) as pool:
            results = list(pool.map(race, range(_THREADS)))
        _check_race(store, results, contents)

    def test_processes_that_create_at_once(self, store: ObjectStore) -> None:
        if not self.refuses_existing:
            pytest.skip("the server ignores conditions")
        if not self.spans_processes:
            pytest.skip("the store lives in one process")
        context = multiprocessing.get_context("spawn")
        barrier = context.Barrier(_PROCESSES)
        contents = [bytes([number]) * 20_000 for number in range(_PROCESSES)]
        with ProcessPoolExecutor(
            _PROCESSES, mp_context=context, initializer=_start_racer, initargs=(barrier, self.reopen(store))
        ) as pool:
            results = list(pool.map(_race, contents))
        _check_race(store, results, contents)

    # ---- listing ---------------------------------------------------------------------------------------------------

    def test_a_prefix_is_a_string_not_a_folder(self, store: ObjectStore) -> None:
        keys = ["a", "ab", "b-c/1", "b.c", "b/1", "b/10", "b/1x/y", "b/2", "b0", "c/d/e/f"]
        put_all(store, [(key, key.encode()) for key in keys])
        for prefix in ("", "a", "ab", "b", "b/", "b/1", "b/1x/", "b-", "c/d/e/f", "c/d/e/fg", "absent", "absent/"):
            expected = [(key, len(key)) for key in sorted(keys) if key.startswith(prefix)]
            assert [(info.key, info.size) for info in store.list(prefix)] == expected, prefix

    def test_listings_are_fresh(self, store: ObjectStore) -> None:
        for number in range(3):
            store.put(f"refs/branches/main/{number}", b"x")
            assert len(list(store.list("refs/branches/main/"))) == number + 1
            store.put(f"refs/branches/{number}/1", b"x")
            assert len(store.list_prefixes("refs/branches/")) == number + 2
        store.delete(["refs/branches/main/0"])
        assert [info.key for info in store.list("refs/branches/main/")] == [f"refs/branches/main/{n}" for n in (1, 2)]

    def test_listings_tell_when(self, store: ObjectStore) -> None:
        store.put("a", b"x")
        (info,) = store.list("a")
        if info.modified is not None:
            assert info.modified.tzinfo is not None
            assert abs(datetime.now(UTC) - info.modified) < timedelta(hours=1)

    def test_list_prefixes_is_one_level(self, store: ObjectStore) -> None:
        assert store.list_prefixes("refs/") == []
        put_all(
            store, [(key, b"x") for key in ("refs/a/1", "refs/a/2", "refs/b/c/1", "refs/b-c/1", "refs/d", "top", "z/1")]
        )
        assert store.list_prefixes("refs/") == ["a", "b", "b-c", "d"]
        assert store.list_prefixes("refs/b/") == ["c"]
        assert store.list_prefixes("absent/") == []
        assert store.list_prefixes("") == ["refs", "top", "z"]

    def test_no_folder_remains_of_deleted_objects(self, store: ObjectStore) -> None:
        put_all(store, [("refs/a/b/1", b"x"), ("refs/c/1", b"x")])
        store.delete(["refs/a/b/1"])
        assert store.list_prefixes("refs/") == ["c"]
        store.put("refs/a/b/2", b"x")
        assert store.list_prefixes("refs/") == ["a", "c"]

    def test_more_objects_than_a_page(self, store: ObjectStore) -> None:
        keys = [f"packs/{number % 7:02x}/{number:05}" for number in range(self.many)]
        self.fill(store, keys)
        assert [info.key for info in store.list("packs/")] == sorted(keys)
        assert store.list_prefixes("packs/") == [f"{number:02x}" for number in range(7)]
        store.delete(keys)
        assert list(store.list("")) == []

    # ---- deleting --------------------------------------------------------------------------------------------------

    def test_delete(self, store: ObjectStore) -> None:
        put_all(store, [("a/1", b"1"), ("a/2", b"2"), ("b", b"3")])
        store.delete(["a/1", "absent", "b", "absent/too"])
        store.delete(["a/1"])
        store.delete([])
        assert [info.key for info in store.list("")] == ["a/2"]
        with pytest.raises(ObjectNotFoundError):
            store.get("a/1")
        with pytest.raises(ObjectNotFoundError):
            store.get_range("b", 0, 1)

    # ---- threads, processes, reopening -----------------------------------------------------------------------------

    def test_many_threads_write_and_read(self, store: ObjectStore) -> None:
        def work(number: int) -> bool:
            data = bytes([number + 100]) * (1_000 + number)
            store.put(f"packs/{number % 4}/{number}", data)
            middle = store.get_range(f"packs/{number % 4}/{number}", 10, 20)
            return store.get(f"packs/{number % 4}/{number}") == data and bytes(middle) == data[10:30]

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(64)))

    def test_readers_see_old_or_new_never_a_part(self, store: ObjectStore) -> None:
        store.put("hints/x", b"a" * 50_000)
        done = threading.Event()

        def write() -> None:
            for number in range(20):
                store.put("hints/x", b"ab"[number % 2 : number % 2 + 1] * (50_000 + number % 2))
            done.set()

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            while not done.is_set() and not writing.done():
                data = store.get("hints/x")
                assert data in (b"a" * 50_000, b"b" * 50_001)
            writing.result()

    def test_a_pickled_store_is_the_same_store(self, store: ObjectStore) -> None:
        store.put("a", b"x")
        other = pickle.loads(pickle.dumps(store))
        assert other.url == store.url
        assert other.get("a") == b"x"
        other.put("b", b"y")
        assert store.get("b") == b"y"

    def test_a_closed_store_opens_again(self, store: ObjectStore) -> None:
        store.put("a", b"xyz")
        assert store.get_range("a", 0, 1) == b"x"
        store.close()
        assert store.get_range("a", 1, 1) == b"y"
        store.put("b", b"z")
        assert store.get("b") == b"z"

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
    def test_use_after_fork(self, store: ObjectStore) -> None:
        store.put("a", b"parent")
        assert [bytes(data) for data in store.get_ranges([ByteRange("a", 0, 3), ByteRange("a", 3, 3)])] == [
            b"par",
            b"ent",
        ]
        child = multiprocessing.get_context("fork").Process(target=_use_in_child, args=(store, self.refuses_existing))
        child.start()
        child.join(60)
        hung = child.is_alive()
        if hung:
            child.kill()
            child.join()
        assert not hung, "the child waited for threads of its parent"
        assert child.exitcode == 0
        assert store.get("a") == b"parent"
        if self.spans_processes:
            assert store.get("child") == b"child"

    def test_what_a_store_shows_of_itself(self, store: ObjectStore) -> None:
        assert isinstance(store.url, str)
        assert store.url
        assert type(store).__name__ in repr(store)


def _check_race(store: ObjectStore, results: list[list[bool]], contents: list[bytes]) -> None:
    for turn in range(_ROUNDS):
        winners = [number for number, won in enumerate(results) if won[turn]]
        assert len(winners) == 1, f"round {turn}: {len(winners)} winners"
        assert store.get(f"race/{turn}") == contents[winners[0]], f"round {turn}: not the winner's content"


_racer: Any = None


def _start_racer(barrier: Any, reopen: Callable[[], ObjectStore]) -> None:
    global _racer
    _racer = (barrier, reopen())


def _race(content: bytes) -> list[bool]:
    barrier, store = _racer
    won = []
    for turn in range(_ROUNDS):
        barrier.wait(60)
        won.append(store.put_new(f"race/{turn}", content))
    return won


def _use_in_child(store: ObjectStore, refuses_existing: bool) -> None:
    assert store.get("a") == b"parent"
    ranges = [ByteRange("a", 0, 3), ByteRange("a", 3, 3)]
    assert [bytes(data) for data in store.get_ranges(ranges)] == [b"par", b"ent"]
    assert store.put_new("child", b"child")
    if refuses_existing:
        assert not store.put_new("child", b"again")
    put_all(store, [(f"more/{number}", b"x") for number in range(5)])
    assert len(list(store.list("more/"))) == 5
