from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hangarlake.errors import CorruptionError, UnsupportedFormatError
from hangarlake.records.canonical import digest, seal, unseal
from hangarlake.records.commits import encode_commit, parse_commit
from hangarlake.records.movements import (
    Movement,
    Tag,
    check_branch_name,
    check_tag_name,
    encode_hint,
    encode_movement,
    encode_tag,
    hint_key,
    movement_key,
    name_in_key,
    parse_hint,
    parse_movement,
    parse_tag,
    tag_key,
)
from tests.records.histories import AUTHOR, T0, every_flipped_byte

CATALOG = '{"attrs":{},"nodes":{}}'
COMMIT, RECORD = encode_commit(
    catalog=digest(CATALOG.encode()), parents=[], generation=0, author=AUTHOR, message="first", time=T0
)
COMMON = {
    "commit": COMMIT,
    "author": AUTHOR,
    "time": T0,
    "message": "first",
    "record": RECORD.decode(),
    "catalog": CATALOG,
    "physical": {"encodings": {}, "roots": {}},
    "nodes": {"packs": ["0" * 64], "index": [[0, 8, 100]], "data": "AAAA"},
    "write_id": "0f" * 16,
}
MOVEMENT = Movement(branch="main", seq=7, previous="1" * 64, operation="commit", **COMMON)
TOMBSTONE = replace(MOVEMENT, commit=None, record=None, catalog=None, physical=None, nodes=None, operation="delete")
TAG = Tag(tag="v1.0", **COMMON)


def changed(data, **members):
    return seal({**unseal(data, "object"), **members})


@pytest.mark.parametrize("movement", [MOVEMENT, TOMBSTONE])
def test_a_movement_comes_back_from_its_bytes(movement):
    data = encode_movement(movement)
    assert parse_movement(data, "main", 7) == movement
    assert "seal" in json.loads(data)


def test_a_tag_comes_back_from_its_bytes():
    assert parse_tag(encode_tag(TAG), "v1.0") == TAG


def test_a_movement_gives_its_commit_and_its_reflog_entry():
    assert MOVEMENT.to_commit() == parse_commit(COMMIT, RECORD)
    assert TOMBSTONE.to_commit() is None
    assert TOMBSTONE.deleted
    assert (MOVEMENT.entry.seq, MOVEMENT.entry.commit, MOVEMENT.entry.previous) == (7, COMMIT, "1" * 64)
    assert repr(MOVEMENT).startswith("<Movement main#7 ")


def test_any_flipped_byte_of_a_movement_or_tag_is_noticed():
    for damaged in every_flipped_byte(encode_movement(MOVEMENT)):
        with pytest.raises(CorruptionError, match="refs/branches/main/0000000000000007"):
            parse_movement(damaged, "main", 7)
    for damaged in every_flipped_byte(encode_tag(TAG)):
        with pytest.raises(CorruptionError, match=r"refs/tags/v1\.0"):
            parse_tag(damaged, "v1.0")


@pytest.mark.parametrize(("branch", "seq"), [("main", 8), ("other", 7)])
def test_a_movement_under_anothers_key_is_noticed(branch, seq):
    with pytest.raises(CorruptionError, match="holds movement 7 of branch 'main'"):
        parse_movement(encode_movement(MOVEMENT), branch, seq)


def test_a_tag_under_anothers_key_is_noticed():
    with pytest.raises(CorruptionError, match=r"v1\.0"):
        parse_tag(encode_tag(TAG), "v2.0")


@pytest.mark.parametrize(
    "members",
    [
        {"author": "Ada"},
        {"commit": "x"},
        {"commit": None},
        {"commit": "2" * 64},
        {"record": None},
        {"record": "{}"},
        {"catalog": "{}"},
        {"catalog": 7},
        {"physical": []},
        {"nodes": {"packs": ["x"], "index": [], "data": ""}},
        {"nodes": {"packs": [], "index": [[1, 2]], "data": ""}},
        {"nodes": {"packs": [], "index": [[1, 2, -3]], "data": ""}},
        {"nodes": []},
        {"time": "now"},
        {"time": None},
        {"write_id": ""},
        {"seq": "7"},
        {"seq": True},
        {"operation": ""},
        {"previous": "x"},
        {"message": None},
    ],
)
def test_sealed_and_malformed_or_lying_is_corruption(members):
    data = encode_movement(MOVEMENT)
    with pytest.raises(CorruptionError, match="0000000000000007"):
        parse_movement(changed(data, **members), "main", 7)


