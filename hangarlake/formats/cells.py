"""Single values as text, and back: what stands in the cells of a table."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from hangarlake.errors import SchemaError
from hangarlake.formats.plain import refuse_constant

if TYPE_CHECKING:
    from hangarlake.columns.column import Column

__all__ = ["Parser", "cell_text", "kind_of", "parser_of"]

# Text to the value that a column takes.
Parser: TypeAlias = Callable[[str], Any]

# What is a number where nothing says so: not 007, which is a code, and not 1_000.
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|nan|-?inf", re.IGNORECASE)
# What a number may be where one is wanted.
_WANTED_INTEGER = re.compile(r"[+-]?[0-9]+")
_WORDS = {"true": True, "false": False, "1": True, "0": False}
_RELATIVE_TIMES = frozenset({"now", "today"})


def parser_of(name: str, column: Column, *, whole: bool) -> Parser:
    """Return what makes values for a column.

    Parameters
    ----------
    name : str
        Of the column, for messages.
    whole : bool
        Whether values are whole rows or documents rather than texts; only columns of JSON take those.

    Raises
    ------
    SchemaError
        The column takes no such values.
    """
    if column.kind == "json":
        return _json
    if whole:
        raise SchemaError(
            f"the column {name!r} holds {column.kind} values, not whole rows: say which with --value-column"
        )
    if column.kind == "str":
        return str
    if column.kind != "ndarray" or column.shape != () or column.dtype is None:
        held = f"arrays of shape {column.shape}" if column.kind == "ndarray" else f"{column.kind} values"
        raise SchemaError(f"the column {name!r} holds {held}, and the cell of a table is a single value or text")
    return _parser_of_dtype(column.dtype)


def kind_of(texts: Iterable[str]) -> Parser:
    """Return what makes values of texts for which no column is there: int64 if all are whole numbers, else float64 if all are numbers,
    else text.
    """
    integers = numbers = True
    for text in texts:
        integers = integers and _is_integer(text)
        numbers = numbers and _is_real(text)
        if not integers and not numbers:
            return str
    return _parser_of_dtype(np.dtype(np.int64 if integers else np.float64))


def _is_integer(text: str) -> bool:
    return bool(_INTEGER.fullmatch(text)) and len(text) <= 20 and -(2**63) <= int(text) < 2**63


def _is_real(text: str) -> bool:
    """Tell whether a text is a number, and float64 loses no digit of it if it is a whole one."""
    if not _INTEGER.fullmatch(text):
        return bool(_NUMBER.fullmatch(text))
    return len(text) <= 20 and int(float(text)) == int(text)


def cell_text(value: Any) -> str:
    """Return a single value as text from which :func:`parser_of` makes the same value."""
    if isinstance(value, str):
        return value
    scalar = np.asarray(value)[()]
    if isinstance(scalar, np.bool_):
        return "true" if scalar else "false"
    if isinstance(scalar, np.timedelta64):
        return str(scalar.astype(np.int64)) if not np.isnat(scalar) else "NaT"
    if isinstance(scalar, bytes):
        raise SchemaError("a table holds text, and these are bytes; export the column in another format")
    return str(scalar)


def _parser_of_dtype(dtype: np.dtype[Any]) -> Parser:
    makers: dict[str, Callable[[str, np.dtype[Any]], Any]] = {
        "b": _boolean,
        "i": _integer,
        "u": _integer,
        "f": _real,
        "c": _complex,
        "M": _time,
        "m": _duration,
        "U": _text,
    }
    make = makers.get(dtype.kind)
    if make is None:
        raise SchemaError(f"the cells of a table cannot become values of dtype {dtype}")

    def parse(text: str) -> Any:
        try:
            return np.asarray(make(text, dtype), dtype)
        except (ValueError, TypeError, OverflowError) as error:
            raise SchemaError(f"{text!r} is no {dtype}") from error

    return parse


def _boolean(text: str, _: np.dtype[Any]) -> bool:
    try:
        return _WORDS[text.strip().lower()]
    except KeyError:
        raise ValueError from None


def _integer(text: str, dtype: np.dtype[Any]) -> int:
    bounds = np.iinfo(dtype)
    if not _WANTED_INTEGER.fullmatch(text.strip()) or not bounds.min <= int(text) <= bounds.max:
        raise ValueError
    return int(text)


def _real(text: str, dtype: np.dtype[Any]) -> Any:
    if "_" in text:
        raise ValueError
    number = float(text)
    with np.errstate(over="ignore"):
        value = dtype.type(number)
    # A number that is out of bounds becomes infinite, in Python as in NumPy.
    if np.isinf(value) and "inf" not in text.lower():
        raise ValueError
    return value


def _complex(text: str, dtype: np.dtype[Any]) -> Any:
    if "_" in text:
        raise ValueError
    with np.errstate(over="ignore"):
        value = dtype.type(complex(text.strip()))
    if np.isinf(value) and "inf" not in text.lower():
        raise ValueError
    return value


def _time(text: str, dtype: np.dtype[Any]) -> Any:
    if not text.strip() or text.strip().lower() in _RELATIVE_TIMES:
        raise ValueError
    exact = np.datetime64(text.strip())
    value = exact.astype(dtype)
    # Neither cut to a coarser unit, nor beyond what a finer one reaches.
    if not np.isnat(exact) and value.astype(exact.dtype) != exact:
        raise ValueError
    return value


def _duration(text: str, dtype: np.dtype[Any]) -> Any:
    if text.strip().lower() == "nat":
        return np.timedelta64("NaT").astype(dtype)
    return np.int64(_integer(text, np.dtype(np.int64))).astype(dtype)


def _text(text: str, dtype: np.dtype[Any]) -> str:
    # NumPy drops NULs from the end, and what is too long.
    if len(text) > dtype.itemsize // 4 or text.endswith("\0"):
        raise ValueError
    return text


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"{text[:40]!r} is not JSON") from error
