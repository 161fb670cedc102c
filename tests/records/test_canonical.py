from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hangarlake.errors import CorruptionError
from hangarlake.records.canonical import (
    canonical_json,
    check_id,
    digest,
    format_time,
    is_id,
    parse_time,
    quote_name,
    seal,
    unquote_name,
    unseal,
)
from tests.records.histories import every_flipped_byte

texts = st.text(st.characters(codec="utf-8"))
material = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(material)
def test_canonical_json_reads_back_as_what_was_written(obj):
    assert json.loads(canonical_json(obj)) == obj


@settings(deadline=None)
@given(st.dictionaries(texts, st.integers(), min_size=2))
def test_canonical_json_does_not_depend_on_the_order_of_members(obj):
    assert canonical_json(obj) == canonical_json(dict(reversed(obj.items())))


def test_canonical_json_is_what_the_format_says():
    obj = {"z": [1, 2.5, True, None], "a": "é\n\U0001f600", "Z": {}, "aa": []}
    assert canonical_json(obj) == '{"Z":{},"a":"é\\n\U0001f600","aa":[],"z":[1,2.5,true,null]}'.encode()


@pytest.mark.parametrize(
    ("obj", "told"),
    [
        ({1: "x"}, "member name 1"),
        ({"a": [{True: 1}]}, "member name True"),
        ({"a": ({None: 1},)}, "member name None"),
        ([float("nan")], "NaN"),
        ({"a": float("inf")}, "NaN and infinities"),
        (["\ud800"], "lone surrogate"),
        ({"\udfff": 1}, "lone surrogate"),
        ({"a": b"bytes"}, "bytes"),
        ({"a": {1, 2}}, "set"),
    ],
)
def test_canonical_json_refuses_what_json_cannot_say_exactly(obj, told):
    with pytest.raises(ValueError, match=told):
        canonical_json(obj)


def test_canonical_json_refuses_what_contains_itself():
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="nested too deeply"):
        canonical_json(loop)


@settings(deadline=None)
@given(st.dictionaries(texts.filter(lambda name: name != "seal"), material, min_size=1, max_size=5))
def test_a_sealed_object_comes_back_whole_and_is_plain_json(obj):
    data = seal(obj)
    assert unseal(data, "object") == obj
    assert json.loads(data) == {**obj, "seal": digest(canonical_json(obj)[:-1])}


def test_any_flipped_byte_of_a_sealed_object_is_noticed():
    for damaged in every_flipped_byte(seal({"name": "value", "list": [1, 2, 3]})):
        with pytest.raises(CorruptionError, match="refs/some/key"):
            unseal(damaged, "refs/some/key")


@pytest.mark.parametrize(
    "change", [lambda data: data[:-1], lambda data: data + b"\n", lambda data: b"", lambda data: data[20:]]
)
def test_a_sealed_object_that_is_cut_or_longer_is_noticed(change):
    with pytest.raises(CorruptionError):
        unseal(change(seal({"name": "value"})), "object")


def test_a_sealed_object_that_is_too_long_is_not_looked_at():
    with pytest.raises(CorruptionError, match="far more"):
        unseal(seal({"name": "x" * 1000}), "object", limit=500)


def test_a_seal_over_something_else_than_an_object_does_not_help():
    body = b"[1,2"
    data = body + b',"seal":"' + digest(body).encode() + b'"}'
    with pytest.raises(CorruptionError, match="JSON"):
        unseal(data, "object")


@pytest.mark.parametrize("obj", [{}, {"seal": "x", "a": 1}])
def test_what_cannot_be_sealed_is_refused(obj):
    with pytest.raises(ValueError, match="sealed"):
        seal(obj)


@pytest.mark.parametrize(
    "value", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "../" + "a" * 61, "a" * 63 + "\n", None, 7, b"a" * 64]
)
def test_only_ids_are_ids(value):
    assert not is_id(value)
    with pytest.raises(ValueError, match="hexadecimal"):
        check_id(value)


def test_ids_have_the_length_asked_for():
    assert check_id("0f" * 20, length=40) == "0f" * 20
    assert not is_id("0f" * 20)


@settings(deadline=None)
@given(
    st.datetimes(
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]), min_value=datetime(2, 1, 1)
    )
)
def test_times_come_back_to_the_microsecond_in_utc(time):
    text = format_time(time)
    assert len(text) == 27
    assert parse_time(text) == time
    assert parse_time(text).utcoffset() == timedelta(0)


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        format_time(datetime(2026, 11, 1))


@pytest.mark.parametrize(
    "text",
    ["", "2026-11-01", "2026-11-01T12:00:00Z", "2026-11-01T12:00:00.000000+00:00", "2026-13-01T12:00:00.000000Z"],
)
def test_times_written_otherwise_are_refused(text):
    with pytest.raises(ValueError):
        parse_time(text)


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(lambda name: name not in (".", "..")))
def test_names_come_back_from_their_percent_encoding(name):
    quoted = quote_name(name)
    assert unquote_name(quoted) == name
    assert set(quoted) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-%")


def test_names_are_encoded_as_the_format_says():
    assert quote_name("feature/größe~1") == "feature%2Fgr%C3%B6%C3%9Fe%7E1"


@pytest.mark.parametrize("name", ["", ".", "..", "x" * 241, "/" * 81, "\ud800"])
def test_names_that_cannot_be_part_of_a_key_are_refused(name):
    with pytest.raises(ValueError, match="name"):
        quote_name(name)


@pytest.mark.parametrize("quoted", ["", "..", "a/b", "%2f", "%41", "%", "%zz", "a b", "%FF", "~"])
def test_encodings_that_this_code_would_not_write_are_refused(quoted):
    with pytest.raises(ValueError):
        unquote_name(quoted)
