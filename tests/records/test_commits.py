from __future__ import annotations

import json
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hangarlake.errors import CorruptionError, UnsupportedFormatError
from hangarlake.records.canonical import canonical_json, digest
from hangarlake.records.commits import commit_key, encode_commit, next_generation, parse_commit
from hangarlake.records.models import Author
from tests.records.histories import AUTHOR, T0, every_flipped_byte, make_commit

PARENT = "1" * 64
OTHER = "2" * 64


def changed(**members):
    _, record = make_commit((PARENT, 4))
    data = canonical_json({**json.loads(record), **members})
    return digest(data), data


@settings(deadline=None)
@given(
    message=st.text(st.characters(codec="utf-8")),
    names=st.dictionaries(st.text(st.characters(codec="utf-8")), st.just("new")),
)
def test_a_commit_comes_back_from_its_record(message, names):
    commit_id, record = encode_commit(
        catalog=OTHER, parents=[PARENT], generation=5, author=AUTHOR, message=message, time=T0, renames=[names]
    )
    commit = parse_commit(commit_id, record)
    assert (commit.id, commit.message, commit.renames) == (commit_id, message, (names,))
    assert (commit.parents, commit.generation, commit.catalog) == ((PARENT,), 5, OTHER)
    assert (commit.author, commit.time) == (AUTHOR, T0)


def test_a_record_is_canonical_json_and_its_id_the_hash_of_it():
    commit_id, record = make_commit((PARENT, 0), (OTHER, 7), message="merge")
    obj = json.loads(record)
    assert record == canonical_json(obj)
    assert commit_id == digest(record)
    assert obj["generation"] == 8
    assert obj["renames"] == [{}, {}]
    assert obj["time"] == "2026-11-01T12:00:00.000000Z"
    assert commit_key(commit_id) == f"commits/{commit_id[:2]}/{commit_id}.json"


def test_any_flipped_byte_of_a_commit_is_noticed():
    commit_id, record = make_commit((PARENT, 3))
    for damaged in every_flipped_byte(record):
        with pytest.raises(CorruptionError, match=commit_id):
            parse_commit(commit_id, damaged)


def test_a_commit_under_anothers_id_is_noticed():
    _, record = make_commit()
    with pytest.raises(CorruptionError, match="do not hash"):
        parse_commit(PARENT, record)


@pytest.mark.parametrize(
    "members",
    [
        {"generation": 0},
        {"generation": -1},
        {"generation": True},
        {"generation": 1.0},
        {"generation": 1 << 63},
        {"parents": []},
        {"parents": ["../../etc"]},
        {"parents": [PARENT, PARENT], "renames": [{}, {}]},
        {"parents": PARENT},
        {"renames": []},
        {"renames": [{"a": 1}]},
        {"renames": [[]]},
        {"author": "Ada"},
        {"author": {"name": "Ada"}},
        {"author": {"name": "Ada", "email": None}},
        {"catalog": "x"},
        {"message": None},
        {"time": "yesterday"},
        {"time": 7},
    ],
)
def test_a_record_that_hashes_right_and_is_malformed_is_corruption(members):
    with pytest.raises(CorruptionError, match="is not a commit"):
        parse_commit(*changed(**members))


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"{", b'{"format":1}', b"\xff", b'{"a":NaN}', b"[" * 10_000])
def test_anything_else_is_corruption(data):
    with pytest.raises(CorruptionError):
        parse_commit(digest(data), data)


@pytest.mark.parametrize("members", [{"format": 2}, {"format": 2, "author": "in another way"}])
def test_a_later_format_is_refused_as_such(members):
    with pytest.raises(UnsupportedFormatError, match="upgrade"):
        parse_commit(*changed(**members))


@pytest.mark.parametrize(
    "arguments",
    [
        {"parents": ["x"]},
        {"generation": 0},
        {"catalog": "x"},
        {"message": "\ud800"},
        {"message": "x" * (5 * 2**20)},
        {"time": datetime(2026, 11, 1)},
        {"renames": []},
        {"author": Author("\udfff", "")},
    ],
)
def test_what_could_not_be_read_is_not_written(arguments):
    good = {"catalog": OTHER, "parents": [PARENT], "generation": 1, "author": AUTHOR, "message": "m", "time": T0}
    with pytest.raises(ValueError):
        encode_commit(**{**good, **arguments})


def test_the_generation_is_one_more_than_the_greatest_of_the_parents():
    root = parse_commit(*make_commit())
    child = parse_commit(*make_commit((root.id, 0)))
    assert [next_generation(parents) for parents in ([], [root], [root, child])] == [0, 1, 2]


@pytest.mark.parametrize("commit_id", ["", "abc", "../" * 20, None])
def test_only_ids_become_keys(commit_id):
    with pytest.raises(ValueError, match="id of an object in commits/"):
        commit_key(commit_id)
