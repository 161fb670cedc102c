"""A store that fails on demand."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal, TypeAlias

from hangarlake.errors import StorageError
from hangarlake.testing.wrapping import WrappingStore

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterator, Sequence

    from hangarlake.storage.base import Buffer, ByteRange, ObjectInfo, ObjectStore

__all__ = ["Fault", "FaultyStore"]

FaultKind: TypeAlias = Literal["error", "lost-answer", "truncate", "corrupt", "crash"]


def _injected() -> Exception:
    return StorageError("injected fault")


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes
    ----------
    kind : str
        - ``"error"``: the request fails and changes nothing.
        - ``"lost-answer"``: the request succeeds, and its answer is lost.
        - ``"truncate"``: reads return half; writes store nothing and fail. Other requests pass, and count.
        - ``"corrupt"``: reads return bytes of which one is changed. Other requests pass, and count.
        - ``"crash"``: this request and all after it fail, as if the process had died before it.
    op : str
        The operation, or ``"*"``. A range of `get_ranges` counts as one request ``"get_ranges"``.
    key : str
        A pattern (``fnmatch``) for keys.
    after : int
        So many matching requests pass first.
    times : int or None
        So many fail; ``None``: all.
    error : callable
        Makes the exception.
    action : callable, optional
        Called before the request with the inner store: what another writer does just then.
    """

    kind: FaultKind = "error"
    op: str = "*"
    key: str = "*"
    after: int = 0
    times: int | None = 1
    error: Callable[[], Exception] = _injected
    action: Callable[[ObjectStore], object] | None = None

    def _hits(self, op: str, key: str) -> bool:
        if self.op not in ("*", op) or not fnmatchcase(key, self.key):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0


class FaultyStore(WrappingStore):
    """A store that passes requests on to another one, except where `plan` says otherwise.

    Parameters
    ----------
    inner : ObjectStore
    plan : sequence of Fault
        The first fault that matches a request happens. May be changed at any time through `plan`.

    Attributes
    ----------
    counts : dict[str, int]
        Requests by operation, failed ones included.
    crashed : bool
        Whether a ``"crash"`` has happened.
    """

    def __init__(self, inner: ObjectStore, plan: Sequence[Fault] = ()) -> None:
        super().__init__(inner)
        self.plan = list(plan)
        self.counts: dict[str, int] = {}
        self.crashed = False
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes:
        fault = self._meet("get", key)
        return bytes(_damaged(self.inner.get(key), fault))

    def get_bounded(self, key: str, limit: int) -> bytes:
        fault = self._meet("get", key)
        return bytes(_damaged(self.inner.get_bounded(key, limit), fault))

    def get_ranges(self, ranges: Sequence[ByteRange]) -> builtins.list[Buffer]:
        faults = [self._meet("get_ranges", item.key) if item.length else None for item in ranges]
        return [_damaged(data, fault) for data, fault in zip(self.inner.get_ranges(ranges), faults, strict=True)]

    def put(self, key: str, data: Buffer) -> None:
        fault = self._meet("put", key)
        self.inner.put(key, data)
        _lose(fault)

    def put_new(self, key: str, data: Buffer) -> bool:
        fault = self._meet("put_new", key)
        created = self.inner.put_new(key, data)
        _lose(fault)
        return created

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        fault = self._meet("list", prefix)
        yield from self.inner.list(prefix)
        _lose(fault)

    def list_prefixes(self, prefix: str) -> builtins.list[str]:
        fault = self._meet("list_prefixes", prefix)
        found = self.inner.list_prefixes(prefix)
        _lose(fault)
        return found

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            fault = self._meet("delete", key)
            self.inner.delete([key])
            _lose(fault)

    def exists(self, key: str) -> bool:
        fault = self._meet("exists", key)
        found = self.inner.exists(key)
        _lose(fault)
        return found

    def __reduce__(self) -> tuple[type[FaultyStore], tuple[ObjectStore, builtins.list[Fault]]]:
        return FaultyStore, (self.inner, self.plan)

    def __repr__(self) -> str:
        return f"FaultyStore({self.inner!r}, {len(self.plan)} faults)"

    def _meet(self, op: str, key: str) -> Fault | None:
        """Count a request; raise what happens before it, or return what happens after it."""
        with self._lock:
            self.counts[op] = self.counts.get(op, 0) + 1
            if self.crashed:
                raise StorageError("the store is gone: an injected crash came before")
            fault = next((fault for fault in self.plan if fault._hits(op, key)), None)
            if fault is not None and fault.kind == "crash":
                self.crashed = True
        if fault is None:
            return None
        if fault.action is not None:
            fault.action(self.inner)
        if fault.kind in ("error", "crash") or (fault.kind == "truncate" and op in ("put", "put_new")):
            raise fault.error()
        return fault


def _damaged(data: Buffer, fault: Fault | None) -> Buffer:
    if fault is None:
        return data
    _lose(fault)
    content = bytearray(data)
    if fault.kind == "truncate":
        return bytes(content[: len(content) // 2])
    if content:
        content[len(content) // 2] ^= 0xFF
    return bytes(content)


def _lose(fault: Fault | None) -> None:
    if fault is not None and fault.kind == "lost-answer":
        raise fault.error()
