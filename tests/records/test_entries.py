"""Entries and their chunk tables: what edits keep, share and drop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hangarlake.records.entries import PENDING, SOLO, ChunkTable, Entries
from hangarlake.records.keys import encode_keys
from tests.records.trees import entries_of

PLAIN = '{"codecs":[{"name":"bytes"}],"layout":"run"}'
ZSTD = '{"codecs":[{"name":"bytes"},{"name":"zstd"}],"layout":"run"}'


def places(entries: Entries) -> list[tuple[object, ...]]:
    """What a reader finds for each entry: the chunk, where it lies, how it is encoded, and the index within it."""
    table, refs = entries.table, entries.table.refs()
    return [
        (key, digest.tobytes(), refs[row], table.encodings[table.encoding[row]], int(table.items[row]), index)
        for key, digest, row, index in zip(
            entries.keys.tolist(), entries.digests, entries.rows.tolist(), entries.index.tolist(), strict=True
        )
    ]


@st.composite
def runs(draw: st.DrawFn) -> Entries:
    """Entries that share few chunks, some of which repeat, in any order and under two encodings."""
    n, m = draw(st.integers(1, 12)), draw(st.integers(1, 8))
    kinds = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(-2, 1)), min_size=m, max_size=m))
    table = ChunkTable(
        np.array([[chunk] * 20 for chunk, _, _ in kinds], np.uint8),
        np.array([pack for *_, pack in kinds], np.int32),
        np.zeros(m, np.uint64),
        np.full(m, 9, np.uint64),
        np.full(m, 5, np.uint64),
        np.array([code for _, code, _ in kinds], np.uint32),
        (b"\1" * 32, b"\2" * 32),
        (PLAIN, ZSTD),
    )
    start = draw(st.integers(-20, 20))
    rows = draw(st.lists(st.integers(0, m - 1), min_size=n, max_size=n))
    return Entries(
        encode_keys(range(start, start + n)),
        np.random.default_rng(draw(st.integers(0, 9))).integers(0, 256, (n, 20), np.uint8),
        np.empty((n, 0), np.uint64),
        np.array(rows, np.uint32),
        np.arange(n, dtype=np.uint64),
        table,
    )


def chunks_of(entries: Entries) -> list[tuple[object, ...]]:
    """As :func:`places`, but whichever copy of a chunk it is."""
    return [(key, value, ref.digest, *rest) for key, value, ref, *rest in places(entries)]


@given(runs())
def test_compacting_leaves_every_entry_where_it_lies(entries):
    compact = entries.compact()
    assert places(compact) == places(entries)
    assert sorted(set(compact.rows.tolist())) == list(range(len(compact.table)))
    shared = entries.compact(dedupe=True)
    assert chunks_of(shared) == chunks_of(entries)
    kinds = [(digest, encoding) for _, _, digest, encoding, *_ in chunks_of(shared)]
    assert len(set(kinds)) == len(shared.table)


@given(runs(), runs())
def test_edits_are_those_of_a_dict(ours, theirs):
    gone = ours.keys[::3]
    kept = theirs.take(~np.isin(theirs.keys, gone))
    edited, _, _ = ours.edited(kept, gone)
    expected = {row[0]: row for row in chunks_of(ours) if row[0] not in gone.tolist()}
    for row in chunks_of(kept):
        if row[0] not in expected or expected[row[0]][1] != row[1]:
            expected[row[0]] = row
    # Numbers order as their encoded keys do.
    assert chunks_of(edited) == [expected[key] for key in sorted(expected)]


def test_equal_bytes_under_two_encodings_stay_two_chunks():
    base = entries_of({1: "a", 2: "b"})
    digests = np.zeros((2, 20), np.uint8)
    table = replace(base.table, digests=digests, encoding=np.array([0, 1], np.uint32), encodings=(PLAIN, ZSTD))
    shared = replace(base, table=table).compact(dedupe=True)
    assert [shared.table.encodings[shared.table.encoding[row]] for row in shared.rows.tolist()] == [PLAIN, ZSTD]


def test_codes_of_places_survive_taking_and_joining():
    base = entries_of({i: i for i in range(4)}).table
    table = replace(base, packs=np.array([SOLO, PENDING, 1, 0], np.int32), pack_ids=(b"\1" * 32, b"\2" * 32))
    part = table.take(np.array([0, 1, 2]))
    assert (part.packs.tolist(), part.pack_ids) == ([SOLO, PENDING, 0], (b"\2" * 32,))
    joined = ChunkTable.concat([part, table])
    assert joined.packs.tolist() == [SOLO, PENDING, 0, SOLO, PENDING, 0, 1]
    assert joined.pack_ids == (b"\2" * 32, b"\1" * 32)
