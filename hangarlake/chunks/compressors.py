"""Compressors between bytes and bytes whose output is bounded before memory is taken.

A chunk comes from a bucket, so its header may promise anything. Each compressor here learns how many bytes its output
has (or at most has), compares that with what the compressed bytes state, and only then decompresses. The work itself is
done by python-zstandard, numcodecs, zlib, bz2 and lzma, which release the GIL.
"""

from __future__ import annotations

import bz2
import json
import lzma
import struct
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol

import numcodecs
import numpy as np
import numpy.typing as npt
from numcodecs.blosc import Blosc
from numcodecs.zstd import Zstd

from hangarlake.chunks import zstd
from hangarlake.errors import CorruptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hangarlake.chunks.digests import BytesLike

__all__ = ["Compressor", "Output", "compressor", "is_compressor"]

Output = npt.NDArray[np.uint8]

# No compressor here makes more than 2**15 bytes of one (zstd: a block of 128 KiB in four), so a header that promises
# more is a bomb. It costs nothing to refuse it before the memory is asked for.
_MAX_RATIO: Final = 1 << 16

# Preset 9 has a dictionary of 64 MiB. An encoder takes eleven times that, and an encoding from a bucket may ask for any.
_LZMA_DICTIONARY: Final = 1 << 26
_LZMA_MEMORY: Final = 1 << 27

# From here on, decompressing into place is worth more than a kept context.
_ZSTD_IN_PLACE: Final = 1 << 18


class Compressor(Protocol):
    """One bytes → bytes codec. Stateless between calls; any thread may use it."""

    def encode(self, data: BytesLike | npt.NDArray[Any]) -> bytes:
        """Compress a contiguous buffer."""

    def decode(self, data: BytesLike, size: int, exact: bool, out: Output | None = None) -> BytesLike:
        """Decompress.

        Parameters
        ----------
        data : buffer
        size : int
            Bytes of the result, or, unless `exact`, the most that it may have.
        exact : bool
        out : ndarray of uint8, shape (size,), optional
            Where the result goes (only with `exact`); what is returned then shows it.

        Raises
        ------
        CorruptionError
            The data is not what this codec writes, or its result has another size.
        """


def _check_size(name: str, stated: int, data: BytesLike, size: int, exact: bool) -> None:
    if (stated != size) if exact else (stated > size):
        raise CorruptionError(
            f"{name} data of {stated:,} bytes, but the chunk has {'' if exact else 'at most '}{size:,}"
        )
    if stated > len(data) * _MAX_RATIO:
        raise CorruptionError(f"{len(data):,} bytes of {name} data cannot hold the {stated:,} bytes that they promise")


def _run(name: str, decode: Callable[..., Any], data: BytesLike, out: Output | None) -> BytesLike:
    try:
        result = decode(data, out)
    except (RuntimeError, ValueError, TypeError) as error:
        raise CorruptionError(f"damaged {name} data: {error}") from error
    return result.data if isinstance(result, np.ndarray) else result


class _Zstd:
    def __init__(self, level: int = 0, checksum: bool = False) -> None:
        if not -131_072 <= level <= 22:
            raise ValueError(f"level {level} is not between -131072 and 22")
        self._level = level
        self._checksum = bool(checksum)
        self._codec = Zstd(level=level, checksum=self._checksum)

    def encode(self, data: BytesLike | npt.NDArray[Any]) -> bytes:
        return zstd.compress(data, self._level, checksum=self._checksum)  # type: ignore[arg-type]  # any contiguous buffer

    def decode(self, data: BytesLike, size: int, exact: bool, out: Output | None = None) -> BytesLike:
        stated = zstd.content_size(data)
        if stated is None:
            # Writers that stream leave the size out. Into a destination of the right size no more can be written.
            if not exact or size > len(data) * _MAX_RATIO:
                raise CorruptionError("a zstd frame that does not record its content size")
            if out is None:
                out = np.empty(size, dtype=np.uint8)
            return _run("zstd", self._codec.decode, data, out)
        _check_size("zstd", stated, data, size, exact)
        if stated == 0:
            return b""  # numcodecs refuses empty frames
        if out is not None and stated >= _ZSTD_IN_PLACE:
            return _run("zstd", self._codec.decode, data, out)
        result = zstd.decompress(data, stated)
        if out is None:
            return result
        out[...] = np.frombuffer(result, np.uint8)
        return out.data


