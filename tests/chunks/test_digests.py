from __future__ import annotations

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given

from hangarlake.chunks.digests import (
    DIGEST_SIZE,
    blake3_160,
    blake3_256,
    bytes_digest,
    canonical_dtype,
    digest_rows,
    dtype_token,
    ndarray_digest,
    value_header,
)
from hangarlake.errors import SchemaError

from .strategies import DTYPES, arrays


@pytest.mark.parametrize("size", [0, 1, 1023, 1 << 20, (1 << 20) + 1])
def test_digests_are_plain_blake3_whatever_the_number_of_threads(size):
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    assert blake3_256(data) == blake3(data).digest()
    assert blake3_160(memoryview(data)) == blake3(data).digest()[:DIGEST_SIZE]


@pytest.mark.parametrize(
    ("dtype", "shape", "header"),
    [
        ("u1", (28, 28), b"ndarray |u1 28,28\n"),
        (">f4", (3,), b"ndarray <f4 3\n"),
        ("f8", (), b"ndarray <f8 \n"),
        ("M8[ns]", (1, 0), b"ndarray <M8[ns] 1,0\n"),
        ("S5", (2,), b"ndarray |S5 2\n"),
        ("U7", (2,), b"ndarray <U7 2\n"),
        ("?", (1,), b"ndarray |b1 1\n"),
    ],
)
def test_array_headers_are_those_of_the_format(dtype, shape, header):
    assert value_header("ndarray", dtype, shape) == header
    array = np.zeros(shape, dtype)
    assert ndarray_digest(array) == blake3(header + bytes(array.nbytes)).digest()[:DIGEST_SIZE]


@pytest.mark.parametrize("kind", ["str", "bytes", "json"])
def test_digests_of_bytes_cover_their_kind(kind):
    for data in (b"", b"abc", b"x" * (1 << 20)):
        assert bytes_digest(kind, data) == blake3(kind.encode() + b"\n" + data).digest()[:DIGEST_SIZE]
    assert value_header(kind) == f"{kind}\n".encode()


@given(arrays())
def test_layout_and_byte_order_do_not_change_a_digest(array):
    digest = ndarray_digest(array)
    assert ndarray_digest(array.copy(order="F")) == digest
    assert ndarray_digest(array.astype(array.dtype.newbyteorder(">"))) == digest
    padded = np.zeros((*array.shape, 2), array.dtype)
    padded[..., 1] = array
    assert ndarray_digest(padded[..., 1]) == digest


@given(arrays(min_dims=1))
def test_rows_have_the_digests_of_their_samples(array):
    digests = digest_rows(array)
    assert digests.shape == (len(array), DIGEST_SIZE)
    assert digests.dtype == np.uint8
    for i, row in enumerate(digests):
        assert row.tobytes() == ndarray_digest(array[i : i + 1].reshape(array.shape[1:]))


def test_large_rows_have_the_digests_of_their_samples():
    array = np.arange(3 << 18, dtype="<u4").reshape(3, 1 << 18)
    assert [row.tobytes() for row in digest_rows(array)] == [ndarray_digest(sample) for sample in array]
    strings = np.array([b"short", b"x" * (1 << 20)])
    padded = b"short".ljust(1 << 20, b"\0")
    assert digest_rows(strings)[0].tobytes() == blake3(b"ndarray |S1048576 \n" + padded).digest()[:DIGEST_SIZE]
    header = b"ndarray <u4 262144\n"
    assert ndarray_digest(array[1]) == blake3(header + array[1].tobytes()).digest()[:DIGEST_SIZE]


def test_values_of_different_type_or_shape_differ_though_their_bytes_are_equal():
    bits = np.zeros(8, np.uint8)
    same_bytes = [
        bits,
        bits.view("i1"),
        bits.view("<u2"),
        bits.reshape(2, 4),
        bits.view("<M8[ns]"),
        bits.view("<M8[D]"),
    ]
    assert len({ndarray_digest(array) for array in same_bytes}) == len(same_bytes)


@pytest.mark.parametrize("dtype", DTYPES)
def test_storable_dtypes_are_their_own_token(dtype):
    assert dtype_token(dtype) == dtype
    assert canonical_dtype(np.dtype(dtype).newbyteorder(">")).str == dtype


@pytest.mark.parametrize(
    "dtype", ["O", "V8", "M8", "m8", "f2,i4", "S", "U", "(2,)f4", "longdouble", "clongdouble", "no such", [1]]
)
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(SchemaError):
        canonical_dtype(dtype)


def test_metadata_of_a_dtype_is_no_part_of_the_type():
    assert canonical_dtype(np.dtype("<f4", metadata={"unit": "m"})).metadata is None


@pytest.mark.parametrize(
    "call", [lambda: value_header("tensor"), lambda: value_header("ndarray"), lambda: bytes_digest("ndarray", b"")]
)
def test_unknown_kinds_are_refused(call):
    with pytest.raises(SchemaError):
        call()


def test_rows_need_a_first_axis():
    with pytest.raises(SchemaError, match="array of samples"):
        digest_rows(np.array(1))
