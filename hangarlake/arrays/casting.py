"""What an array takes: values that it holds exactly, and numbers that floats are rounded to."""

from __future__ import annotations

from numbers import Number
from typing import Any

import numpy as np
import numpy.typing as npt

from hangarlake.errors import SchemaError

__all__ = ["cast", "checked_fill_value"]

# What is cast here; anything else is cast, or refused, by zarr. T: text of any length, which is not stored as NumPy has it.
_OWN_KINDS = "biufcmMSUT"
# dtypes that may be given, by kind of the array; of text and times only what keeps every character and every tick.
_TAKEN = {
    "b": "biuf",
    "i": "biuf",
    "u": "biuf",
    "f": "biuf",
    "c": "biufc",
    "m": "im",
    "M": "M",
    "S": "S",
    "U": "U",
    "T": "UT",
}


def cast(name: str, value: Any, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return values as an array of a data type.

    Integers and booleans are taken if they are exactly in the data type, whatever they come as (``3.0``); numbers become floats and
    complex numbers as NumPy rounds them; times change their unit if that is exact; text is never cut.

    Parameters
    ----------
    name : str
        Of the array, for messages.
    value : array-like
    dtype : numpy.dtype
        Of the array.

    Raises
    ------
    SchemaError
        Naming the array, a value that it cannot hold, and its data type.
    """
    given = value if type(value) is np.ndarray else _made(name, value, dtype)
    if given.dtype == dtype:
        return given
    kind = dtype.kind
    if kind not in _OWN_KINDS:
        return given
    if not given.size:
        return np.empty(given.shape, dtype)
    if given.dtype.kind == "O":
        return _of_objects(name, given, dtype)
    if kind == "M" and given.dtype.kind in "SU":
        given = _times(name, given, dtype)
    if given.dtype.kind not in _TAKEN[kind]:
        raise _refused(name, given.flat[0], dtype)
    if kind in "biu":
        _check_whole(name, given, dtype)
    elif kind in "mMSU":  # of text of any length nothing is cut
        return _same_kind(name, given, dtype)
    return given.astype(dtype)


def checked_fill_value(name: str, value: Any, dtype: npt.DTypeLike) -> Any:
    """Return a fill value as zarr takes it; 0, which is the default, is the empty text where there is text.

    Raises
    ------
    SchemaError
        If zarr would change it: a number that an array of integers or booleans does not hold, or text that would be cut.
    """
    try:
        native = np.dtype(dtype)
    except TypeError:
        return value  # a dtype of zarr's own
    if native.kind in "SUT" and isinstance(value, int) and value == 0:
        return None  # zarr's own default
    if native.kind in "biuSUT" and value is not None:
        try:
            cast(name, value, native)
        except SchemaError as error:
            raise SchemaError(
                f"array {name!r} of {native} cannot have the fill value {value!r:.80}, which it does not hold exactly"
            ) from error
    return value


def _refused(name: str, value: Any, dtype: np.dtype[Any]) -> SchemaError:
    shown = value.item() if isinstance(value, np.generic) and value.dtype.kind in "biufcSU" else value
    text = str(shown) if isinstance(shown, np.datetime64 | np.timedelta64) else f"{shown!r:.80}"
    return SchemaError(
        f"array {name!r} of {dtype} cannot hold {text} exactly; convert the values first, nothing was staged"
    )


def _made(name: str, value: Any, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Make an array of whatever was given, without letting NumPy change Python's numbers and text on the way."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise SchemaError(
            f"array {name!r}: the mask of a masked array would be lost; give values.filled(…) instead, nothing was staged"
        )
    try:
        made = np.asarray(value)
        if hasattr(value, "dtype") or isinstance(value, bool | int | float | complex):
            return made
        # A list of large and of fractional numbers has become floats, one of numbers and text has become text.
        mixed = dtype.kind in "biu" and made.dtype.kind not in "biu"
        mixed = mixed or made.dtype.kind in "SU" or (dtype.kind in "mM" and made.dtype.kind != dtype.kind)
        return np.asarray(value, object) if mixed and dtype.kind in _OWN_KINDS and made.size else made
    except ValueError as error:
        raise SchemaError(f"array {name!r} of {dtype}: {error}; nothing was staged") from error


def _of_objects(name: str, given: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Cast Python objects; what comes of them has to equal them (or, in floats, to be the nearest there is)."""
    kind = dtype.kind
    if kind in "mM":
        return _same_kind(name, _times(name, given, dtype), dtype)
    wanted: Any = {"S": bytes, "U": str, "T": str}.get(kind, Number)
    unwanted: Any = () if kind == "c" else (complex, np.complexfloating)
    for each in given.flat:
        if not isinstance(each, wanted) or isinstance(each, unwanted):
            raise _refused(name, each, dtype)
    out = _all_cast(given, dtype)
    if out is None:
        culprits = (each for each in given.flat if _all_cast(np.array([each], object), dtype) is None)
        raise _refused(name, next(culprits), dtype)
    return out


def _all_cast(given: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any] | None:
    try:
        out = given.astype(dtype)
    except (ValueError, TypeError, OverflowError):
        return None
    return out if dtype.kind in "fc" or bool((out.astype(object) == given).all()) else None


def _times(name: str, given: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Read text, and Python's dates and times, in the unit that they are written in."""
    try:
        return np.asarray(given.tolist(), dtype.kind)
    except (ValueError, TypeError, OverflowError):
        raise _refused(name, given.flat[0], dtype) from None


def _check_whole(name: str, given: npt.NDArray[Any], dtype: np.dtype[Any]) -> None:
    """Refuse numbers that a data type of integers or booleans does not have."""
    if given.dtype.kind in "biu" and np.can_cast(given.dtype, dtype):
        return
    low, high = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    if given.dtype.kind == "f":
        # Both bounds are powers of two, so that doubles have them; NaN is neither whole nor within.
        fits = (given >= np.float64(low)) & (given < np.float64(high + 1)) & (np.trunc(given) == given)
    elif low <= int(given.min()) and int(given.max()) <= high:
        return
    else:
        fits = (given >= low) & (given <= high)
    if not fits.all():
        raise _refused(name, given[~fits].flat[0], dtype)


def _same_kind(name: str, given: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Change the unit of times, or the width of text, where nothing is lost."""
    changed = np.ones(given.shape, np.bool_)
    if np.can_cast(given.dtype, dtype, "same_kind"):
        out = given.astype(dtype)
        back = out.astype(given.dtype)
        # NaT differs from itself, but not as a number.
        changed = back.view("i8") != given.view("i8") if given.dtype.kind in "mM" else back != given
        if not changed.any():
            return out
    raise _refused(name, given[changed].flat[0], dtype)
