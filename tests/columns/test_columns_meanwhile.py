"""Reading and writing a column while something else happens: other threads, commits, an interruption."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from hangarlake import working_set
from hangarlake.columns import stage as column_stage
from hangarlake.storage.executors import cpu_pool


def numbered(n: int, plus: int = 0) -> np.ndarray[Any, Any]:
    return np.arange(n)[:, None] + np.arange(4) + plus


@pytest.mark.parametrize("how", ["batch", "large batch", "one", "lazy", "scan", "list"])
def test_a_chunk_that_is_uploaded_while_it_is_asked_for_is_read(
    w: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    column, texts = w.add_ndarray_column("x", (4,), np.int64), w.add_str_column("t")
    column.extend(range(50), numbered(50))
    texts.extend(range(50), [str(i) for i in range(50)])
    column.nbytes, texts.nbytes  # noqa: B018 - folds, so that everything lies in chunks
    pending = w.pending.pending

    def landed(digest: bytes) -> Any:
        w.pending.flush()  # as another thread's writing may do just now
        return pending(digest)

    monkeypatch.setattr(w.pending, "pending", landed)
    reads = {
        "batch": lambda: column.batch([3, 4])[0],
        "large batch": lambda: column.batch([3] * 5000)[0],
        "one": lambda: column[3],
        "lazy": lambda: column.lazy(3)[:],
        "scan": lambda: next(column.scan(order="key"))[1][3],
        "list": lambda: np.array([int(each) for each in texts.batch([3, 4, 5, 6])]),
    }
    assert reads[how]().tolist() == [3, 4, 5, 6]


def test_a_tree_and_its_nodes_are_of_one_moment(w: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    column = w.add_ndarray_column("x", (4,), np.int64)
    column.extend(range(50), numbered(50))
    kind = type(w)
    nodes = kind.nodes.fget
    held = []
    monkeypatch.setattr(kind, "nodes", property(lambda self: (held.append(self._lock._is_owned()), nodes(self))[1]))
    assert len(list(column)) == 50
    assert len(column.batch([1] * 5000)) == 5000
    assert sum(len(keys) for keys, _ in column.scan()) == 50
    assert column.nbytes == 50 * 32
    assert len(held) >= 3
    assert all(held), "another thread may fold or commit between the two"


def test_going_on_through_staged_samples_that_were_replaced_and_committed_says_so(
    w: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working_set, "_SPILL_BYTES", 1)
    column = w.add_ndarray_column("x", (4,), np.int64)
    column.extend(range(40_000), numbered(40_000))
    keys = iter(column)
    assert next(keys) == 0
    column.extend(range(40_000), numbered(40_000, plus=7))
    w.commit("replaced")
    with pytest.raises(RuntimeError, match="committed or dropped meanwhile; begin it again"):
        list(keys)
    assert len(list(column)) == 40_000


def test_going_through_samples_that_are_committed_meanwhile_goes_on(w: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working_set, "_SPILL_BYTES", 1)
    column = w.add_ndarray_column("x", (4,), np.int64)
    column.extend(range(40_000), numbered(40_000))
    samples = iter(column.items())
    next(samples)
    w.commit("as they are")
    assert [key for key, _ in samples] == list(range(1, 40_000))


def test_an_interruption_while_chunks_are_encoded_loses_no_sample(
    repo: Any, w: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    column = w.add_ndarray_column("x", (4,), np.int64, encoding={"chunk_bytes": 320})
    column.extend(range(5), numbered(5))
    interrupted = []

    class Interrupted(Future[bytes]):
        def result(self, timeout: float | None = None) -> bytes:
            if not interrupted:
                interrupted.append(self)
                raise KeyboardInterrupt
            return super().result(timeout)

    class Pool:
        def submit(self, function: Any, *args: Any) -> Interrupted:
            future = Interrupted()
            future.set_result(cpu_pool().submit(function, *args).result())
            return future

    monkeypatch.setattr(column_stage, "cpu_pool", Pool)
    with pytest.raises(KeyboardInterrupt):
        column.extend(range(5, 100), numbered(100)[5:])
    assert interrupted
    assert list(column) == list(range(5))
    column.extend(range(50, 55), numbered(55)[50:])
    w.commit("what was there before and after")
    stored = repo.checkout()["x"]
    assert {key: value.tolist() for key, value in stored.items()} == {
        key: numbered(100)[key].tolist() for key in [*range(5), *range(50, 55)]
    }


def test_a_writer_of_many_commits_forgets_where_their_chunks_lie(w: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hangarlake.chunks.uploader._KEPT_PLACES", 8)
    values = np.random.default_rng(0).integers(0, 1 << 60, (2020, 512))
    column = w.add_ndarray_column("x", (512,), "i8")
    array = w.create_array("a", shape=(20, 512), dtype="i8", chunks=(1, 512))
    column.extend(range(2000), values[:2000])
    array[0] = values[0]
    w.status()  # folds
    assert column[5].tolist() == values[5].tolist()  # keeps a leaf whose chunks are not in the bucket yet
    w.commit("many")
    for i in range(1, 20):
        column[f"far away {i}"] = values[2000 + i]
        array[i] = values[i]
        w.commit(f"number {i}")
        assert len(w.pending.places) <= 8
    assert column[5].tolist() == values[5].tolist()
    column["far away again"] = values[7]  # a value that is known from the first commit
    column[6] = values[8]
    w.commit("again")
    for view in (w, w.repository.checkout()):
        assert view["x", "far away again"].tolist() == values[7].tolist()
        assert np.array_equal(view["x"].batch([5, 6, 1999]), values[[5, 8, 1999]])
        assert np.array_equal(view["a"][...], values[:20])


def test_going_on_after_a_close_does_not_open_the_staging_file_again(w: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working_set, "_SPILL_BYTES", 1)
    column = w.add_ndarray_column("x", (), "i8")
    column.extend(range(20_000), np.arange(20_000))
    begun = iter(column)
    next(begun)
    w.close()
    for each in (begun, iter(column), iter(column.values())):
        with pytest.raises(ValueError, match="is closed; open another"):
            list(each)
    with w.repository.checkout(write=True) as again:  # the lock is free, and what was staged is there
        assert len(again["x"]) == 20_000
