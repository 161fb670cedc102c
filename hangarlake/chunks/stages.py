"""A codec list taken apart into synchronous steps: one between array and bytes, then compressors and checksums.

What this package knows natively (``bytes``, ``sharding_indexed``, the compressors of
:mod:`~hangarlake.chunks.compressors`) never touches zarr. Every other codec that is registered with zarr-python is used
through zarr's own codec objects; zarr is imported only then.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import threading
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from hangarlake.chunks.compressors import Compressor, compressor, is_compressor
from hangarlake.errors import CorruptionError, SchemaError, UnsupportedFormatError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hangarlake.chunks.digests import BytesLike
    from hangarlake.chunks.encodings import Codec

__all__ = ["ArrayStep", "BytesStep", "Plan", "Target", "make_plan"]

# Compressors add a little to what they cannot compress; what a stack of them passes on is never longer than this.
_SLACK: Final = 1 << 16

# warnings.catch_warnings changes state of the whole process.
_warnings_lock = threading.Lock()


def _after_fork() -> None:
    # Another thread of the parent may have held it.
    global _warnings_lock
    _warnings_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@dataclass(frozen=True, slots=True)
class Target:
    """The array that a chunk decodes to: canonical dtype and shape, and what a shard's absent parts hold."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fill: bytes | None = None

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class ArrayStep(Protocol):
    """The array → bytes part of a codec list."""

    def encoded_size(self, target: Target) -> int | None:
        """Return the bytes that an array of this kind takes, ``None`` where that depends on its values."""

    def encode(self, array: npt.NDArray[Any], target: Target) -> BytesLike: ...

    def decode(self, data: BytesLike, target: Target) -> npt.NDArray[Any]: ...


class BytesStep(Protocol):
    """A bytes → bytes part of a codec list."""

    def encoded_size(self, size: int) -> int | None: ...

    def encode(self, data: BytesLike) -> BytesLike: ...

    def decode(self, data: BytesLike, size: int, exact: bool) -> BytesLike: ...


@dataclass(frozen=True, slots=True)
class _Compress:
    codec: Compressor

    def encoded_size(self, size: int) -> int | None:  # noqa: ARG002 - it depends on the data alone
        return None

    def encode(self, data: BytesLike) -> BytesLike:
        return self.codec.encode(data)

    def decode(self, data: BytesLike, size: int, exact: bool) -> BytesLike:
        return self.codec.decode(data, size, exact)


