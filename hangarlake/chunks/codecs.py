"""Zarr v3 codecs applied synchronously: arrays to chunks and back, with the decoded size known beforehand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hangarlake.chunks.digests import BytesLike, canonical_dtype
from hangarlake.chunks.encodings import Codec, Encoding, _canonical
from hangarlake.chunks.stages import Plan, Target, make_plan
from hangarlake.errors import CorruptionError, SchemaError, UnsupportedFormatError

__all__ = ["ZSTD_LEVEL", "compressor_codecs", "decode_chunk", "encode_chunk"]

ZSTD_LEVEL: Final = 1
"""The default level. On 64 KiB chunks of images, levels 2 to 4 cost time and gain nothing; below 1, floats and photos
are not compressed at all."""

_BLOSC_LEVEL: Final = 5
_GZIP_LEVEL: Final = 5


@lru_cache(maxsize=1024)
def _plan(encoding: Encoding, itemsize: int) -> Plan:
    return make_plan(_canonical(encoding.codecs), itemsize)


def encode_chunk(array: npt.NDArray[Any], encoding: Encoding, *, fill_value: Any = None) -> bytes:
    """Encode one chunk.

    Parameters
    ----------
    array : ndarray
        Any layout and byte order.
    encoding : Encoding
    fill_value : scalar, optional
        What a shard may leave out (only ``sharding_indexed`` knows absent parts); default: zero.

    Raises
    ------
    SchemaError
        A dtype that cannot be stored, or an array that a codec refuses.
    UnsupportedFormatError
        A codec that is not installed or does not fit the array.
    """
    dtype = canonical_dtype(array.dtype)
    plan = _plan(encoding, dtype.itemsize)
    if plan.direct:
        flat = np.ascontiguousarray(array, dtype=dtype).reshape(-1).view(np.uint8)
        if plan.only is not None:
            try:
                return plan.only.encode(flat)
            except (RuntimeError, ValueError) as error:  # blosc takes less than 2 GiB
                raise SchemaError(f"a chunk of {flat.nbytes:,} bytes cannot be compressed: {error}") from error
        if not plan.bytes_steps:
            return flat.tobytes()
    return plan.encode(array, Target(dtype, array.shape, _fill(fill_value, dtype)))


def decode_chunk(
    data: BytesLike,
    encoding: Encoding,
    dtype: npt.DTypeLike,
    shape: Sequence[int],
    out: npt.NDArray[Any] | None = None,
    *,
    fill_value: Any = None,
) -> npt.NDArray[Any]:
    """Decode one chunk, which must hold exactly an array of `dtype` and `shape`.

    Parameters
    ----------
    data : buffer
        The encoded bytes, already verified or not: nothing in them is trusted.
    encoding : Encoding
    dtype, shape
        Of the decoded array. The sizes that the data states are compared with theirs before any memory is taken.
    out : ndarray, optional
        C-contiguous and writeable, of the canonical dtype and the shape: decoded into and returned.
    fill_value : scalar, optional
        The value of parts that a shard leaves out; default: zero.

    Returns
    -------
    ndarray
        `out`, or an array that may be read-only and, where nothing was compressed, may share memory with `data`.

    Raises
    ------
    CorruptionError
        The data does not decode to such an array.
    UnsupportedFormatError
        A codec that is not installed.
    ValueError
        `out` does not fit.
    """
    dtype = canonical_dtype(dtype)
    shape = tuple(shape)
    plan = _plan(encoding, dtype.itemsize)
    flat: npt.NDArray[np.uint8] | None = None
    if out is not None:
        if out.dtype != dtype or out.shape != shape or not (out.flags.c_contiguous and out.flags.writeable):
            raise ValueError(f"out must be a writeable C-contiguous array of {dtype} and shape {shape}")
        flat = out.reshape(-1).view(np.uint8)
    if plan.direct and (plan.only is not None or not plan.bytes_steps):
        nbytes = math.prod(shape) * dtype.itemsize
        if plan.only is not None:
            data = plan.only.decode(data, nbytes, True, flat)
            if out is not None:
                return out
        elif len(data) != nbytes:
            raise CorruptionError(f"{len(data):,} bytes, but the chunk has {nbytes:,}")
        array = np.frombuffer(data, dtype=dtype).reshape(shape)
    else:
        array = plan.decode(data, Target(dtype, shape, _fill(fill_value, dtype)))
    if out is None:
        return array
    out[...] = array
    return out


def _fill(value: Any, dtype: np.dtype[Any]) -> bytes | None:
    return None if value is None else np.asarray(value).astype(dtype).tobytes()


# ---- what a person chooses -----------------------------------------------------------------------


def compressor_codecs(spec: Any, level: int | None = None, dtype: npt.DTypeLike = np.uint8) -> tuple[Codec, ...]:
    """Turn the ``"compressor"`` of a column's or array's encoding into a codec list.

    Parameters
    ----------
    spec : str, None, dict, sequence, or a codec object with ``to_dict()``
        ``"zstd"``, ``"blosc"`` (LZ4, shuffled where elements have several bytes), ``"gzip"``, ``None`` for no
        compression, or Zarr v3 codec JSON: one codec or a list of them, with or without its ``bytes`` codec.
    level : int, optional
        For the names only: zstd −131072–22 (default 1), blosc 0–9 (5), gzip 0–9 (5).
    dtype : dtype-like
        Of the elements.

    Raises
    ------
    SchemaError
        An unknown name or level, codecs that cannot be applied to the dtype, or codecs that do not give back
        the exact values. The message says what is possible.
    """
    dtype = canonical_dtype(dtype)
    if isinstance(spec, str) or spec is None:
        codecs = _named_codecs(spec, level, dtype)
    else:
        if level is not None:
            raise SchemaError("a level goes with a compressor's name; a codec in JSON form has it in its configuration")
        codecs = _explicit_codecs(spec, dtype)
    return codecs


def _bytes_codec(dtype: np.dtype[Any]) -> Codec:
    if dtype.itemsize == 1 or dtype.kind == "S":
        return {"name": "bytes"}
    return {"name": "bytes", "configuration": {"endian": "little"}}


def _named_codecs(name: str | None, level: int | None, dtype: np.dtype[Any]) -> tuple[Codec, ...]:
    if level is not None and (not isinstance(level, int) or isinstance(level, bool)):
        raise SchemaError(f"the level of a compressor is an integer, not {level!r}")
    configuration: dict[str, Any]
    if name is None or name == "none":
        if level is not None:
            raise SchemaError("no compressor has no level; leave it out, or choose zstd, blosc or gzip")
        return (_bytes_codec(dtype),)
    if name == "zstd":
        configuration = {"level": ZSTD_LEVEL if level is None else level, "checksum": False}
    elif name == "gzip":
        configuration = {"level": _GZIP_LEVEL if level is None else level}
    elif name == "blosc":
        size = dtype.itemsize if dtype.itemsize <= 255 else 1
        configuration = {
            "cname": "lz4",
            "clevel": _BLOSC_LEVEL if level is None else level,
            # Bit shuffling takes from LZ4 the repeated bytes that it lives on, so single bytes stay as they are.
            "shuffle": "shuffle" if size > 1 else "noshuffle",
            "typesize": size,
            "blocksize": 0,
        }
    else:
        raise SchemaError(
            f"unknown compressor {name!r}; use 'zstd', 'blosc', 'gzip', None, or Zarr v3 codec JSON such as "
            "{'name': 'zstd', 'configuration': {'level': 3}}"
        )
    codecs = (_bytes_codec(dtype), {"name": name, "configuration": configuration})
    try:
        make_plan(_canonical(codecs), dtype.itemsize)
    except UnsupportedFormatError as error:
        raise SchemaError(f"compressor {name!r} with level {level!r}: {error.__cause__ or error}") from error
    return codecs


def _explicit_codecs(spec: Any, dtype: np.dtype[Any]) -> tuple[Codec, ...]:
    items = [spec] if isinstance(spec, Mapping) or hasattr(spec, "to_dict") else spec
    if not isinstance(items, Sequence) or isinstance(items, bytes):
        raise SchemaError(
            f"a compressor is 'zstd', 'blosc', 'gzip', None or Zarr v3 codec JSON, not {type(spec).__name__}"
        )
    plain = [item.to_dict() if hasattr(item, "to_dict") else item for item in items]
    try:
        codecs = Encoding("rows", plain or [_bytes_codec(dtype)]).codecs
    except ValueError as error:
        raise SchemaError(f"the compressor is no Zarr v3 codec list: {error}") from error
    try:
        try:
            make_plan(_canonical(codecs), dtype.itemsize)
        except UnsupportedFormatError:
            # A list of compressors alone lacks the codec from array to bytes; so does one of filters alone.
            codecs = _with_bytes_codec(codecs, dtype)
            make_plan(_canonical(codecs), dtype.itemsize)
        _check_exact(codecs, dtype)
    except UnsupportedFormatError as error:
        raise SchemaError(f"the compressor cannot be used: {error}") from error
    return codecs


def _with_bytes_codec(codecs: tuple[Codec, ...], dtype: np.dtype[Any]) -> tuple[Codec, ...]:
    if any(codec["name"] == "bytes" for codec in codecs):
        return codecs
    for position in range(len(codecs) + 1):
        candidate = (*codecs[:position], _bytes_codec(dtype), *codecs[position:])
        try:
            make_plan(_canonical(candidate), dtype.itemsize)
        except UnsupportedFormatError:
            continue
        return candidate
    return codecs


def _check_exact(codecs: tuple[Codec, ...], dtype: np.dtype[Any]) -> None:
    """Refuse codecs that change values: digests are of the values that were given."""
    shapes = {"transpose": _transpose_rank(codecs)}
    rank = shapes["transpose"] or 1
    inner = next(
        (codec["configuration"]["chunk_shape"] for codec in codecs if codec["name"] == "sharding_indexed"), None
    )
    shape = tuple(inner) if inner is not None else (64, *(1,) * (rank - 1))
    if math.prod(shape) > 1 << 20:
        return  # a shard of huge chunks: its codecs were built, which is all that is cheap to know
    count = math.prod(shape)
    noise = np.random.default_rng(20).integers(0, 256, count * dtype.itemsize, dtype=np.uint8)
    if dtype.kind == "b":
        noise &= 1
    if dtype.kind == "U":
        noise.view("<u4")[:] %= 0xD800  # code points
    array = noise.view(dtype).reshape(shape)
    encoding = Encoding("rows", codecs)
    try:
        with np.errstate(all="ignore"):
            exact = decode_chunk(encode_chunk(array, encoding), encoding, dtype, shape).tobytes() == array.tobytes()
    except Exception as error:  # plugins raise what they like
        raise SchemaError(f"the codecs {_canonical(codecs)} cannot be applied to {dtype}: {error}") from error
    if not exact:
        raise SchemaError(
            f"the codecs {_canonical(codecs)} do not give back {dtype} values exactly; apply lossy "
            "codecs before storing"
        )


def _transpose_rank(codecs: tuple[Codec, ...]) -> int | None:
    for codec in codecs:
        order = codec.get("configuration", {}).get("order")
        if codec["name"] == "transpose" and isinstance(order, list):
            return len(order)
    return None
