"""What a sample may be: checking values against a column's schema, and turning stored elements back into values.

A sample is stored as a flat run of elements: an ndarray in C order, or the bytes of a ``str``, ``bytes`` or ``json`` value.
Values are stored exactly or refused; nothing is cast silently.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hangarlake.chunks.digests import bytes_digest, canonical_dtype, ndarray_digest
from hangarlake.errors import SchemaError
from hangarlake.records.canonical import canonical_json
from hangarlake.records.catalog import ColumnSchema

__all__ = [
    "MAX_RANK",
    "Sample",
    "check_block",
    "check_block_kind",
    "check_sample",
    "describe",
    "digest_of",
    "restore",
    "schema_of",
]

Sample: TypeAlias = npt.NDArray[Any]

MAX_RANK = 32
# Characters of a text that an error shows.
_SHOWN = 40


def schema_of(
    name: str,
    shape: Sequence[int | None] | int | None,
    dtype: npt.DTypeLike | None,
    prototype: Any,
    *,
    variable_shape: bool,
    nested: bool,
) -> ColumnSchema:
    """Build the schema of an ndarray column from what a person declares.

    Raises
    ------
    SchemaError
        If shape and dtype are missing, contradict the prototype, or cannot be stored.
    """
    if prototype is not None:
        if shape is not None or dtype is not None:
            raise SchemaError(f"column {name!r}: give either a prototype or shape and dtype, not both")
        prototype = np.asarray(prototype)
        shape, dtype = prototype.shape, prototype.dtype
    if shape is None or dtype is None:
        raise SchemaError(f"column {name!r} needs shape and dtype (or a prototype array to take them from)")
    dimensions = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
    if len(dimensions) > MAX_RANK:
        raise SchemaError(f"column {name!r} would have {len(dimensions)} dimensions; the limit is {MAX_RANK}")
    checked: list[int | None] = []
    for n in dimensions:
        if n is None and variable_shape:
            checked.append(None)
        elif isinstance(n, int | np.integer) and not isinstance(n, bool) and 0 <= int(n) < 1 << 62:
            checked.append(int(n))
        else:
            hint = "; None (unbounded) needs variable_shape=True" if n is None else ""
            raise SchemaError(f"column {name!r}: {n!r} is not a length of a dimension{hint}")
    token = canonical_dtype(dtype).str
    return ColumnSchema("ndarray", token, tuple(checked), variable_shape, nested)


def describe(schema: ColumnSchema) -> str:
    """Say in a few words what samples look like."""
    if schema.kind != "ndarray":
        return schema.kind
    shape = (
        "("
        + ", ".join("any" if n is None else str(n) for n in schema.shape)
        + ("," if len(schema.shape) == 1 else "")
        + ")"
    )
    return f"{'up to ' if schema.variable_shape else ''}{shape} {np.dtype(schema.dtype)}"


def _refuse(name: str, key: object, expected: str, given: str, remedy: str = "convert the value first") -> SchemaError:
    where = f"column {name!r}" + (f", key {key!r}" if key is not None else "")
    return SchemaError(f"{where}: expected {expected}, given {given}; {remedy}, nothing was staged")


def check_sample(name: str, schema: ColumnSchema, key: object, value: Any) -> Sample:
    """Return `value` as the elements to store: C-contiguous, little-endian, with the sample's own shape.

    The result may share memory with `value`.

    Raises
    ------
    SchemaError
        Naming column, key, what was expected and what was given.
    """
    if schema.kind == "ndarray":
        return _check_ndarray(name, schema, key, value)
    if schema.kind == "str":
        if not isinstance(value, str):
            raise _refuse(name, key, "str", type(value).__name__)
        try:
            data = value.encode()
        except UnicodeEncodeError:
            raise _refuse(name, key, "valid Unicode", "a str with a lone surrogate") from None
    elif schema.kind == "bytes":
        if not isinstance(value, bytes | bytearray | memoryview):
            raise _refuse(name, key, "bytes", type(value).__name__)
        data = bytes(value)
    else:
        data = _check_json(name, key, value)
    return np.frombuffer(data, np.uint8)


def _check_json(name: str, key: object, value: Any) -> bytes:
    try:
        data = canonical_json(value)
        same = bool(json.loads(data) == value)
    except ValueError as error:
        raise _refuse(name, key, "a JSON value", str(error)) from error
    if not same:
        raise _refuse(name, key, "a JSON value", "something that JSON would change (a tuple becomes a list, say)")
    return data


def _is_masked(value: Any) -> bool:
    return isinstance(value, np.ma.MaskedArray) and value.mask is not np.ma.nomask and bool(value.mask.any())


def _check_ndarray(name: str, schema: ColumnSchema, key: object, value: Any) -> Sample:
    dtype = schema.np_dtype
    if _is_masked(value):
        raise _refuse(name, key, describe(schema), "a masked array, whose mask would be lost")
    if isinstance(value, bool | int | float | complex) and not isinstance(value, np.generic):
        array = _check_scalar(name, schema, key, value)
    else:
        try:
            array = np.asarray(value)
        except (ValueError, TypeError) as error:
            raise _refuse(name, key, describe(schema), f"{type(value).__name__} ({error})") from error
    given = array.dtype
    if given != dtype and given.newbyteorder("<") != dtype:
        wider = given.kind == dtype.kind and given.kind in "SU" and given.itemsize <= dtype.itemsize
        if not wider:
            raise _refuse(name, key, describe(schema), _described(value, array))
    _check_shape(name, schema, key, array.shape, given)
    if isinstance(value, list | tuple | str | bytes):
        _check_made(name, schema, key, value, array)
    return _plain_bools(np.ascontiguousarray(array, dtype=dtype).reshape(array.shape))


def _plain_bools(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Make every true element the byte 1: a view of other memory may hold other bytes, and would be equal but digest differently."""
    if array.dtype.kind != "b" or not array.size or array.reshape(-1).view(np.uint8).max() <= 1:
        return array
    return np.asarray(array.reshape(-1).view(np.uint8) != 0).reshape(array.shape)


