from __future__ import annotations

import gzip
import os
import struct
import threading
import tracemalloc
import warnings

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from hangarlake.chunks.codecs import compressor_codecs, decode_chunk, encode_chunk
from hangarlake.chunks.compressors import compressor
from hangarlake.chunks.encodings import Encoding
from hangarlake.chunks.zstd import content_size
from hangarlake.errors import CorruptionError, SchemaError, UnsupportedFormatError

from .strategies import DTYPES, arrays, assert_same, random_array

LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
BIG = {"name": "bytes", "configuration": {"endian": "big"}}
CRC = {"name": "crc32c"}

SPECS = [
    "zstd",
    "blosc",
    "gzip",
    None,
    [CRC],
    ["zstd", CRC],
    [CRC, "zstd"],
    ["zstd", "gzip"],
    [BIG],
    [BIG, "zstd"],
    [{"name": "zstd", "configuration": {"level": -5, "checksum": True}}],
    [
        {
            "name": "blosc",
            "configuration": {"cname": "zstd", "clevel": 5, "shuffle": "bitshuffle", "typesize": 4, "blocksize": 0},
        }
    ],
    [{"name": "blosc", "configuration": {"cname": "zlib", "clevel": 9}}],
    [{"name": "numcodecs.lz4"}],
    [{"name": "numcodecs.bz2"}],
    [{"name": "numcodecs.lzma"}],
    [{"name": "numcodecs.zlib"}],
    [{"name": "numcodecs.zstd"}],
    [{"name": "numcodecs.blosc"}],
    [{"name": "numcodecs.gzip"}],
    [{"name": "numcodecs.crc32"}],
]


def rows(spec, dtype="|u1", level=None):
    return Encoding("rows", compressor_codecs(spec, level, dtype))


def sharded(chunk_shape, location="end", codecs=None):
    configuration = {
        "chunk_shape": list(chunk_shape),
        "codecs": codecs or [LITTLE, {"name": "zstd", "configuration": {"level": 1, "checksum": False}}],
        "index_codecs": [LITTLE, CRC],
        "index_location": location,
    }
    return {"name": "sharding_indexed", "configuration": configuration}


# ---- what goes in comes out ------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=300)
@given(arrays(), st.sampled_from(SPECS))
def test_every_array_comes_back_from_every_codec(array, spec):
    if spec == [{"name": "numcodecs.crc32"}] and array.size == 0:
        return  # numcodecs cannot check nothing
    encoding = rows(spec, array.dtype)
    data = encode_chunk(array, encoding)
    assert isinstance(data, bytes)
    assert_same(decode_chunk(data, encoding, array.dtype, array.shape), array)
    assert_same(decode_chunk(memoryview(b"x" + data)[1:], encoding, array.dtype, array.shape), array)
    out = np.empty(array.shape, array.dtype)
    assert decode_chunk(data, encoding, array.dtype, array.shape, out) is out
    assert_same(out, array)


@settings(deadline=None, max_examples=100)
@given(
    arrays(min_dims=3, max_dims=3), st.permutations([0, 1, 2]), st.sampled_from([[], ["zstd"], [CRC], ["gzip", CRC]])
)
def test_transposed_chunks_come_back(array, order, after):
    encoding = Encoding(
        "rows", [{"name": "transpose", "configuration": {"order": list(order)}}, LITTLE, *compressors(after)]
    )
    data = encode_chunk(array, encoding)
    assert_same(decode_chunk(data, encoding, array.dtype, array.shape), array)
    if not after:
        assert data == array.transpose(order).tobytes()


def compressors(names):
    return [codec for codec in rows(names).codecs if codec["name"] != "bytes"] if names else []


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from(DTYPES),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.sampled_from(["start", "end"]),
    st.integers(0, 9),
)
def test_shards_come_back(dtype, inner, counts, location, seed):
    shape = tuple(side * count for side, count in zip(inner, counts, strict=True))
    array = random_array(dtype, shape, seed, alike=True).copy()
    array[: inner[0]] = np.zeros((), dtype)
    encoding = Encoding("rows", [sharded(inner, location)])
    assert_same(decode_chunk(encode_chunk(array, encoding), encoding, dtype, shape), array)


