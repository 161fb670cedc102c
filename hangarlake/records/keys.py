"""Keys of trees: samples, nested samples and grid coordinates as byte strings that order as they should.

The encoding is that of ``docs/format.md`` §6. In memory, many keys are one NumPy array of dtype ``S<width>``. NumPy pads these with
zero bytes and ignores trailing ones when it compares, which is why the format removes trailing zeros: both agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hangarlake.errors import CorruptionError, SchemaError

__all__ = [
    "FlatKey",
    "Key",
    "KeyArray",
    "as_key_array",
    "decode_grid",
    "decode_key",
    "decode_keys",
    "encode_grid",
    "encode_key",
    "encode_keys",
    "grid_key",
    "hash_keys",
    "next_prefix",
    "sample_prefix",
]

FlatKey: TypeAlias = str | int
Key: TypeAlias = FlatKey | tuple[FlatKey, FlatKey]
KeyArray: TypeAlias = npt.NDArray[np.bytes_]

INT_TAG = b"\x10"
STR_TAG = b"\x20"
GRID_TAG = b"\x30"
MAX_STR_BYTES = 1024
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_INT_BIAS = 1 << 63
_MAX_COORDINATE = (1 << 32) - 1


def _encode_component(key: object) -> bytes:
    if isinstance(key, str):
        data = _utf8(key)
        if not data:
            raise SchemaError("a key is an empty string; give it at least one character")
        if len(data) > MAX_STR_BYTES:
            raise SchemaError(f"key {key[:40]!r}… is {len(data)} bytes of UTF-8; the limit is {MAX_STR_BYTES}")
        if _CONTROL.search(key):
            raise SchemaError(f"key {key!r} contains a control character; remove it")
        return STR_TAG + data
    if isinstance(key, bool | np.bool_) or not isinstance(key, int | np.integer):
        raise SchemaError(f"a key is a str or an int, not {type(key).__name__} ({key!r})")
    number = int(key)
    if not -_INT_BIAS <= number < _INT_BIAS:
        raise SchemaError(f"key {number} does not fit in 64 bits; use a str")
    return INT_TAG + (number + _INT_BIAS).to_bytes(8, "big")


def _utf8(key: str) -> bytes:
    try:
        return key.encode()
    except UnicodeEncodeError:
        raise SchemaError(f"key {key!r} is not valid Unicode (a lone surrogate)") from None


def encode_key(key: object) -> bytes:
    """Encode one key: ``str``, ``int``, or a pair of these for nested columns.

    Raises
    ------
    SchemaError
        If it is of another type, empty, too long, or holds control characters.
    """
    if type(key) is int and -_INT_BIAS <= key < _INT_BIAS:
        return (INT_TAG + (key + _INT_BIAS).to_bytes(8, "big")).rstrip(b"\0")
    if isinstance(key, tuple):
        if len(key) != 2:
            raise SchemaError(f"a nested key is (sample, sub), not a tuple of {len(key)}")
        return (sample_prefix(key[0]) + _encode_component(key[1])).rstrip(b"\0")
    return _encode_component(key).rstrip(b"\0")


def sample_prefix(sample: object) -> bytes:
    """Return the bytes with which every key of a nested `sample` starts."""
    data = _encode_component(sample)
    return data + b"\0" if data[:1] == STR_TAG else data


def next_prefix(prefix: bytes) -> bytes:
    """Return the least byte string that is greater than every string starting with `prefix`."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1])


def decode_key(data: bytes) -> Key:
    """Invert :func:`encode_key`.

    Raises
    ------
    CorruptionError
        If the bytes are no key of a sample.
    """
    first, rest = _decode_component(data)
    if not rest:
        # A second component is never cut away: the tag that it begins with is not zero.
        return first
    second, rest = _decode_component(rest)
    if rest:
        raise CorruptionError(f"{data[:40]!r} is no key of a sample: it has more than two components; run verify")
    return first, second