def _check_made(name: str, schema: ColumnSchema, key: object, value: Any, array: npt.NDArray[Any]) -> None:
    """Refuse what NumPy changed when it made an array of Python values: numbers made text, rounded, truth made numbers."""
    if array.dtype.kind not in "biufcSU":
        return
    try:
        before = np.asarray(value, object)
    except ValueError:
        return
    for old, new in zip(before.flat, array.astype(object).flat, strict=False):
        if isinstance(old, str | bytes) and old[-1:] in ("\0", b"\0"):
            raise _refuse(name, key, describe(schema), f"{old!r}, which ends in a NUL that NumPy would drop")
        same = isinstance(old, bool | np.bool_) == isinstance(new, bool) and (old == new or old != old)
        if not same:
            raise _refuse(name, key, describe(schema), f"{old!r}, of which NumPy makes {new!r}")


def _check_scalar(name: str, schema: ColumnSchema, key: object, value: Any) -> npt.NDArray[Any]:
    """Take a Python number into a 0-d sample of its own kind if it is exact, as NumPy's weak scalars are taken."""
    dtype = schema.np_dtype
    kinds = {bool: "b", int: "iu", float: "f", complex: "c"}[
        type(value) if type(value) in (bool, int, float) else complex
    ]
    if dtype.kind in kinds:
        try:
            with np.errstate(over="ignore"):
                array = np.array(value, dtype)
        except OverflowError:
            array = None
        if array is not None and (array.item() == value or value != value):
            return array
    raise _refuse(name, key, describe(schema), f"the Python {type(value).__name__} {value!r}")


def _described(value: Any, array: npt.NDArray[Any]) -> str:
    """Say what was given in the words of whoever gave it."""
    if value is None:
        return "None"
    if isinstance(value, str | bytes):
        shown = repr(value)
        return f"the {'text' if isinstance(value, str) else 'bytes'} {shown if len(shown) <= _SHOWN else shown[:_SHOWN] + '…'}"
    if array.dtype.kind == "O" and not isinstance(value, list | tuple | np.ndarray):
        return f"a {type(value).__name__}"
    return f"{_shape_text(array.shape)} {array.dtype}"


def _shape_text(shape: tuple[int, ...]) -> str:
    return str(tuple(int(n) for n in shape))


def _check_shape(name: str, schema: ColumnSchema, key: object, shape: tuple[int, ...], dtype: Any) -> None:
    # Every sample comes here: nothing is put into words before something is wrong.
    rank = len(schema.shape)
    expected = remedy = None
    if schema.variable_shape:
        if len(shape) != rank:
            expected = f"{rank} dimension{'s' if rank != 1 else ''}"
        elif not all(most is None or n <= most for n, most in zip(shape, schema.shape, strict=True)):
            expected = describe(schema)
    elif shape != schema.shape:
        expected = describe(schema)
        if rank and len(shape) == rank:
            remedy = "give the column variable_shape=True to take samples of different sizes"
    if expected is not None:
        raise _refuse(name, key, expected, f"{_shape_text(shape)} {dtype}", remedy or "convert the value first")


def check_block_kind(name: str, schema: ColumnSchema, key: object, values: npt.NDArray[Any]) -> None:
    """Check what an array of many samples says of itself: dtype and shape (n, *sample shape). `key` is the first one's.

    Raises
    ------
    SchemaError
    """
    given = values.dtype
    dtype = schema.np_dtype
    if given != dtype and given.newbyteorder("<") != dtype:
        wider = given.kind == dtype.kind and given.kind in "SU" and given.itemsize <= dtype.itemsize
        if not wider:
            raise _refuse(name, key, f"samples of {describe(schema)}", f"an array {_shape_text(values.shape)} {given}")
    _check_shape(name, schema, key, values.shape[1:], given)


def check_block(name: str, schema: ColumnSchema, key: object, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Check an array of many samples of one shape, shape (n, *sample shape); the whole block or nothing. `key` is the first one's.

    Raises
    ------
    SchemaError
    """
    check_block_kind(name, schema, key, values)
    if _is_masked(values):
        raise _refuse(name, key, describe(schema), "a masked array, whose mask would be lost")
    return _plain_bools(np.ascontiguousarray(values, dtype=schema.np_dtype).reshape(values.shape))


def digest_of(schema: ColumnSchema, sample: Sample) -> bytes:
    """Return the value digest (format §4) of a checked sample."""
    if schema.kind == "ndarray":
        return ndarray_digest(sample)
    return bytes_digest(schema.kind, sample.data)


def restore(schema: ColumnSchema, elements: npt.NDArray[Any]) -> Any:
    """Turn the stored elements of one sample, in its shape, into the value that a person gets; it shares no memory."""
    kind = schema.kind
    if kind == "ndarray":
        return elements.copy()
    data = elements.tobytes()
    if kind == "str":
        return data.decode()
    if kind == "bytes":
        return data
    return json.loads(data)
