from __future__ import annotations

import json
import pickle

import pytest

from hangarlake.chunks.encodings import RAW, Encoding, parse_encodings
from hangarlake.errors import CorruptionError, UnsupportedFormatError

ZSTD = {"name": "zstd", "configuration": {"level": 1, "checksum": False}}


def test_json_is_canonical():
    encoding = Encoding("grid", ["bytes", {"configuration": {"level": 1, "checksum": False}, "name": "zstd"}], (2, 3))
    assert encoding.to_json() == (
        '{"chunk_shape":[2,3],"codecs":[{"name":"bytes"},{"configuration":{"checksum":false,"level":1},"name":"zstd"}],"layout":"grid"}'
    )
    assert RAW.to_json() == '{"codecs":[{"name":"bytes"}],"layout":"raw"}'


def test_equal_encodings_are_equal_and_hash_alike():
    one = Encoding("rows", ["bytes", ZSTD])
    assert one == Encoding("rows", [{"name": "bytes", "configuration": {}}, dict(reversed(ZSTD.items()))])
    assert len({one, Encoding.from_json(one.to_json()), Encoding("run", ["bytes", ZSTD])}) == 2


def test_equal_texts_give_one_object():
    text = Encoding("rows", ["bytes", ZSTD]).to_json()
    assert Encoding.from_json(text) is Encoding.from_json(str(text))
    assert pickle.loads(pickle.dumps(Encoding.from_json(text))) is Encoding.from_json(text)


def test_what_was_passed_in_can_be_changed_afterwards():
    codec = {"name": "zstd", "configuration": {"level": 1}}
    encoding = Encoding("rows", ["bytes", codec])
    codec["configuration"]["level"] = 9
    assert encoding.codecs[1]["configuration"]["level"] == 1


def test_an_unknown_layout_asks_for_an_upgrade():
    with pytest.raises(UnsupportedFormatError, match="upgrade"):
        Encoding.from_json('{"codecs":[{"name":"bytes"}],"layout":"spiral"}')


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        [],
        {},
        {"layout": "rows"},
        {"codecs": [{"name": "bytes"}]},
        {"layout": "rows", "codecs": []},
        {"layout": "rows", "codecs": {}},
        {"layout": "rows", "codecs": [1]},
        {"layout": "rows", "codecs": [{}]},
        {"layout": "rows", "codecs": [{"name": ""}]},
        {"layout": "rows", "codecs": [{"name": 1}]},
        {"layout": "rows", "codecs": [{"name": "bytes", "configuration": []}]},
        {"layout": "rows", "codecs": [{"name": "bytes", "extra": 1}]},
        {"layout": "rows", "codecs": ["bytes"] * 17},
        {"layout": "rows", "codecs": ["bytes"], "chunk_shape": [1]},
        {"layout": "grid", "codecs": ["bytes"]},
        {"layout": "grid", "codecs": ["bytes"], "chunk_shape": []},
        {"layout": "grid", "codecs": ["bytes"], "chunk_shape": [0]},
        {"layout": "grid", "codecs": ["bytes"], "chunk_shape": [True]},
        {"layout": "grid", "codecs": ["bytes"], "chunk_shape": [1.0]},
        {"layout": "grid", "codecs": ["bytes"], "chunk_shape": "12"},
        {"layout": "grid", "codecs": ["bytes"], "chunk_shape": [1 << 63]},
        {"layout": "grid", "codecs": ["bytes"], "chunk_shape": [1] * 65},
        {"layout": ["rows"], "codecs": ["bytes"]},
        {"layout": None, "codecs": ["bytes"]},
        {"layout": "rows", "codecs": ["bytes"], "more": 1},
    ],
)
def test_what_is_no_encoding_is_corruption(value):
    with pytest.raises(CorruptionError):
        Encoding.from_json(json.dumps(value))
    with pytest.raises(CorruptionError):
        parse_encodings(json.dumps([value]).encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        '{"codecs":["bytes"],"layout":"rows"}' + " " * (1 << 15),
        '{"codecs":[{"name":"bytes","configuration":{"x":NaN}}],"layout":"rows"}',
    ],
)
def test_texts_that_are_not_sane_json_are_corruption(text):
    with pytest.raises(CorruptionError):
        Encoding.from_json(text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"\xff",
        b"[[",
        b"[" + b",".join([b'{"codecs":["bytes"],"layout":"rows"}'] * 257) + b"]",
        b" " * (1 << 20 | 1),
    ],
)
def test_lists_that_are_not_lists_of_encodings_are_corruption(text):
    with pytest.raises(CorruptionError):
        parse_encodings(text)


def test_lists_of_encodings_keep_their_order():
    texts = [RAW.to_json(), Encoding("run", ["bytes"]).to_json()]
    assert parse_encodings(f"[{','.join(texts)}]".encode()) == (RAW, Encoding("run", ["bytes"]))
