"""Columns against plain dicts: any sequence of changes, flushes, reopenings, commits and resets."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hangarlake import NothingToCommitError, SampleNotFoundError, SchemaError
from hangarlake.columns import stage as stage_module
from hangarlake.storage import LocalStore, MemoryStore, ObjectStore
from tests.columns.values import create, exact, key_order, reopen

KINDS = ("fixed", "ragged", "text", "raw", "doc")
SMALL = {"chunk_bytes": 64}

keys = st.one_of(
    st.integers(-3, 30),
    st.integers(0, 1000),
    st.sampled_from([-(2**63), 2**63 - 1, 2**32]),
    st.sampled_from(["0", "1", "-1", "a", "ab", "é", "z" * 40, "日本"]),
    st.integers(0, 400).map(str),
)


def make(kind: str, seed: int) -> Any:
    """Return one of few values of a kind, so that equal ones come up."""
    if kind == "fixed":
        return np.array([seed, -seed, seed % 3], np.int16)
    if kind == "ragged":
        return np.full((seed % 7, 2), seed / 4, np.float32)
    if kind == "text":
        return "ü" * (seed % 5) + str(seed % 11) * (seed % 90)
    if kind == "raw":
        return bytes([seed % 256]) * (seed % 33)
    return [None, True, seed, {"a": [seed / 2, "x"]}, "s"][: seed % 6]


seeds = st.integers(0, 40)


class ColumnsMachine(RuleBasedStateMachine):
    """One writer and the dicts that say what its columns hold."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="columns"))
        self.fold_at = stage_module._FOLD_AT
        self.w: Any = None

    @initialize(local=st.booleans(), fold_at=st.sampled_from([7, 1 << 18]))
    def start(self, local: bool, fold_at: int) -> None:
        stage_module._FOLD_AT = fold_at
        self.store: ObjectStore = LocalStore(self.folder / "store") if local else MemoryStore()
        self.repo = create(self.store, self.folder / "cache")
        self.names = {kind: kind for kind in KINDS}
        self.model: dict[str, dict[Any, Any]] = {kind: {} for kind in KINDS}
        self.appended = dict.fromkeys(KINDS, -1)
        with self.repo.checkout(write=True) as w:
            w.add_ndarray_column("fixed", (3,), np.int16, encoding=SMALL)
            w.add_ndarray_column(
                "ragged", (None, 2), np.float32, variable_shape=True, encoding={**SMALL, "chunk_shape": (4, 2)}
            )
            w.add_str_column("text", encoding=SMALL)
            w.add_bytes_column("raw", encoding={**SMALL, "compressor": None})
            w.add_json_column("doc", encoding={**SMALL, "compressor": "gzip"})
            self.committed = [(w.commit("columns").id, self.snapshot())]
        self.w = self.repo.checkout(write=True)

    def snapshot(self) -> dict[str, dict[Any, Any]]:
        return {self.names[kind]: dict(held) for kind, held in self.model.items()}

    def column(self, kind: str) -> Any:
        return self.w[self.names[kind]]

    # ---- changes -----------------------------------------------------------------------------------------------------

    @rule(kind=st.sampled_from(KINDS), key=keys, seed=seeds)
    def set_one(self, kind: str, key: Any, seed: int) -> None:
        self.column(kind)[key] = self.model[kind][key] = make(kind, seed)

    @rule(kind=st.sampled_from(KINDS), key=keys)
    def delete_one(self, kind: str, key: Any) -> None:
        column = self.column(kind)
        if key in self.model[kind]:
            del column[key], self.model[kind][key]
        else:
            with pytest.raises(SampleNotFoundError):
                del column[key]

    @rule(kind=st.sampled_from(KINDS), start=st.integers(0, 900), count=st.integers(0, 60))
    def delete_run(self, kind: str, start: int, count: int) -> None:
        for key in range(start, start + count):
            if key in self.model[kind]:
                del self.column(kind)[key], self.model[kind][key]

    @rule(kind=st.sampled_from(KINDS), listed=st.lists(st.tuples(keys, seeds), max_size=12), pairs=st.booleans())
    def extend_or_update(self, kind: str, listed: list[tuple[Any, int]], pairs: bool) -> None:
        made = [(key, make(kind, seed)) for key, seed in listed]
        if pairs:
            self.column(kind).update(iter(made))
        else:
            given: Any = [key for key, _ in made]
            self.column(kind).extend(given, (value for _, value in made))
        self.model[kind].update(made)

    @rule(
        kind=st.sampled_from(KINDS),
        start=st.integers(0, 1000),
        count=st.integers(1, 300),
        seed=seeds,
        array=st.booleans(),
    )
    def extend_run(self, kind: str, start: int, count: int, seed: int, array: bool) -> None:
        values: Any = [make(kind, (seed + i) % 97) for i in range(count)]
        self.model[kind].update(zip(range(start, start + count), values, strict=True))
        block = np.stack(values) if array and kind == "fixed" else values
        self.column(kind).extend(range(start, start + count), block)

    @rule(kind=st.sampled_from(KINDS), listed=st.lists(st.tuples(keys, seeds), max_size=30), how=st.integers(0, 3))
    def extend_fails(self, kind: str, listed: list[tuple[Any, int]], how: int) -> None:
        def samples() -> Any:
            yield from (make(kind, seed) for _, seed in listed)
            if how == 0:
                raise ZeroDivisionError
            if how == 1:
                yield object()

        given = [key for key, _ in listed]
        with pytest.raises((ZeroDivisionError, SchemaError)):
            self.column(kind).extend([*given, True] if how == 2 else [*given, 5], samples())

    @rule(kind=st.sampled_from(KINDS), seed=seeds)
    def append_one(self, kind: str, seed: int) -> None:
        held = self.model[kind]
        greatest = max((key for key in held if isinstance(key, int)), default=-1)
        if greatest < 2**63 - 1 and self.appended[kind] < 2**63 - 1:
            key = self.column(kind).append(make(kind, seed))
            # Greater than what is there; a key that was removed again may be left out.
            assert key > greatest
            assert 0 <= key <= max(greatest, self.appended[kind]) + 1
            held[key] = make(kind, seed)

    @rule(kind=st.sampled_from(KINDS), key=keys)
    def pop_one(self, kind: str, key: Any) -> None:
        expected = self.model[kind].pop(key, None)
        assert exact(self.column(kind).pop(key, None)) == exact(expected)

    @rule(kind=st.sampled_from(KINDS), new=st.booleans())
    def rename(self, kind: str, new: bool) -> None:
        name = f"renamed/{kind}" if new else kind
        self.w.rename(self.names[kind], name)
        self.names[kind] = name

    # ---- keeping -----------------------------------------------------------------------------------------------------

    @rule()
    def flush(self) -> None:
        self.w.flush()

    @rule(fresh=st.booleans())
    def close_and_go_on(self, fresh: bool) -> None:
        self.w.close()
        if fresh:
            self.repo = reopen(self.store, self.folder / "cache")
        self.w = self.repo.checkout(write=True)

    @rule()
    def commit(self) -> None:
        try:
            commit = self.w.commit("a change")
        except NothingToCommitError:
            assert exact(self.snapshot()) == exact(self.committed[-1][1])
        else:
            self.committed.append((commit.id, self.snapshot()))
        assert not self.w.status()

    @rule()
    def reset(self) -> None:
        self.w.reset()
        back = self.committed[-1][1]
        self.names = {kind: kind if kind in back else f"renamed/{kind}" for kind in KINDS}
        self.model = {kind: dict(back[self.names[kind]]) for kind in KINDS}

    # ---- looking -----------------------------------------------------------------------------------------------------

    @rule(kind=st.sampled_from(KINDS), key=keys)
    def look_at_one(self, kind: str, key: Any) -> None:
        column, held = self.column(kind), self.model[kind]
        assert (key in column) == (key in held)
        assert exact(column.get(key, "absent")) == exact(held.get(key, "absent"))
        if key in held and kind in ("fixed", "ragged"):
            assert column.shape_of(key) == held[key].shape
            assert exact(column.lazy(key)[...]) == exact(held[key])
            assert exact(column.lazy(key)[-2:]) == exact(held[key][-2:])

    @rule(kind=st.sampled_from(KINDS), wanted=st.lists(keys, max_size=20))
    def look_at_some(self, kind: str, wanted: list[Any]) -> None:
        column, held = self.column(kind), self.model[kind]
        present = [key for key in wanted if key in held]
        assert exact(list(column.batch(present))) == exact([held[key] for key in present])
        if len(present) < len(wanted):
            with pytest.raises(SampleNotFoundError):
                column.batch(wanted)

    @rule(kind=st.sampled_from(KINDS), batch=st.sampled_from([None, 1, 7]))
    def look_at_all(self, kind: str, batch: int | None) -> None:
        check_column(self.column(kind), self.model[kind], batch)

    @precondition(lambda self: self.w is not None)
    @invariant()
    def counts_are_right(self) -> None:
        if self.w is not None:
            for kind in KINDS:
                assert len(self.column(kind)) == len(self.model[kind])
                integers = [key for key in self.model[kind] if isinstance(key, int)]
                self.appended[kind] = max([self.appended[kind], *integers])

    def teardown(self) -> None:
        try:
            if self.w is not None:
                for kind in KINDS:
                    check_column(self.column(kind), self.model[kind], None)
                self.w.close()
                fresh = reopen(self.store, self.folder / "other-cache")
                for commit_id, held in self.committed[-4:]:
                    with fresh.checkout(commit_id) as checkout:
                        assert set(checkout) == set(held)
                        for name, expected in held.items():
                            check_column(checkout[name], expected, None)
        finally:
            stage_module._FOLD_AT = self.fold_at
            shutil.rmtree(self.folder)


def check_column(column: Any, held: dict[Any, Any], batch: int | None) -> None:
    ordered = sorted(held, key=key_order)
    assert list(column) == ordered
    assert len(column) == len(held)
    assert exact(list(column.values())) == exact([held[key] for key in ordered])
    scanned = [
        pair for keys, values in column.scan(order="key", batch=batch) for pair in zip(keys, values, strict=True)
    ]
    assert [key for key, _ in scanned] == ordered
    assert exact([value for _, value in scanned]) == exact([held[key] for key in ordered])
    stored = {key: value for keys, values in column.scan(batch=batch) for key, value in zip(keys, values, strict=True)}
    assert exact(stored) == exact({key: held[key] for key in stored})
    assert len(stored) == len(held)
    assert column.nbytes == sum(raw_size(value) for value in held.values()) or column.kind == "json"


def raw_size(value: Any) -> int:
    return (
        int(value.nbytes) if isinstance(value, np.ndarray) else len(value.encode() if isinstance(value, str) else value)
    )


# Shrinking a sequence of writes to a disk takes minutes; what failed is replayed first the next time, and can be shrunk then.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)

TestColumns = ColumnsMachine.TestCase
TestColumns.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
    phases=PHASES,
)