class _Blosc:
    def __init__(
        self,
        cname: str = "zstd",
        clevel: int = 5,
        shuffle: str | int | None = None,
        blocksize: int = 0,
        typesize: int | None = None,
        *,
        itemsize: int = 1,
    ) -> None:
        if not 0 <= clevel <= 9:
            raise ValueError(f"clevel {clevel} is not between 0 and 9")
        typesize = typesize or itemsize
        shuffles = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}
        if shuffle is None:
            shuffle = 1 if typesize > 1 else 2  # the default of Zarr's blosc codec
        if isinstance(shuffle, str):
            if shuffle not in shuffles:
                raise ValueError(f"shuffle {shuffle!r} is none of {', '.join(shuffles)}")
            shuffle = shuffles[shuffle]
        # c-blosc keeps the type size in one byte and treats larger ones as 1.
        typesize = typesize if typesize <= 255 else 1
        self._codec = Blosc(cname=cname, clevel=clevel, shuffle=shuffle, blocksize=blocksize, typesize=typesize)
        self._codec.encode(b"\0")  # numcodecs looks a compressor's name up only now

    def encode(self, data: BytesLike | npt.NDArray[Any]) -> bytes:
        return bytes(self._codec.encode(data))

    def decode(self, data: BytesLike, size: int, exact: bool, out: Output | None = None) -> BytesLike:
        if len(data) < 16:
            raise CorruptionError("blosc data that ends within its header")
        stated, block, stored = struct.unpack_from("<III", data, 4)
        if stored != len(data) or block > max(stated, 1) or data[3] == 0:
            raise CorruptionError("damaged blosc header")
        _check_size("blosc", stated, data, size, exact)
        if stated == 0:
            return b""  # numcodecs refuses to decode what it encoded from nothing
        return _run("blosc", self._codec.decode, data, out)


class _LZ4:
    """numcodecs' own framing: u32 size, then one LZ4 block."""

    def __init__(self, acceleration: int = 1) -> None:
        self._codec = numcodecs.get_codec({"id": "lz4", "acceleration": acceleration})

    def encode(self, data: BytesLike | npt.NDArray[Any]) -> bytes:
        return bytes(self._codec.encode(data))

    def decode(self, data: BytesLike, size: int, exact: bool, out: Output | None = None) -> BytesLike:
        if len(data) < 4:
            raise CorruptionError("lz4 data that ends within its header")
        (stated,) = struct.unpack_from("<I", data)
        _check_size("lz4", stated, data, size, exact)
        return _run("lz4", self._codec.decode, data, out) if stated else b""