@pytest.mark.parametrize("location", ["start", "end"])
def test_shards_are_those_of_zarr(tmp_path, location):
    array = np.arange(64, dtype="<f4").reshape(8, 8)
    array[:4, :4] = 7.5
    stored = zarr.create_array(
        tmp_path / "a",
        shape=(8, 8),
        chunks=(4, 4),
        shards={"shape": (8, 8), "index_location": location},
        dtype="f4",
        fill_value=7.5,
    )
    stored[...] = array
    encoding = Encoding("raw", [codec.to_dict() for codec in stored.metadata.codecs])
    data = (tmp_path / "a/c/0/0").read_bytes()
    assert_same(decode_chunk(data, encoding, "<f4", (8, 8), fill_value=7.5), array)
    (tmp_path / "a/c/0/0").write_bytes(encode_chunk(array, encoding, fill_value=7.5))
    assert_same(zarr.open_array(tmp_path / "a", mode="r")[...], array)


@pytest.mark.parametrize("spec", ["zstd", "blosc", "gzip", None])
@pytest.mark.parametrize("dtype", ["u1", "<i2", "<f8", ">f4"])
def test_chunks_are_those_of_zarr(tmp_path, spec, dtype):
    array = np.arange(30, dtype=dtype).reshape(5, 6)
    encoding = rows(spec, dtype)
    stored = zarr.create_array(
        tmp_path / "a",
        shape=(5, 6),
        chunks=(5, 6),
        dtype=array.dtype.newbyteorder("<"),
        compressors=list(encoding.codecs[1:]) or None,
    )
    stored[...] = array
    data = (tmp_path / "a/c/0/0").read_bytes()
    assert_same(decode_chunk(data, encoding, dtype, (5, 6)), array.astype(array.dtype.newbyteorder("<")))
    (tmp_path / "a/c/0/0").write_bytes(encode_chunk(array, encoding))
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "a", mode="r")[...], array)


@given(arrays(min_dims=1))
def test_layout_and_byte_order_of_the_input_do_not_matter(array):
    encoding = rows("zstd", array.dtype)
    expected = encode_chunk(array, encoding)
    assert encode_chunk(np.asfortranarray(array), encoding) == expected
    assert encode_chunk(array.astype(array.dtype.newbyteorder(">")), encoding) == expected
    assert encode_chunk(array[::-1].copy()[::-1], encoding) == expected


def test_gzip_writes_equal_bytes_for_equal_chunks():
    encoding = rows("gzip")
    data = encode_chunk(np.arange(100, dtype="u1"), encoding)
    assert data == encode_chunk(np.arange(100, dtype="u1"), encoding)
    assert data[4:8] == bytes(4)  # the time in the header
    assert gzip.decompress(data) == bytes(range(100))


def test_gzip_members_one_behind_the_other_are_one_stream():
    data = gzip.compress(b"ab") + gzip.compress(b"") + gzip.compress(b"c")
    assert decode_chunk(data, rows("gzip"), "u1", (3,)).tobytes() == b"abc"
    with pytest.raises(CorruptionError):
        decode_chunk(data, rows("gzip"), "u1", (2,))


def test_codecs_work_in_threads_with_and_without_a_running_event_loop():
    array = np.arange(1000, dtype="<i8")
    encoding = rows(
        [{"name": "numcodecs.shuffle", "configuration": {"elementsize": 8}}, "blosc", {"name": "numcodecs.crc32"}],
        "<i8",
    )
    failures = []

    def work():
        try:
            for _ in range(20):
                assert_same(decode_chunk(encode_chunk(array, encoding), encoding, "<i8", (1000,)), array)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures

    import asyncio

    async def inside():
        work()

    asyncio.run(inside())
    assert not failures


