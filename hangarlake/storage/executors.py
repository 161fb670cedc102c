"""Shared threads for input, output and decoding."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from hangarlake.storage.base import Buffer, ObjectStore

__all__ = ["cpu_count", "cpu_pool", "io_pool", "map_io", "put_all"]

IO_THREADS = 32

T = TypeVar("T")
R = TypeVar("R")

_lock = threading.Lock()
_io: ThreadPoolExecutor | None = None
_cpu: ThreadPoolExecutor | None = None
_worker = threading.local()


def cpu_count() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def io_pool() -> ThreadPoolExecutor:
    """Return the pool for tasks that wait for a store.

    Tasks in it must not wait for other tasks in it (see `map_io`).
    """
    global _io
    if _io is None:
        with _lock:
            if _io is None:
                _io = ThreadPoolExecutor(IO_THREADS, "hangarlake-io", initializer=_mark_worker)
    return _io


def cpu_pool() -> ThreadPoolExecutor:
    """Return the pool for decoding and hashing: one thread for each processor.

    Tasks in it must not wait for each other.
    """
    global _cpu
    if _cpu is None:
        with _lock:
            if _cpu is None:
                _cpu = ThreadPoolExecutor(cpu_count(), "hangarlake-cpu")
    return _cpu


def map_io(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Apply `function` to all `items` on the I/O threads; return the results in order.

    The calling thread takes the first item itself, so one item costs no thread hop. Within an I/O thread everything
    runs in that thread: a pool whose threads wait for each other stands still. If calls fail, the error of the first of
    them in order is raised, after all calls have ended. An interruption does not wait: what has not begun never will.
    """
    todo = list(items)
    if len(todo) <= 1 or getattr(_worker, "is_io", False):
        return [function(item) for item in todo]
    futures: list[Future[R]] = []
    late: list[T] = []
    pool = io_pool()
    for position, item in enumerate(todo[1:], 1):
        try:
            futures.append(pool.submit(function, item))
        except RuntimeError:
            # The interpreter is shutting down and starts no more threads.
            late = todo[position:]
            break
    results: list[R] = []
    first: Exception | None = None
    calls: list[Callable[[], R]] = [lambda: function(todo[0])]
    calls += [future.result for future in futures]
    calls += [lambda item=item: function(item) for item in late]  # type: ignore[misc]  # mypy cannot type a bound default
    for call in calls:
        try:
            results.append(call())
        except Exception as error:
            first = first or error
        except BaseException:
            for future in futures:
                future.cancel()
            raise
    if first is not None:
        raise first
    return results


def put_all(store: ObjectStore, items: Sequence[tuple[str, Buffer]]) -> None:
    """Write all `items` (key, data) at once; return when all are durable.

    If some fail, the error of the first of them is raised, after every other write has ended.
    """
    map_io(lambda item: store.put(item[0], item[1]), items)


def _mark_worker() -> None:
    _worker.is_io = True


def _after_fork() -> None:
    # The threads stayed in the parent, and the lock may have been held there.
    global _lock, _io, _cpu, _worker
    _lock = threading.Lock()
    _io = _cpu = None
    _worker = threading.local()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
