"""zarr's own suites for stores, on writable stores of write checkouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from zarr.core.buffer import Buffer, cpu
from zarr.testing.stateful import ZarrHierarchyStateMachine, ZarrStoreStateMachine
from zarr.testing.store import StoreTests

from hangarlake import WriteCheckout
from hangarlake.arrays.store import HangarlakeStore

QUICK = settings(
    max_examples=10, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


class TestHangarlakeStore(StoreTests[HangarlakeStore, cpu.Buffer]):
    store_cls = HangarlakeStore
    buffer_cls = cpu.Buffer

    async def set(self, store: HangarlakeStore, key: str, value: Buffer) -> None:
        store._core.set(key, value.to_bytes())  # type: ignore[attr-defined]

    async def get(self, store: HangarlakeStore, key: str) -> Buffer:
        data = store._core.get(key)
        assert data is not None
        return self.buffer_cls.from_bytes(data)

    @pytest.fixture
    def store_kwargs(self, fresh_writer: Callable[[], WriteCheckout]) -> dict[str, Any]:
        return {"checkout": fresh_writer(), "read_only": False}

    def test_store_repr(self, store: HangarlakeStore) -> None:
        assert "HangarlakeStore" in repr(store)
        assert "branch-" in repr(store)

    def test_store_supports_writes(self, store: HangarlakeStore) -> None:
        assert store.supports_writes

    def test_store_supports_listing(self, store: HangarlakeStore) -> None:
        assert store.supports_listing


class TestCommittedStore(TestHangarlakeStore):
    """The same with everything committed before it is looked at."""

    async def get(self, store: HangarlakeStore, key: str) -> Buffer:
        store.checkout.commit("what was set", allow_empty=True)  # type: ignore[attr-defined]
        return await super().get(store, key)

    async def set(self, store: HangarlakeStore, key: str, value: Buffer) -> None:
        await super().set(store, key, value)
        store.checkout.commit("set", allow_empty=True)  # type: ignore[attr-defined]


def test_a_store_behaves_as_a_dict_does(fresh_writer: Callable[[], WriteCheckout]) -> None:
    run_state_machine_as_test(lambda: ZarrStoreStateMachine(fresh_writer().store), settings=QUICK)


def test_a_hierarchy_behaves_as_one_in_memory_does(fresh_writer: Callable[[], WriteCheckout]) -> None:
    run_state_machine_as_test(lambda: ZarrHierarchyStateMachine(fresh_writer().store), settings=QUICK)


def test_a_hierarchy_does_so_with_commits_in_between(fresh_writer: Callable[[], WriteCheckout]) -> None:
    from hypothesis.stateful import rule

    class Committing(ZarrHierarchyStateMachine):
        @rule()
        def commit(self) -> None:
            self.store.checkout.commit("so far", allow_empty=True)  # type: ignore[attr-defined]

    run_state_machine_as_test(lambda: Committing(fresh_writer().store), settings=QUICK)