def test_codecs_work_on_the_event_loop_of_zarr():
    from zarr.core.sync import sync

    array = np.arange(1000, dtype="<i8")
    encoding = rows([{"name": "numcodecs.crc32"}, CRC], "<i8")

    async def inside():
        return decode_chunk(encode_chunk(array, encoding), encoding, "<i8", (1000,))

    assert_same(sync(inside()), array)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_codecs_work_after_a_fork():
    array = np.arange(100_000, dtype="<i4")
    encodings = [rows(spec, "<i4") for spec in ("zstd", "blosc", "gzip", [{"name": "numcodecs.crc32"}])]
    for encoding in encodings:
        encode_chunk(array, encoding)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            for encoding in encodings:
                assert_same(decode_chunk(encode_chunk(array, encoding), encoding, "<i4", array.shape), array)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ---- what is not what it should be -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [
        "zstd",
        "blosc",
        "gzip",
        None,
        [{"name": "numcodecs.lz4"}],
        ["zstd", CRC],
        ["zstd", "gzip"],
        [{"name": "numcodecs.bz2"}],
        [{"name": "numcodecs.lzma"}],
    ],
)
def test_a_chunk_of_another_size_is_refused(spec):
    array = np.arange(200, dtype="u1").reshape(10, 20)
    encoding = rows(spec)
    data = encode_chunk(array, encoding)
    for shape in [(10, 21), (9, 20), (0, 20), (), (1 << 40, 1 << 20)]:
        with pytest.raises(CorruptionError):
            decode_chunk(data, encoding, "u1", shape)
        if np.prod(shape) < 1000:
            with pytest.raises(CorruptionError):
                decode_chunk(data, encoding, "u1", shape, np.empty(shape, "u1"))


@pytest.mark.parametrize(
    "spec", ["zstd", "blosc", "gzip", [{"name": "numcodecs.lz4"}], ["zstd", CRC], [{"name": "numcodecs.lzma"}]]
)
def test_damage_is_corruption_or_decodes_to_the_right_size(spec):
    # Digests are checked before; this is about never doing anything else than raising CorruptionError.
    array = np.arange(60, dtype="<u2")
    encoding = rows(spec, "<u2")
    data = encode_chunk(array, encoding)
    damaged = [data[:i] + bytes([data[i] ^ bit]) + data[i + 1 :] for i in range(len(data)) for bit in (1, 0x80, 0xFF)]
    damaged += [data[:i] for i in range(len(data))]
    for bad in damaged:
        try:
            decoded = decode_chunk(bad, encoding, "<u2", (60,))
        except CorruptionError:
            continue
        assert decoded.shape == (60,)


@pytest.mark.parametrize("codec", ["zstd", "blosc", "gzip", "lz4", "bz2", "lzma", "stack"])
def test_bombs_are_refused_before_memory_is_taken(codec):
    zeros = np.zeros(256 << 20, "u1")
    spec = {
        "lz4": [{"name": "numcodecs.lz4"}],
        "bz2": [{"name": "numcodecs.bz2"}],
        "lzma": [{"name": "numcodecs.lzma"}],
        "stack": ["zstd", "gzip"],
    }.get(codec, codec)
    encoding = rows(spec)
    if codec in ("bz2", "lzma"):
        zeros = zeros[: 32 << 20]  # they are slow
    bomb = encode_chunk(zeros, encoding)
    size = zeros.nbytes
    del zeros
    assert len(bomb) < size / 100
    tracemalloc.start()
    try:
        with pytest.raises(CorruptionError):
            decode_chunk(bomb, encoding, "u1", (1000,))
        assert tracemalloc.get_traced_memory()[1] < 16 << 20  # of which lzma takes 8 for its dictionary
    finally:
        tracemalloc.stop()


def zstd_frame(header, size=10):
    block = struct.pack("<I", 1 | size << 3)[:3] + b"a" * size
    return b"\x28\xb5\x2f\xfd" + header + block


