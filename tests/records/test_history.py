from __future__ import annotations

import logging

import numpy as np
import pytest
from numcodecs import zstd

from hangarlake.errors import CorruptionError
from hangarlake.records.canonical import digest
from hangarlake.records.commits import parse_commit
from hangarlake.records.graph import Graph, segment_due, write_segment
from hangarlake.records.history import decode_segment, encode_segment, read_segment, segment_key, segment_span
from hangarlake.storage.memory import MemoryStore
from tests.records.histories import History, make_commit


def test_segments_stand_beside_every_sixteenth_commit():
    spans = {generation: segment_span(generation) for generation in (0, 1, 15, 16, 17, 240, 256, 272, 512, 4096)}
    assert spans == {0: 0, 1: 0, 15: 0, 16: 16, 17: 0, 240: 16, 256: 256, 272: 16, 512: 256, 4096: 256}
    assert segment_due(parse_commit(*make_commit(("0" * 64, 15))))
    assert not segment_due(parse_commit(*make_commit()))


def test_records_come_back_by_their_ids():
    records = [b'{"a":1}', b'{"b":2}']
    assert decode_segment(encode_segment(records), "segment") == {digest(record): record for record in records}


def test_a_segment_is_lines_of_records():
    assert bytes(zstd.decompress(encode_segment([b"one", b"two"]))) == b"one\ntwo\n"


def test_a_segment_is_bounded_when_written():
    assert len(decode_segment(encode_segment(b"%d" % number for number in range(5000)), "segment")) == 4096
    big = [b"%d" % number + b"x" * 2**20 for number in range(6)]
    assert len(decode_segment(encode_segment(big), "segment")) == 3


def test_a_frame_that_claims_to_be_huge_is_not_unpacked():
    bomb = bytes(zstd.compress(np.zeros(65 * 2**20, np.uint8), 1))
    with pytest.raises(CorruptionError, match="does not fit"):
        decode_segment(bomb, "segment")


@pytest.mark.parametrize(
    "data", [b"", b"garbage", encode_segment([b"x" * 100])[:-3], b"\x28\xb5\x2f\xfd" + b"\x00" * 9]
)
def test_what_cannot_be_unpacked_is_corruption(data):
    with pytest.raises(CorruptionError, match="some segment"):
        decode_segment(data, "some segment")


@pytest.mark.parametrize("data", [None, b"garbage"])
def test_a_segment_that_is_missing_or_damaged_is_empty(data, caplog):
    store = MemoryStore()
    if data is not None:
        store.put(segment_key("a" * 64), data)
    with caplog.at_level(logging.WARNING):
        assert read_segment(store, "a" * 64) == {}
    assert ("not used" in caplog.text) == (data is not None)


def test_a_segment_holds_the_commit_and_its_ancestors_down_to_the_next_segment():
    history = History()
    history.chain(32)
    side = history.commit(29)
    tip = history.commit(31, side)
    graph = Graph(history.store)
    commit = graph.commit(history.ids[tip])
    assert commit.generation == 32
    write_segment(history.store, graph, commit)
    held = read_segment(history.store, commit.id)
    assert next(iter(held)) == commit.id
    assert set(held) == {history.ids[number] for number in [tip, side, *range(16, 32)]}


def test_no_segment_is_written_where_none_is_due():
    history = History()
    history.chain(3)
    graph = Graph(history.store)
    write_segment(history.store, graph, graph.commit(history.ids[2]))
    assert list(history.store.list("history/")) == []