def _decode_component(data: bytes) -> tuple[FlatKey, bytes]:
    tag = data[:1]
    if tag == INT_TAG:
        return int.from_bytes(data[1:9].ljust(8, b"\0"), "big") - _INT_BIAS, data[9:]
    if tag == STR_TAG:
        text, _, rest = data[1:].partition(b"\0")
        try:
            if text:
                return text.decode(), rest
        except UnicodeDecodeError:
            pass
    raise CorruptionError(f"{data[:40]!r} is no key of a sample, and none begins so; run verify")


def encode_keys(keys: Iterable[object]) -> KeyArray:
    """Encode many keys into one ``S`` array, in the order given. Integer arrays, ranges and lists of one type are fast."""
    if isinstance(keys, range):
        for key in {*keys[:1], *keys[-1:]}:
            encode_key(key)  # raises if it does not fit; if both ends do, all between them do
        keys = np.arange(keys.start, keys.stop, keys.step, dtype=np.int64) if len(keys) else np.empty(0, np.int64)
    if isinstance(keys, np.ndarray):
        if keys.ndim != 1:
            raise SchemaError(f"keys are one-dimensional, not {keys.ndim}-dimensional")
        if keys.dtype.kind == "i" or (keys.dtype.kind == "u" and keys.dtype.itemsize < 8):
            return _encode_ints(keys.astype(np.int64))
        keys = keys.tolist()
    listed: list[Any] = keys if isinstance(keys, list) else list(keys)
    if not listed:
        return np.empty(0, "S1")
    kinds = set(map(type, listed))
    if kinds == {int}:
        try:
            return _encode_ints(np.array(listed, dtype=np.int64))
        except OverflowError:
            pass  # encode_key below names the culprit
    elif kinds == {str} and not _CONTROL.search(" ".join(listed)):
        try:
            array = np.array([b"\x20" + key.encode() for key in listed])
        except UnicodeEncodeError:
            array = np.empty(0, "S1")
        if 0 < array.itemsize <= MAX_STR_BYTES + 1 and len(array) and all(listed):
            return array
    return np.array([encode_key(key) for key in listed])


def _encode_ints(numbers: npt.NDArray[np.int64]) -> KeyArray:
    matrix = np.empty((len(numbers), 9), np.uint8)
    matrix[:, 0] = INT_TAG[0]
    matrix[:, 1:] = (numbers.view(np.uint64) ^ np.uint64(_INT_BIAS)).astype(">u8").view(np.uint8).reshape(-1, 8)
    return matrix.view("S9").reshape(-1)


def decode_keys(keys: KeyArray) -> list[Any]:
    """Decode an ``S`` array into a list of ``int``, ``str`` or pairs.

    Raises
    ------
    CorruptionError
        As :func:`decode_key`.
    """
    if not len(keys):
        return []
    matrix = byte_matrix(keys)
    if keys.itemsize <= 9 and bool((matrix[:, 0] == INT_TAG[0]).all()):
        return list(decode_ints(keys).tolist())
    listed = keys.tolist()
    if not _has_pairs(matrix):
        try:
            return [k[1:].decode() if k[:1] == STR_TAG and len(k) > 1 else decode_key(k) for k in listed]
        except UnicodeDecodeError:
            pass  # decode_key below names the culprit
    return [decode_key(k) for k in listed]


def _has_pairs(matrix: npt.NDArray[np.uint8]) -> bool:
    """Tell whether some key of a byte matrix might have two components (a zero byte before its end, or an int followed by more)."""
    if matrix.shape[1] > 9 and bool((matrix[:, 0] == INT_TAG[0]).any()):
        return True
    zero = matrix == 0
    return bool((zero[:, :-1] & ~zero[:, 1:]).any())


def decode_ints(keys: KeyArray) -> npt.NDArray[np.int64]:
    """Decode an array of flat integer keys."""
    matrix = byte_matrix(keys.astype("S9", copy=False))
    biased = np.ascontiguousarray(matrix[:, 1:]).view(">u8").reshape(-1).astype(np.uint64)
    return (biased ^ np.uint64(_INT_BIAS)).view(np.int64)


