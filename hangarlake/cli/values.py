"""One sample as text and as JSON."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np

__all__ = ["SMALL", "describe_value", "json_ready", "short_text", "value_to_dict"]

# Larger arrays show as a summary.
_PRINT_ELEMENTS = 1_000
#: Text of at most so many characters, and arrays of so many elements, are shown in a table.
SMALL = 40


def describe_value(value: Any) -> str:
    """Return a value as text for people; large arrays shortened."""
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        with np.printoptions(threshold=_PRINT_ELEMENTS, linewidth=120):
            return f"{array.dtype} {array.shape}\n{array}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes\n{value[:64]!r}{'…' if len(value) > 64 else ''}"
    if isinstance(value, str):
        return value
    return json.dumps(value, indent=2, ensure_ascii=False)


def value_to_dict(value: Any) -> dict[str, Any]:
    """Return a value, whole, as JSON-ready members."""
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        return {"dtype": str(array.dtype), "shape": list(array.shape), "value": json_ready(array)}
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode("ascii")}
    return {"value": value}


def json_ready(values: Any) -> Any:
    """Return an array or NumPy scalar as JSON has it: no complex numbers, times, bytes, or numbers that are none; these become text."""
    array = np.asarray(values)
    if array.dtype.kind in "biuU":
        return array.tolist()
    if array.dtype.kind == "f" and bool(np.isfinite(array).all()):
        return array.tolist()
    return np.array([str(each) for each in array.ravel()], dtype=object).reshape(array.shape).tolist()


def short_text(value: Any) -> str | None:
    """Return a value in a few words, in one line; ``None`` if it takes more, or is bytes."""
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        text = str(array[()]) if array.ndim == 0 else np.array2string(array, separator=", ", max_line_width=10_000)
    elif isinstance(value, str | int | float | bool | list | dict | None):
        text = json.dumps(value, ensure_ascii=False)
    else:
        return None
    return text if len(text) <= SMALL + 2 else None