@dataclass(frozen=True, slots=True)
class _Bytes:
    """The ``bytes`` codec: elements in C order. Also for dtypes that Zarr has no name for."""

    order: Literal["<", ">"]

    def encoded_size(self, target: Target) -> int | None:
        return target.nbytes

    def encode(self, array: npt.NDArray[Any], target: Target) -> BytesLike:
        stored = np.ascontiguousarray(array, dtype=target.dtype.newbyteorder(self.order))
        return stored.reshape(-1).view(np.uint8).data

    def decode(self, data: BytesLike, target: Target) -> npt.NDArray[Any]:
        stored = np.frombuffer(data, dtype=target.dtype.newbyteorder(self.order)).reshape(target.shape)
        return stored.astype(target.dtype, copy=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """A codec list, ready to use on arrays of one item size.

    Attributes
    ----------
    array_step, bytes_steps
        In the order of encoding.
    direct : bool
        The array step is the little-endian ``bytes`` codec: the bytes are the array.
    only : Compressor or None
        The one compressor of a direct plan with one step, the case that has to be fast.
    """

    array_step: ArrayStep
    bytes_steps: tuple[BytesStep, ...]
    direct: bool
    only: Compressor | None

    def encoded_size(self, target: Target) -> int | None:
        """Return the encoded size of an array, ``None`` where it depends on the values."""
        size = self.array_step.encoded_size(target)
        for step in self.bytes_steps:
            if size is None:
                return None
            size = step.encoded_size(size)
        return size

    def encode(self, array: npt.NDArray[Any], target: Target) -> bytes:
        """Encode an array that has the target's dtype and shape."""
        data = self.array_step.encode(array, target)
        for step in self.bytes_steps:
            data = step.encode(data)
        return bytes(data)

    def decode(self, data: BytesLike, target: Target) -> npt.NDArray[Any]:
        """Decode; each step is told the size of its result, or a bound of it."""
        size = self.array_step.encoded_size(target)
        exact = size is not None
        known = size if size is not None else _bound(target.nbytes)
        sizes = [(known, exact)]
        for step in self.bytes_steps:
            after = step.encoded_size(known) if exact else None
            exact = after is not None
            known = after if after is not None else _bound(known)
            sizes.append((known, exact))
        for step, (size, exact) in zip(reversed(self.bytes_steps), reversed(sizes[:-1]), strict=True):
            data = step.decode(data, size, exact)
        size, exact = sizes[0]
        if (len(data) != size) if exact else (len(data) > size):
            raise CorruptionError(
                f"{len(data):,} bytes decoded, but the chunk has {'' if exact else 'at most '}{size:,}"
            )
        array = self.array_step.decode(data, target)
        if array.shape != target.shape or array.dtype != target.dtype:
            raise CorruptionError(
                f"decoded to {array.dtype} of shape {array.shape}, "
                f"but the chunk is {target.dtype} of shape {target.shape}"
            )
        return array


def _bound(size: int) -> int:
    return size + size // 4 + _SLACK


@lru_cache(maxsize=256)
def make_plan(text: str, itemsize: int) -> Plan:
    """Return the plan of a codec list.

    Parameters
    ----------
    text : str
        Canonical JSON of the list (from an :class:`~hangarlake.chunks.Encoding`).
    itemsize : int
        Bytes of an element.

    Raises
    ------
    UnsupportedFormatError
        A codec that neither this package nor the installed zarr knows, or an order of codecs that means nothing.
    """
    codecs: list[Codec] = json.loads(text)
    steps: list[BytesStep] = []
    while codecs:
        name, configuration = codecs[-1]["name"], codecs[-1].get("configuration", {})
        step = _bytes_step(name, configuration, itemsize)
        if step is None:
            break
        steps.insert(0, step)
        codecs.pop()
    if not codecs:
        raise UnsupportedFormatError(f"the codec list {text:.200} has no codec from array to bytes, such as 'bytes'")
    array_step = _array_step(codecs)
    direct = isinstance(array_step, _Bytes) and array_step.order == "<"
    only = steps[0].codec if direct and len(steps) == 1 and isinstance(steps[0], _Compress) else None
    return Plan(array_step, tuple(steps), direct, only)


def _bytes_step(name: str, configuration: Mapping[str, Any], itemsize: int) -> BytesStep | None:
    try:
        native = compressor(name, configuration, itemsize)
    except (ValueError, TypeError) as error:
        raise UnsupportedFormatError(
            f"codec {name!r} cannot be configured as {dict(configuration)!r:.200}: {error}"
        ) from error
    if native is not None:
        return _Compress(native)
    if name in ("bytes", "sharding_indexed", "transpose"):
        return None
    from zarr.abc.codec import BytesBytesCodec

    codec = _zarr_codec(name, configuration)
    return _ZarrBytes(codec) if isinstance(codec, BytesBytesCodec) else None


def _array_step(codecs: list[Codec]) -> ArrayStep:
    name, configuration = codecs[0]["name"], codecs[0].get("configuration", {})
    if len(codecs) == 1 and name == "bytes":
        endian = configuration.get("endian", "little")
        if set(configuration) - {"endian"} or endian not in ("little", "big"):
            raise UnsupportedFormatError(f"codec 'bytes' cannot be configured as {dict(configuration)!r:.200}")
        return _Bytes("<" if endian == "little" else ">")
    if len(codecs) == 1 and name == "sharding_indexed":
        from hangarlake.chunks.shards import Shards

        return Shards.from_configuration(configuration)
    for codec in codecs:
        if is_compressor(codec["name"]):
            raise UnsupportedFormatError(
                f"codec {codec['name']!r} is from bytes to bytes; its place is after the array → bytes codec"
            )
    return _ZarrArray(tuple(_zarr_codec(codec["name"], codec.get("configuration", {})) for codec in codecs))


# ---- codecs of zarr-python -----------------------------------------------------------------------


def _zarr_codec(name: str, configuration: Mapping[str, Any]) -> Any:
    """Return zarr's codec object of a name, without zarr's warning that other implementations may not have it."""
    if "pickle" in name.lower():
        raise UnsupportedFormatError(f"codec {name!r} would run code from the data; it is never used")
    if name.startswith("vlen-"):
        # Besides, its decoder takes as much memory as the first four bytes of the data ask for.
        raise UnsupportedFormatError(f"codec {name!r} makes Python objects, which no chunk holds; it is never used")
    from zarr.registry import get_codec_class

    try:
        with _warnings_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            codec = get_codec_class(name)
            value: dict[str, Any] = {"name": name}
            if configuration or name.startswith("numcodecs."):  # which insist on one, though it be empty
                value["configuration"] = dict(configuration)
            return codec.from_dict(value)
    except KeyError as error:
        raise UnsupportedFormatError(
            f"unknown codec {name!r}; install the package that registers it with zarr (entry point group zarr.codecs)"
            + (
                ", or zarr 3.1.3 or newer, which brings the codecs of numcodecs"
                if name.startswith("numcodecs.")
                else ""
            )
        ) from error
    except Exception as error:  # plugins raise what they like
        raise UnsupportedFormatError(
            f"codec {name!r} cannot be configured as {dict(configuration)!r:.200}: {error!r:.200}"
        ) from error


def _call(codec: Any, method: str, value: Any, spec: Any) -> Any:
    """Call a codec from any thread, whether an event loop runs in it or not."""
    direct = getattr(codec, f"_{method}_sync", None)
    if direct is not None:
        return direct(value, spec)
    from zarr.core.sync import _get_loop, sync

    async def call() -> Any:
        return next(iter(await getattr(codec, method)([(value, spec)])))

    if _running_loop() is not _get_loop():
        return sync(call())
    # This is zarr's own loop, which would wait for itself. A new thread, because those of a pool may be waiting for the loop.
    results: list[Any] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            results.append(asyncio.run(call()))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work, name="hangarlake-codec")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _unfit(codec: Any, error: Exception) -> SchemaError:
    return SchemaError(f"codec {type(codec).__name__} cannot encode the chunk: {error}; choose another encoding")