def test_headers_that_promise_the_impossible_are_refused():
    for stated in (1 << 40, (1 << 64) - 1):
        frame = zstd_frame(b"\xe0" + struct.pack("<Q", stated))
        assert content_size(frame) == stated
        with pytest.raises(CorruptionError, match="cannot hold"):
            decode_chunk(frame, rows("zstd"), "u1", (stated,))
    header = bytearray(encode_chunk(np.zeros(100, "u1"), rows("blosc")))
    header[4:8] = struct.pack("<I", 0xF0000000)
    with pytest.raises(CorruptionError):
        decode_chunk(bytes(header), rows("blosc"), "u1", (0xF0000000,))


def test_zstd_frames_without_a_content_size_decode_to_the_size_that_is_known():
    frame = zstd_frame(b"\x00\x00")
    assert content_size(frame) is None
    assert decode_chunk(frame, rows("zstd"), "u1", (10,)).tobytes() == b"a" * 10
    out = np.empty(10, "u1")
    assert decode_chunk(frame, rows("zstd"), "u1", (10,), out).tobytes() == b"a" * 10
    for size in (9, 11, 0):
        with pytest.raises(CorruptionError):
            decode_chunk(frame, rows("zstd"), "u1", (size,))
    with pytest.raises(CorruptionError):
        decode_chunk(frame, rows("zstd"), "u1", (1 << 40,))


@pytest.mark.parametrize(
    ("header", "size"),
    [
        (b"\x20\x05", 5),
        (b"\x60\x05\x00", 261),
        (b"\x40\x00\x05\x00", 261),
        (b"\xa0\x05\0\0\0", 5),
        (b"\x21\x07\x05", 5),
    ],
)
def test_content_sizes_of_all_widths_are_read(header, size):
    assert content_size(b"\x28\xb5\x2f\xfd" + header + b"\0") == size


