"""Encodings come from a bucket: whatever they ask for is done within bounds, or refused by an error of ours."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hangarlake.chunks.codecs import compressor_codecs, decode_chunk, encode_chunk
from hangarlake.chunks.encodings import Encoding, parse_encodings
from hangarlake.errors import CorruptionError, UnsupportedFormatError
from tests.chunks.strategies import random_array

_names = st.sampled_from(
    [
        "bytes", "blosc", "crc32c", "gzip", "sharding_indexed", "transpose", "vlen-bytes", "vlen-utf8", "zstd",
        "numcodecs.adler32", "numcodecs.astype", "numcodecs.bitround", "numcodecs.blosc", "numcodecs.bz2", "numcodecs.crc32",
        "numcodecs.delta", "numcodecs.fixedscaleoffset", "numcodecs.fletcher32", "numcodecs.gzip", "numcodecs.lz4",
        "numcodecs.lzma", "numcodecs.packbits", "numcodecs.quantize", "numcodecs.shuffle", "numcodecs.zlib", "numcodecs.zstd",
    ]
)  # fmt: skip
_options = st.sampled_from(
    [
        "level", "clevel", "cname", "shuffle", "typesize", "blocksize", "checksum", "acceleration", "format", "check", "preset",
        "order", "endian", "dtype", "astype", "elementsize", "keepbits", "digits", "scale", "offset", "encode_dtype",
        "decode_dtype", "chunk_shape", "index_location", "id", "odd",
    ]
)  # fmt: skip
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 9),
    st.sampled_from([1 << 31, -(1 << 63), 1 << 64]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["<f4", "O", "|u1", "lz4", "zstd", "little", "start", ""]),
)
_configurations = st.dictionaries(_options, _scalars | st.lists(_scalars, max_size=3), max_size=3)
_codec = st.fixed_dictionaries({"name": _names, "configuration": _configurations})
_inner = st.lists(_codec, max_size=2)
_shards = st.fixed_dictionaries(
    {
        "name": st.just("sharding_indexed"),
        "configuration": st.builds(
            lambda shape, codecs, index, more: {"chunk_shape": shape, "codecs": codecs, "index_codecs": index} | more,
            st.lists(st.integers(-1, 8), max_size=2) | _scalars,
            _inner | _scalars | st.just(["bytes"]),
            _inner | _scalars | st.just(["bytes"]),
            st.dictionaries(st.just("index_location"), _scalars, max_size=1),
        ),
    }
)
_lists = st.lists(_codec | _shards | st.just({"name": "bytes"}), min_size=1, max_size=3)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=300, deadline=None)
@given(_lists, st.binary(max_size=64), st.sampled_from(["|u1", "<f4", "<M8[ns]", "<U2"]))
def test_whatever_codecs_are_asked_for_decoding_gives_the_array_or_an_error_of_ours(codecs, data, dtype):
    encoding = Encoding("rows", codecs)
    try:
        array = decode_chunk(data, encoding, dtype, (4,))
    except (CorruptionError, UnsupportedFormatError):
        return
    assert (array.dtype.str, array.shape) == (dtype, (4,))


_SPECS = ["zstd", "blosc", "gzip", None, [{"name": "numcodecs.lz4"}], [{"name": "numcodecs.bz2"}], ["zstd", "crc32c"]]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(_SPECS), st.data())
def test_damaged_chunks_decode_to_the_right_shape_or_are_corruption(spec, source):
    array = random_array("<i4", (40,), 3, alike=True)
    encoding = Encoding("rows", compressor_codecs(spec, dtype="<i4"))
    data = encode_chunk(array, encoding)
    at = source.draw(st.integers(0, len(data) - 1))
    cut = source.draw(st.integers(0, 20))
    damaged = data[:at] + source.draw(st.binary(max_size=20)) + data[at + cut :]
    try:
        decoded = decode_chunk(damaged, encoding, "<i4", (40,))
    except CorruptionError:
        return
    assert (decoded.dtype, decoded.shape) == (array.dtype, array.shape)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_list_of_encodings_is_a_list_or_an_error_of_ours(source):
    text = json.dumps([json.loads(Encoding("grid", ["bytes", "zstd"], (3, 4)).to_json())]).encode()
    at = source.draw(st.integers(0, len(text)))
    damaged = text[:at] + source.draw(st.binary(max_size=6)) + text[at + source.draw(st.integers(0, 9)) :]
    try:
        encodings = parse_encodings(damaged)
    except (CorruptionError, UnsupportedFormatError):
        return
    assert all(encoding.to_json().encode() for encoding in encodings)


@pytest.mark.parametrize(
    "codecs",
    [
        [
            "bytes",
            {"name": "numcodecs.lzma", "configuration": {"format": 3, "filters": [{"id": 33, "dict_size": 1 << 30}]}},
        ],
        [
            "bytes",
            {"name": "numcodecs.lzma", "configuration": {"format": 1, "filters": [{"id": 33, "dict_size": 1 << 30}]}},
        ],
        ["vlen-utf8"],
        ["vlen-bytes"],
    ],
)
def test_codecs_that_would_take_gigabytes_are_refused_before_they_do(codecs):
    # In a process of its own, whose memory is bounded: nothing else counts what C code takes.
    script = """
        import json, resource, sys
        from hangarlake.chunks.codecs import decode_chunk
        from hangarlake.chunks.encodings import Encoding
        from hangarlake.errors import UnsupportedFormatError
        try:
            decode_chunk(b"abcdefghijklmnop", Encoding("rows", json.loads(sys.argv[1])), "u1", (16,))
        except UnsupportedFormatError:
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), json.dumps(codecs)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 0 < int(done.stdout) < 1024


def test_a_lone_surrogate_that_could_not_be_stored_again_is_corruption():
    with pytest.raises(CorruptionError, match="cannot be written as JSON"):
        Encoding.from_json('{"codecs":[{"name":"\\ud800"}],"layout":"rows"}')
    with pytest.raises(ValueError, match="JSON"):
        Encoding("rows", ["\ud800"])