def test_any_word_is_an_operation_and_unknown_members_are_ignored():
    data = changed(encode_movement(MOVEMENT), operation="transmogrify", colour="green")
    assert parse_movement(data, "main", 7).operation == "transmogrify"


def test_a_later_format_is_refused_as_such():
    with pytest.raises(UnsupportedFormatError, match="upgrade"):
        parse_movement(changed(encode_movement(MOVEMENT), format=2), "main", 7)


@pytest.mark.parametrize("members", [{"record": "{}"}, {"catalog": "{}"}, {"write_id": "x"}, {"commit": None}])
def test_what_could_not_be_read_is_not_written(members):
    with pytest.raises(ValueError, match="cannot write"):
        encode_movement(replace(MOVEMENT, **members))
    if members != {"commit": None}:
        with pytest.raises(ValueError, match="cannot write"):
            encode_tag(replace(TAG, **members))


def test_keys_are_those_of_the_format():
    assert movement_key("feature/x", 12) == "refs/branches/feature%2Fx/0000000000000012.json"
    assert hint_key("feature/x") == "hints/branches/feature%2Fx.json"
    assert tag_key("v1.0") == "refs/tags/v1.0.json"


def test_a_hint_names_a_movement():
    assert json.loads(encode_hint(MOVEMENT)) == {"commit": COMMIT, "seq": 7}
    assert parse_hint(encode_hint(MOVEMENT)) == 7


@settings(deadline=None)
@given(
    st.none()
    | st.binary()
    | st.from_regex(rb'\{"seq":-?[0-9.e]*\}')
    | st.sampled_from([b'{"seq":true}', b'{"seq":1e400}', b"[" * 4000])
)
def test_a_damaged_hint_is_no_hint(data):
    assert 0 <= parse_hint(data) < 10**16


@pytest.mark.parametrize(
    "name",
    [
        "main",
        "feature/größe",
        "origin/main",
        "v1.0",
        "a-b",
        "x@y",
        "a{b",
        "deadbeef",
        "日本",
        "release/2026.11",
        "a.b",
        "@a",
    ],
)
def test_names_that_git_allows_are_allowed(name):
    assert check_branch_name(name) == name
    assert check_tag_name(name) == name
    assert name_in_key(movement_key(name, 1).split("/")[2]) == name


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("", "empty"),
        ("a b", "contains ' '"),
        ("a\x7f", "contains"),
        ("a\nb", "contains"),
        ("a~1", "contains '~'"),
        ("a^", "contains '\\^'"),
        ("a:b", "contains ':'"),
        ("a?", "contains"),
        ("a*", "contains"),
        ("a[b", "contains"),
        ("a\\b", "contains"),
        ("a..b", r"contains '\.\.'"),
        ("main@{1}", "contains '@{'"),
        ("@", "default branch"),
        ("HEAD", "default branch"),
        ("-a", "begins with '-'"),
        ("a.", "ends with"),
        ("/a", "begins or ends with '/'"),
        ("a/", "begins or ends with '/'"),
        ("a//b", "'//'"),
        (".a", "begins with"),
        ("a/.b", "begins with"),
        ("a.lock", "lock"),
        ("a.lock/b", "lock"),
        ("a" * 64, "commit id"),
        ("A" * 64, "commit id"),
        ("\ud800", "surrogate"),
        ("x" * 241, "too long"),
        (None, "string"),
        (7, "string"),
    ],
)
def test_names_that_git_refuses_are_refused_by_rule(name, rule):
    for check in (check_branch_name, check_tag_name):
        with pytest.raises(ValueError, match=rule):
            check(name)


@settings(deadline=None)
@given(st.text())
def test_a_name_is_allowed_or_a_value_error_and_never_leaves_its_folder(name):
    try:
        check_branch_name(name)
    except ValueError:
        return
    assert movement_key(name, 1).count("/") == 3
    assert tag_key(name).split("/")[2] not in (".", "..")
    assert name_in_key(movement_key(name, 1).split("/")[2]) == name


@pytest.mark.parametrize("quoted", ["..", "a%2f", "HEAD", "%zz", "a b", ""])
def test_parts_of_keys_that_are_no_names_are_ignored(quoted):
    assert name_in_key(quoted) is None