@pytest.mark.parametrize("data", [b"", b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfd\xe0\0", b"PK\3\4\0\0\0\0"])
def test_what_is_no_zstd_frame_is_corruption(data):
    with pytest.raises(CorruptionError):
        content_size(data)


def test_shard_indices_that_point_outside_are_corruption():
    array = np.arange(16, dtype="<u4").reshape(4, 4)
    configuration = sharded((2, 2))["configuration"] | {"index_codecs": [LITTLE]}
    encoding = Encoding("rows", [{"name": "sharding_indexed", "configuration": configuration}])
    data = bytearray(encode_chunk(array, encoding))
    for value in (len(data), 1 << 40, (1 << 64) - 2):
        data[-16:-8] = struct.pack("<Q", value)
        with pytest.raises(CorruptionError):
            decode_chunk(bytes(data), encoding, "<u4", (4, 4))
    with pytest.raises(CorruptionError):
        decode_chunk(bytes(data[:40]), encoding, "<u4", (4, 4))


@pytest.mark.parametrize(
    "codecs",
    [
        ["no-such-codec"],
        ["bytes", "no-such-codec"],
        ["zstd"],
        ["bytes", "bytes"],
        ["zstd", "bytes"],
        [{"name": "numcodecs.pickles"}],
        ["bytes", {"name": "zstd", "configuration": {"level": 99}}],
        ["bytes", {"name": "zstd", "configuration": {"speed": 1}}],
        ["bytes", {"name": "blosc", "configuration": {"cname": "no"}}],
        [{"name": "bytes", "configuration": {"endian": "middle"}}],
        [{"name": "sharding_indexed"}],
        [
            {
                "name": "sharding_indexed",
                "configuration": {"chunk_shape": [0], "codecs": ["bytes"], "index_codecs": ["bytes"]},
            }
        ],
        [{"name": "transpose", "configuration": {"order": [0, 0]}}, "bytes"],
        [{"name": "transpose", "configuration": {"order": [1, 0]}}, "bytes"],
        [sharded((3,))],
        [sharded((2, 2))],
    ],
)
def test_codecs_that_cannot_be_used_are_unsupported(codecs):
    encoding = Encoding("rows", codecs)
    with pytest.raises(UnsupportedFormatError):
        decode_chunk(b"1234", encoding, "u1", (4,))
    with pytest.raises(UnsupportedFormatError):
        encode_chunk(np.zeros(4, "u1"), encoding)


@pytest.mark.parametrize(
    "out", [np.empty(4, "i1"), np.empty(5, "u1"), np.empty(8, "u1")[::2], np.frombuffer(b"1234", "u1")]
)
def test_outputs_that_do_not_fit_are_refused(out):
    with pytest.raises(ValueError, match="out"):
        decode_chunk(b"1234", rows(None), "u1", (4,), out)


# ---- what a person chooses -------------------------------------------------------------------------------------------


def test_names_become_zarr_codecs():
    assert compressor_codecs(None, dtype="u1") == ({"name": "bytes"},)
    assert compressor_codecs("zstd", dtype="f4") == (
        LITTLE,
        {"name": "zstd", "configuration": {"level": 1, "checksum": False}},
    )
    assert compressor_codecs("gzip", 9, "S3") == ({"name": "bytes"}, {"name": "gzip", "configuration": {"level": 9}})
    blosc = compressor_codecs("blosc", 3, "f8")[1]["configuration"]
    assert blosc == {"cname": "lz4", "clevel": 3, "shuffle": "shuffle", "typesize": 8, "blocksize": 0}
    assert compressor_codecs("blosc", dtype="u1")[1]["configuration"]["shuffle"] == "noshuffle"


def test_codecs_may_be_given_as_json_or_as_zarr_objects():
    zstd = {"name": "zstd", "configuration": {"level": 5, "checksum": True}}
    for spec in (zstd, [zstd], [LITTLE, zstd], zarr.codecs.ZstdCodec(level=5, checksum=True)):
        assert compressor_codecs(spec, dtype="<i4") == (LITTLE, zstd)
    assert compressor_codecs([], dtype="<i4") == (LITTLE,)


def test_the_bytes_codec_is_put_between_filters_and_compressors():
    delta = {"name": "numcodecs.delta", "configuration": {"dtype": "<i4"}}
    names = [codec["name"] for codec in compressor_codecs([delta, "zstd"], dtype="<i4")]
    assert names == ["numcodecs.delta", "bytes", "zstd"]


@pytest.mark.parametrize(
    ("spec", "level", "message"),
    [
        ("lz5", None, "'zstd', 'blosc', 'gzip'"),
        ("zstd", 23, "level"),
        ("gzip", 10, "level"),
        ("blosc", -1, "clevel"),
        ("zstd", "3", "integer"),
        (None, 3, "no level"),
        ({"name": "zstd"}, 3, "configuration"),
        ([{"name": "no-such"}], None, "install"),
        (3, None, "not int"),
        ([3], None, "codec"),
        ({"name": "numcodecs.bitround", "configuration": {"keepbits": 3}}, None, "exactly"),
        ({"name": "numcodecs.delta", "configuration": {"dtype": "<f4"}}, None, "exactly"),
        (["zstd", LITTLE], None, "after"),
        ({"name": "numcodecs.pickles"}, None, "never"),
    ],
)
def test_compressors_that_cannot_be_used_are_refused_with_a_remedy(spec, level, message):
    with pytest.raises(SchemaError, match=message):
        compressor_codecs(spec, level, "<f4")


def test_zarr_does_not_warn_of_its_codecs():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoding = rows([{"name": "numcodecs.adler32"}], "<U3")
        array = np.array(["abc", "é"])
        assert_same(decode_chunk(encode_chunk(array, encoding), encoding, "<U3", (2,)), array)


def test_unknown_names_are_no_compressors_of_ours():
    assert compressor("crc32c", {}, 1) is None