class _Decompressor(Protocol):
    """The interface that zlib, bz2 and lzma decompressors share."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: BytesLike, max_length: int, /) -> bytes: ...


class _Stream:
    """A compressor of the standard library, which stops by itself when its output is full."""

    def __init__(
        self, name: str, encode: Callable[[Any], bytes], start: Callable[[], _Decompressor], *, members: bool = True
    ) -> None:
        self._name = name
        self._encode = encode
        self._start = start
        self._members = members

    def encode(self, data: BytesLike | npt.NDArray[Any]) -> bytes:
        return self._encode(data)

    def decode(self, data: BytesLike, size: int, exact: bool, out: Output | None = None) -> BytesLike:
        if exact and size > len(data) * _MAX_RATIO:
            raise CorruptionError(
                f"{len(data):,} bytes of {self._name} data cannot hold the {size:,} bytes of the chunk"
            )
        parts: list[bytes] = []
        total = 0
        rest: BytesLike = data
        try:
            while rest or not parts:
                stream = self._start()
                # One byte more than may come shows an output that is too long.
                part = stream.decompress(rest, size - total + 1)
                total += len(part)
                parts.append(part)
                if total > size:
                    raise CorruptionError(f"{self._name} data of more than the {size:,} bytes that the chunk has")
                if not stream.eof:
                    raise CorruptionError(f"{self._name} data that ends early")
                rest = stream.unused_data if self._members else b""
        except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
            if isinstance(error, CorruptionError):
                raise
            raise CorruptionError(f"damaged {self._name} data: {error}") from error
        if exact and total != size:
            raise CorruptionError(f"{self._name} data of {total:,} bytes, but the chunk has {size:,}")
        result = parts[0] if len(parts) == 1 else b"".join(parts)
        if out is not None:
            out[:] = np.frombuffer(result, dtype=np.uint8)
            return out.data
        return result


def _zlib(name: str, level: int, wbits: int) -> _Stream:
    if not -1 <= level <= 9:
        raise ValueError(f"level {level} is not between 0 and 9")

    def encode(data: Any) -> bytes:
        # zlib writes no time into a gzip header, so equal chunks have equal bytes.
        packer = zlib.compressobj(level, zlib.DEFLATED, wbits)
        return packer.compress(data) + packer.flush()

    return _Stream(name, encode, lambda: zlib.decompressobj(wbits))


def _gzip(level: int = 5) -> _Stream:
    return _zlib("gzip", level, 31)


def _plain_zlib(level: int = 1) -> _Stream:
    return _zlib("zlib", level, 15)


def _bz2(level: int = 1) -> _Stream:
    if not 1 <= level <= 9:
        raise ValueError(f"level {level} is not between 1 and 9")
    return _Stream("bz2", lambda data: bz2.compress(data, level), bz2.BZ2Decompressor)


def _lzma(format: int = 1, check: int = -1, preset: int | None = None, filters: Any = None) -> _Stream:  # noqa: A002, RUF100 - numcodecs' names
    raw = format == lzma.FORMAT_RAW
    for each in filters or ():
        if isinstance(each, dict) and each.get("dict_size", 0) > _LZMA_DICTIONARY:
            raise ValueError(f"a dictionary of {each['dict_size']:,} bytes; {_LZMA_DICTIONARY:,} is the most")

    def encode(data: Any) -> bytes:
        return lzma.compress(data, format=format, check=check, preset=preset, filters=filters)

    def start() -> _Decompressor:
        # A header can ask for a dictionary of 4 GiB.
        return lzma.LZMADecompressor(
            format=format, memlimit=None if raw else _LZMA_MEMORY, filters=filters if raw else None
        )

    encode(b"")  # shows a bad configuration now
    return _Stream("lzma", encode, start, members=not raw)


_FACTORIES: Final[Mapping[str, Callable[..., Compressor]]] = {
    "zstd": _Zstd,
    "blosc": _Blosc,
    "gzip": _gzip,
    "numcodecs.zstd": _Zstd,
    "numcodecs.blosc": _Blosc,
    "numcodecs.gzip": _gzip,
    "numcodecs.zlib": _plain_zlib,
    "numcodecs.bz2": _bz2,
    "numcodecs.lzma": _lzma,
    "numcodecs.lz4": _LZ4,
}


def is_compressor(name: str) -> bool:
    """Tell whether a Zarr v3 codec of this name is one of ours."""
    return name in _FACTORIES


def compressor(name: str, configuration: Mapping[str, Any], itemsize: int) -> Compressor | None:
    """Return the compressor of a Zarr v3 codec, ``None`` where the name is not one of ours.

    Parameters
    ----------
    name : str
    configuration : mapping
        As in ``zarr.json``.
    itemsize : int
        Bytes of an element, by which blosc shuffles where its configuration leaves that open.

    Raises
    ------
    ValueError, TypeError
        A configuration that this codec does not have.
    """
    if name not in _FACTORIES:
        return None
    return _make(name, json.dumps(configuration, sort_keys=True), itemsize if name.endswith("blosc") else 1)


@lru_cache(maxsize=256)
def _make(name: str, configuration: str, itemsize: int) -> Compressor:
    options = json.loads(configuration)
    options.pop("id", None)
    factory = _FACTORIES[name]
    try:
        if factory is _Blosc:
            return _Blosc(**options, itemsize=itemsize)
        return factory(**options)
    except (RuntimeError, OverflowError, lzma.LZMAError) as error:
        raise ValueError(str(error)) from error
