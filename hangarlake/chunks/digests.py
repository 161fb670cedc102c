"""Digests of values and chunks: what a sample or a chunk is called, whatever its compression, packing or platform.

The rules are those of ``docs/format.md`` §4. BLAKE3 is the ``blake3`` package; everything here is a pure function.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from hangarlake.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "DIGEST_SIZE",
    "BytesLike",
    "blake3_160",
    "blake3_256",
    "bytes_digest",
    "canonical_dtype",
    "digest_rows",
    "dtype_token",
    "ndarray_digest",
    "value_header",
]

DIGEST_SIZE: Final = 20
"""Bytes of a value digest, of a chunk digest and of a node id."""

# From this size on, starting BLAKE3's threads costs less than they save.
_PARALLEL_BYTES: Final = 1 << 20

_BYTES_KINDS: Final = frozenset({"str", "bytes", "json"})
_NUMERIC_SIZES: Final = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8), "c": (8, 16)}

BytesLike: TypeAlias = bytes | bytearray | memoryview


def _hash(data: BytesLike) -> blake3:
    size = data.nbytes if isinstance(data, memoryview) else len(data)
    return blake3(data, max_threads=blake3.AUTO) if size >= _PARALLEL_BYTES else blake3(data)


def blake3_160(data: BytesLike) -> bytes:
    """Return the first 20 bytes of the BLAKE3 of `data` (a contiguous buffer); several threads from 1 MiB on."""
    return _hash(data).digest(DIGEST_SIZE)


def blake3_256(data: BytesLike) -> bytes:
    """Return the 32-byte BLAKE3 of `data` (a contiguous buffer); several threads from 1 MiB on."""
    return _hash(data).digest()


def canonical_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return the little-endian form of a dtype that a column can hold.

    Parameters
    ----------
    dtype : dtype-like
        bool, (u)int8–64, float16–64, complex64/128, datetime64 or timedelta64 with a unit, fixed-width bytes or
        strings.

    Raises
    ------
    SchemaError
        For every other dtype (objects, records, generic datetimes, long doubles, zero-width strings): their bytes are
        not the same on every platform, or are no values at all.
    """
    try:
        native = np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError) as error:  # NumPy reads some strings as Python
        raise SchemaError(f"{dtype!r} is not a NumPy dtype: {error}") from error
    return _canonical(native)


@lru_cache(maxsize=1024)
def _canonical(result: np.dtype[Any]) -> np.dtype[Any]:
    kind = result.kind
    if result.subdtype is not None or result.itemsize == 0:
        known = False
    elif kind in "mM":
        known = np.datetime_data(result)[0] != "generic"
    else:
        known = kind in "SU" or result.itemsize in _NUMERIC_SIZES.get(kind, ())
    if not known:
        raise SchemaError(
            f"dtype {result!s} cannot be stored; use bool, an integer, float16–64, complex64/128, datetime64 or "
            "timedelta64 with a unit, or fixed-width bytes or strings"
        )
    # Metadata that an application hangs on a dtype is no part of the type; the token carries exactly what is.
    return np.dtype(result.newbyteorder("<").str)


def dtype_token(dtype: npt.DTypeLike) -> str:
    """Return the dtype as value headers and catalogs spell it: ``|u1``, ``<f4``, ``<M8[ns]``, ``<U7``.

    Raises
    ------
    SchemaError
        As :func:`canonical_dtype`.
    """
    return canonical_dtype(dtype).str


@lru_cache(maxsize=4096)
def _ndarray_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    return f"ndarray {dtype_token(dtype)} {','.join(map(str, shape))}\n".encode("ascii")


@lru_cache(maxsize=256)
def _ndarray_state(dtype: np.dtype[Any], shape: tuple[int, ...]) -> blake3:
    """Return a hasher that has seen the header; callers copy it and never update it."""
    return blake3(_ndarray_header(dtype, shape))


def value_header(kind: str, dtype: npt.DTypeLike | None = None, shape: Iterable[int] | None = None) -> bytes:
    """Return the header that a value digest covers before the value's bytes.

    Parameters
    ----------
    kind : {"ndarray", "str", "bytes", "json"}
    dtype, shape
        Of the value; needed for (and only for) ``"ndarray"``.

    Raises
    ------
    SchemaError
        Unknown kind or dtype.
    """
    if kind == "ndarray":
        if dtype is None or shape is None:
            raise SchemaError("the header of an ndarray value needs its dtype and shape")
        return _ndarray_header(np.dtype(dtype), tuple(int(n) for n in shape))
    if kind not in _BYTES_KINDS:
        raise SchemaError(f"unknown kind of value {kind!r}; kinds are ndarray, str, bytes and json")
    return f"{kind}\n".encode("ascii")


def _raw(array: npt.NDArray[Any]) -> memoryview:
    """Return the C-order little-endian bytes of an array, copying only where its layout is another one."""
    dtype = canonical_dtype(array.dtype)
    # reshape(-1) before view: a 0-d array has no bytes view.
    flat = np.ascontiguousarray(array, dtype=dtype).reshape(-1)
    return flat.view(np.uint8).data


def ndarray_digest(array: npt.NDArray[Any]) -> bytes:
    """Return the 20-byte value digest of an array of any layout and byte order.

    Raises
    ------
    SchemaError
        For a dtype that cannot be stored.
    """
    state = _ndarray_state(array.dtype, array.shape).copy()
    data = _raw(array)
    if data.nbytes >= _PARALLEL_BYTES:
        # A copied hasher works on one thread, so a large value is hashed by one that may use more.
        state = blake3(_ndarray_header(array.dtype, array.shape), max_threads=blake3.AUTO)
    return state.update(data).digest(DIGEST_SIZE)


def digest_rows(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return the value digests of many samples of one shape.

    Parameters
    ----------
    array : ndarray, shape (n, *sample shape)

    Returns
    -------
    ndarray of uint8, shape (n, 20)

    Raises
    ------
    SchemaError
        For a dtype that cannot be stored, or an array without a first axis.
    """
    if array.ndim == 0:
        raise SchemaError("digest_rows needs an array of samples: shape (n, *sample shape)")
    count = array.shape[0]
    shape = array.shape[1:]
    data = _raw(array)
    size = data.nbytes // count if count else 0
    if size >= _PARALLEL_BYTES:
        # Slices, because an element of a 1-d array of strings is a scalar that has lost its trailing zeros.
        digests = [ndarray_digest(array[i : i + 1].reshape(shape)) for i in range(count)]
    else:
        copy = _ndarray_state(array.dtype, shape).copy
        digests = [copy().update(data[i * size : i * size + size]).digest(DIGEST_SIZE) for i in range(count)]
    return np.frombuffer(bytearray(b"".join(digests)), dtype=np.uint8).reshape(count, DIGEST_SIZE)


def bytes_digest(kind: str, data: BytesLike) -> bytes:
    """Return the 20-byte value digest of a ``str``, ``bytes`` or ``json`` value.

    Parameters
    ----------
    kind : {"str", "bytes", "json"}
    data : buffer
        UTF-8, the bytes, or canonical JSON.
    """
    if kind not in _BYTES_KINDS:
        raise SchemaError(f"values of kind {kind!r} have no digest of plain bytes; kinds are str, bytes and json")
    header = value_header(kind)
    if len(data) < _PARALLEL_BYTES:
        return blake3(header + data).digest(DIGEST_SIZE)
    return blake3(header, max_threads=blake3.AUTO).update(data).digest(DIGEST_SIZE)