def encode_grid(coordinates: npt.NDArray[np.integer[Any]]) -> KeyArray:
    """Encode grid coordinates, shape (n, ndim), as keys in row-major order.

    Raises
    ------
    SchemaError
        If one is negative or does not fit in 32 bits.
    """
    n, ndim = coordinates.shape
    if coordinates.size and (coordinates.min() < 0 or coordinates.max() > _MAX_COORDINATE):
        raise SchemaError(
            f"grid coordinates are 0 to {_MAX_COORDINATE:,}, and there is one of {coordinates.min():,} or {coordinates.max():,}; "
            "give the array larger chunks"
        )
    matrix = np.empty((n, 1 + 4 * ndim), np.uint8)
    matrix[:, 0] = GRID_TAG[0]
    matrix[:, 1:] = np.ascontiguousarray(coordinates, dtype=">u4").view(np.uint8).reshape(n, 4 * ndim)
    return matrix.view(f"S{1 + 4 * ndim}").reshape(-1)


def decode_grid(keys: KeyArray, ndim: int) -> npt.NDArray[np.uint32]:
    """Decode keys into grid coordinates, shape (n, ndim).

    Raises
    ------
    CorruptionError
        If one is no key of a grid of so many dimensions.
    """
    width = 1 + 4 * ndim
    matrix = byte_matrix(keys.astype(f"S{max(width, keys.itemsize)}", copy=False))
    odd = np.flatnonzero((matrix[:, 0] != GRID_TAG[0]) | matrix[:, width:].any(axis=1))
    if len(odd):
        raise CorruptionError(
            f"{bytes(keys[odd[0]])[:40]!r} is no key of a chunk in a grid of {ndim} dimensions; run verify"
        )
    matrix = matrix[:, :width]
    return np.ascontiguousarray(matrix[:, 1:]).view(">u4").reshape(len(keys), ndim).astype(np.uint32)


def grid_key(place: object, ndim: int) -> bytes:
    """Encode the grid coordinates of one chunk: a tuple, or a bare number where there is one dimension.

    Raises
    ------
    SchemaError
        If it is none of an array of `ndim` dimensions.
    """
    numbers = place if isinstance(place, tuple) else (place,)
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) and 0 <= n < 1 << 32 for n in numbers)
    if len(numbers) != ndim or not whole:
        raise SchemaError(f"a chunk is named by {ndim} grid coordinate{'s' if ndim != 1 else ''}, not {place!r}")
    return bytes(encode_grid(np.array([numbers], np.uint32).reshape(1, ndim))[0])


def as_key_array(keys: Sequence[bytes]) -> KeyArray:
    """Turn encoded keys into an array; an empty sequence keeps the dtype right."""
    return np.array(keys, dtype=f"S{max(1, max(map(len, keys)))}") if len(keys) else np.empty(0, "S1")


def byte_matrix(keys: KeyArray) -> npt.NDArray[np.uint8]:
    """View keys as bytes, shape (n, width)."""
    return np.ascontiguousarray(keys).view(np.uint8).reshape(len(keys), keys.itemsize)


# ---- boundaries ---------------------------------------------------------------------------------------------------------

_LEVEL_SALT = 0xD1B54A32D192ED03
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    # The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
    x = x ^ (x >> np.uint64(30))
    x = x * np.uint64(0xBF58476D1CE4E5B9)
    x = x ^ (x >> np.uint64(27))
    x = x * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


_MULTIPLIERS = _mix(np.arange(1, 514, dtype=np.uint64) * np.uint64(_GOLDEN)) | np.uint64(1)


def hash_keys(keys: KeyArray, level: int) -> npt.NDArray[np.uint64]:
    """Hash keys for the choice of boundaries (format §6), shape (n,)."""
    words_per_key = -(-keys.itemsize // 8)
    words = (
        np.ascontiguousarray(keys.astype(f"S{8 * words_per_key}", copy=False))
        .view("<u8")
        .reshape(len(keys), words_per_key)
    )
    total = words[:, 0] * _MULTIPLIERS[0]
    for i in range(1, words_per_key):
        total = total + words[:, i] * _MULTIPLIERS[i]
    return _mix(total + np.uint64((level * _LEVEL_SALT) & _MASK))