def _failed(codec: Any, error: Exception) -> CorruptionError:
    return CorruptionError(f"codec {type(codec).__name__} refuses the data: {error}")


def _proxy(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a dtype of equal bytes that Zarr v3 has: integers for times, opaque bytes for text."""
    if dtype.kind in "mM":
        return np.dtype("<i8")
    return np.dtype(f"V{dtype.itemsize}") if dtype.kind in "SU" else dtype


@lru_cache(maxsize=256)
def _spec(dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
    from zarr.core.array_spec import ArrayConfig, ArraySpec
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.dtype import get_data_type_from_native_dtype

    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data_type = get_data_type_from_native_dtype(_proxy(dtype))
    return ArraySpec(
        shape=shape,
        dtype=data_type,
        fill_value=data_type.default_scalar(),
        config=ArrayConfig(order="C", write_empty_chunks=True),
        prototype=default_buffer_prototype(),
    )


def _buffer(data: BytesLike) -> Any:
    from zarr.core.buffer import default_buffer_prototype

    return default_buffer_prototype().buffer.from_array_like(np.frombuffer(data, dtype=np.uint8))


@dataclass(frozen=True, slots=True)
class _ZarrBytes:
    codec: Any

    def encoded_size(self, size: int) -> int | None:
        try:
            return int(self.codec.compute_encoded_size(size, _spec(np.dtype("u1"), (size,))))
        except NotImplementedError:
            return None

    def encode(self, data: BytesLike) -> BytesLike:
        try:
            result = _call(self.codec, "encode", _buffer(data), _spec(np.dtype("u1"), (len(data),)))
        except Exception as error:  # plugins raise what they like
            raise _unfit(self.codec, error) from error
        return bytes(result.to_bytes())

    def decode(self, data: BytesLike, size: int, exact: bool) -> BytesLike:
        try:
            result = _call(self.codec, "decode", _buffer(data), _spec(np.dtype("u1"), (size,)))
            decoded = bytes(result.to_bytes())
        except Exception as error:  # plugins raise what they like
            raise _failed(self.codec, error) from error
        if (len(decoded) != size) if exact else (len(decoded) > size):
            raise CorruptionError(
                f"{len(decoded):,} bytes decoded, but the chunk has {'' if exact else 'at most '}{size:,}"
            )
        return decoded


class _ZarrArray:
    """Array → array codecs and one array → bytes codec, as zarr has them."""

    def __init__(self, codecs: tuple[Any, ...]) -> None:
        from zarr.abc.codec import ArrayArrayCodec, ArrayBytesCodec

        *filters, last = codecs
        if not isinstance(last, ArrayBytesCodec) or not all(isinstance(codec, ArrayArrayCodec) for codec in filters):
            names = ", ".join(type(codec).__name__ for codec in codecs)
            raise UnsupportedFormatError(
                f"codecs {names} in this order mean nothing; it is array → array, one array → bytes, bytes → bytes"
            )
        self._codecs = codecs
        self._evolved = lru_cache(maxsize=64)(self._evolve)

    def _evolve(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> list[tuple[Any, Any]]:
        spec = _spec(dtype, shape)
        steps = []
        for codec in self._codecs:
            try:
                evolved = codec.evolve_from_array_spec(spec)
                steps.append((evolved, spec))
                spec = evolved.resolve_metadata(spec)
            except Exception as error:  # plugins raise what they like
                raise UnsupportedFormatError(
                    f"codec {type(codec).__name__} cannot be applied to {dtype} of shape {shape}: {error!r:.200}"
                ) from error
        return steps

    def encoded_size(self, target: Target) -> int | None:
        size = target.nbytes
        try:
            for codec, spec in self._evolved(target.dtype, target.shape):
                size = int(codec.compute_encoded_size(size, spec))
        except NotImplementedError:
            return None
        return size

    def encode(self, array: npt.NDArray[Any], target: Target) -> BytesLike:
        value: Any = None
        for codec, spec in self._evolved(target.dtype, target.shape):
            if value is None:
                stored = np.ascontiguousarray(array, dtype=target.dtype).reshape(target.shape)
                value = spec.prototype.nd_buffer.from_numpy_array(stored.view(_proxy(target.dtype)))
            try:
                value = _call(codec, "encode", value, spec)
            except Exception as error:  # plugins raise what they like
                raise _unfit(codec, error) from error
        return bytes(value.to_bytes())

    def decode(self, data: BytesLike, target: Target) -> npt.NDArray[Any]:
        value = _buffer(data)
        codec: Any = None
        try:
            for codec, spec in reversed(self._evolved(target.dtype, target.shape)):
                value = _call(codec, "decode", value, spec)
            array = np.ascontiguousarray(value.as_numpy_array()).reshape(target.shape)
        except UnsupportedFormatError:
            raise
        except Exception as error:  # plugins raise what they like
            raise _failed(codec, error) from error
        proxy = _proxy(target.dtype)
        if array.dtype != proxy:
            array = array.astype(proxy) if array.dtype == proxy.newbyteorder() else array
        return array.view(target.dtype) if array.dtype == proxy else array
