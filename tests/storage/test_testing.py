"""The aids themselves: counting, faults, threads, the probe."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading

import pytest

from hangarlake.errors import StorageError, UnsafeStoreError
from hangarlake.storage import (
    ByteRange,
    LocalStore,
    MemoryStore,
    ObjectStore,
    io_pool,
    map_io,
    probe_create_if_absent,
    put_all,
)
from hangarlake.testing import CountingStore, Fault, FaultyStore, Request, StoreConformance, WrappingStore


class TestCountingConformance(StoreConformance):
    spans_processes = False

    @pytest.fixture
    def store(self) -> ObjectStore:
        return CountingStore(MemoryStore())


class TestWrappingConformance(StoreConformance):
    @pytest.fixture
    def store(self, local_store: LocalStore) -> ObjectStore:
        return WrappingStore(local_store)


class TestFaultyConformance(StoreConformance):
    @pytest.fixture
    def store(self, local_store: LocalStore) -> ObjectStore:
        return FaultyStore(local_store)


def test_counting(memory_store: MemoryStore) -> None:
    store = CountingStore(memory_store)
    store.put("a", b"12345")
    assert store.put_new("b", b"123")
    store.get_ranges([ByteRange("a", 0, 2), ByteRange("a", 3, 2), ByteRange("a", 0, 0)])
    with pytest.raises(StorageError):
        store.get("absent")
    assert [(item.op, item.key, item.bytes) for item in store.requests] == [
        ("put", "a", 5),
        ("put_new", "b", 3),
        ("get_ranges", "a", 2),
        ("get_ranges", "a", 2),
        ("get", "absent", 0),
    ]
    assert (store.bytes_read, store.bytes_written, store.round_trips()) == (4, 8, 4)
    store.reset()
    assert store.requests == []
    assert store.round_trips() == 0


@pytest.mark.parametrize(
    "spans, chain",
    [
        ([], 0),
        ([(0, 1)], 1),
        ([(0, 1), (0, 1), (0.5, 2)], 1),
        ([(0, 1), (1, 2), (2, 3)], 3),
        ([(0, 10), (1, 2), (3, 4), (5, 6)], 3),
        ([(0, 3), (1, 2), (2.5, 4), (3.5, 5)], 2),
        ([(4, 5), (0, 1), (2, 3)], 3),
    ],
)
def test_round_trips_are_the_longest_chain(
    memory_store: MemoryStore, spans: list[tuple[float, float]], chain: int
) -> None:
    store = CountingStore(memory_store)
    store._requests.extend(Request("get", "a", 0, start, end) for start, end in spans)
    assert store.round_trips() == chain


def test_requests_at_once_are_one_round_trip(memory_store: MemoryStore) -> None:
    store = CountingStore(memory_store, latency=0.05)
    put_all(store, [(str(number), b"x") for number in range(5)])
    assert store.round_trips() == 1
    store.put("last", b"x")
    assert store.round_trips() == 2


def test_faults(memory_store: MemoryStore) -> None:
    store = FaultyStore(
        memory_store,
        [
            Fault(op="put", key="a*", after=1),
            Fault("lost-answer", op="put_new"),
            Fault("truncate", op="get"),
            Fault("corrupt", op="get_ranges", times=2),
        ],
    )
    store.put("a1", b"1234")
    with pytest.raises(StorageError, match="injected"):
        store.put("a2", b"1234")
    assert not memory_store.exists("a2")
    store.put("a2", b"1234")
    with pytest.raises(StorageError, match="injected"):
        store.put_new("b", b"mine")
    assert memory_store.get("b") == b"mine"
    assert store.put_new("b", b"mine") is False
    assert store.get("b") == b"mi"
    assert store.get("b") == b"mine"
    damaged = store.get_ranges([ByteRange("a1", 0, 4)] * 3)
    assert [data == b"1234" for data in damaged] == [False, False, True]
    assert store.counts == {"put": 3, "put_new": 2, "get": 2, "get_ranges": 3}
    assert pickle.loads(pickle.dumps(store)).get("b") == b"mine"


def test_after_a_crash_nothing_works(memory_store: MemoryStore) -> None:
    store = FaultyStore(memory_store, [Fault("crash", op="put", after=1)])
    store.put("a", b"1")
    for call in (lambda: store.put("b", b"1"), lambda: store.get("a"), lambda: store.list_prefixes("")):
        with pytest.raises(StorageError):
            call()
    assert store.crashed
    assert [info.key for info in memory_store.list("")] == ["a"]


def test_another_writer_comes_in_between(memory_store: MemoryStore) -> None:
    store = FaultyStore(
        memory_store, [Fault("lost-answer", op="put_new", action=lambda inner: inner.put("a", b"theirs"))]
    )
    with pytest.raises(StorageError):
        store.put_new("a", b"mine")
    assert memory_store.get("a") == b"theirs"


@pytest.mark.parametrize("op", ["list", "list_prefixes", "exists", "delete"])
def test_any_answer_can_be_lost(memory_store: MemoryStore, op: str) -> None:
    store = FaultyStore(memory_store, [Fault("lost-answer", op=op)])
    calls = {
        "list": lambda: list(store.list("")),
        "list_prefixes": lambda: store.list_prefixes(""),
        "exists": lambda: store.exists("a"),
        "delete": lambda: store.delete(["a"]),
    }
    with pytest.raises(StorageError, match="injected"):
        calls[op]()
    calls[op]()


def test_counting_knows_bytes_from_elements(memory_store: MemoryStore) -> None:
    store = CountingStore(memory_store)
    store.put("a", memory_view := memoryview(b"12345678").cast("I"))
    assert len(memory_view) == 2
    assert store.bytes_written == 8


def test_put_all_ends_every_write_and_raises_the_first_error(memory_store: MemoryStore) -> None:
    errors = [StorageError("first"), StorageError("second")]
    store = FaultyStore(
        memory_store, [Fault(key="2", error=lambda: errors[0]), Fault(key="4", error=lambda: errors[1])]
    )
    with pytest.raises(StorageError, match="first"):
        put_all(store, [(str(number), b"x") for number in range(6)])
    assert [info.key for info in memory_store.list("")] == ["0", "1", "3", "5"]
    put_all(store, [])


def test_map_io_keeps_order_and_does_not_wait_for_itself() -> None:
    def outer(number: int) -> list[int]:
        return map_io(lambda inner: number * 10 + inner, range(3))

    assert map_io(outer, range(100)) == [[number * 10 + inner for inner in range(3)] for number in range(100)]
    assert io_pool().submit(map_io, outer, range(4)).result(30) == [outer(number) for number in range(4)]


def test_an_interruption_does_not_wait_for_what_has_not_begun() -> None:
    go, begun = threading.Event(), []

    def work(number: int) -> None:
        if number == 0:
            raise KeyboardInterrupt
        begun.append(number)
        go.wait(30)

    try:
        with pytest.raises(KeyboardInterrupt):
            map_io(work, range(500))
    finally:
        go.set()
    io_pool().submit(int).result(30)
    assert len(begun) < 400


def test_map_io_runs_at_once() -> None:
    barrier = threading.Barrier(8)
    map_io(lambda _: barrier.wait(30), range(8))


def test_the_probe_cleans_up_and_survives_a_store_that_forbids_deletion() -> None:
    inner = _Conditional()
    probe_create_if_absent(inner)
    assert list(inner.list("")) == []
    probe_create_if_absent(FaultyStore(inner, [Fault(op="delete", times=None)]))


def test_the_probe_checks_the_content_too() -> None:
    store = _Conditional()
    store.overwrites = True
    with pytest.raises(UnsafeStoreError, match="memory://"):
        probe_create_if_absent(store)


class _Conditional(MemoryStore):
    overwrites = False

    @property
    def creates_atomically(self) -> bool:
        return False

    def put_new(self, key: str, data: object) -> bool:
        created = super().put_new(key, data)  # type: ignore[arg-type]  # only bytes are passed
        if self.overwrites:
            self.put(key, data)  # type: ignore[arg-type]  # only bytes are passed
        return created


def test_the_aids_need_no_pytest() -> None:
    code = "import sys; sys.modules['pytest'] = None; import hangarlake.testing; hangarlake.testing.FaultyStore"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_engine_takes_what_is_no_key_or_no_folder(any_store: ObjectStore) -> None:
    any_store.put("refs/tags/a", b"1")
    for key in ("../a", "/a", "a b"):
        for call in (any_store.get, any_store.exists, lambda key: any_store.delete([key])):
            with pytest.raises(StorageError, match="is not an object key"):
                call(key)
    for prefix in ("refs", "refs/tags", "refs/../tags/"):
        with pytest.raises(StorageError):
            any_store.list_prefixes(prefix)


def test_work_after_a_fork_has_threads_of_its_own(any_store: ObjectStore) -> None:
    put_all(any_store, [("a", b"1"), ("b", b"2")])
    assert any_store.get("a") == b"1"
