"""``zarr.json``: telling what it describes, and keeping it in a catalog exactly."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from hangarlake.errors import SchemaError, UnsupportedFormatError
from hangarlake.records.canonical import canonical_json
from hangarlake.records.catalog import ArrayNode, GroupNode

__all__ = [
    "check_key",
    "checked_attributes",
    "group_metadata",
    "metadata_bytes",
    "parse_metadata",
    "readable_attributes",
    "restored",
    "storable",
]

# Canonical JSON has no NaN and no infinities, but Python's JSON in attributes of real data has.
_FLOAT = "__float__"
_NAMES = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_V2_NAMES = frozenset({".zarray", ".zgroup", ".zattrs", ".zmetadata"})


def check_key(key: str) -> None:
    """Refuse keys of Zarr v2 metadata.

    Raises
    ------
    UnsupportedFormatError
    """
    if key.rpartition("/")[2] in _V2_NAMES:
        raise UnsupportedFormatError(
            f"{key!r} is metadata of Zarr v2; Hangarlake keeps Zarr v3: pass zarr_format=3, or copy the data into new arrays"
        )


def _named_float(value: float) -> str:
    return "NaN" if value != value else ("Infinity" if value > 0 else "-Infinity")


def storable(value: Any) -> Any:
    """Return a JSON value with floats that canonical JSON lacks as ``{"__float__": "NaN"}``."""
    if isinstance(value, float):
        return value if math.isfinite(value) else {_FLOAT: _named_float(value)}
    if isinstance(value, Mapping):
        return {key: storable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [storable(each) for each in value]
    return value


def restored(value: Any) -> Any:
    """Undo :func:`storable`; the result shares nothing with `value`."""
    if isinstance(value, Mapping):
        if len(value) == 1 and value.get(_FLOAT) in _NAMES:
            return _NAMES[value[_FLOAT]]
        return {key: restored(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [restored(each) for each in value]
    return value


def parse_metadata(data: bytes) -> ArrayNode | GroupNode | None:
    """Return the node (without chunks) that a ``zarr.json`` describes, ``None`` where it describes none.

    Raises
    ------
    SchemaError
        If it cannot be kept: a string that is no valid Unicode, say.
    UnsupportedFormatError
        If it is of Zarr v2.
    """
    try:
        metadata = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(metadata, dict):
        return None
    if metadata.get("zarr_format") == 2:
        raise UnsupportedFormatError("this is metadata of Zarr v2; Hangarlake keeps Zarr v3: pass zarr_format=3")
    kind = metadata.get("node_type")
    if metadata.get("zarr_format") != 3 or kind not in ("array", "group"):
        return None
    if kind == "array" and not _is_array(metadata):
        return None
    if metadata.get("consolidated_metadata", ...) is None:
        del metadata["consolidated_metadata"]
    kept = storable(metadata)
    try:
        canonical_json(kept)
    except ValueError as error:
        raise SchemaError(f"the metadata {error}") from error
    return ArrayNode(kept) if kind == "array" else GroupNode(kept)


def _is_array(metadata: Mapping[str, Any]) -> bool:
    shape = metadata.get("shape")
    return (
        isinstance(shape, list)
        and all(type(n) is int and n >= 0 for n in shape)
        and "data_type" in metadata
        and isinstance(metadata.get("chunk_grid"), dict)
        and isinstance(metadata.get("codecs"), list)
    )


def metadata_bytes(metadata: Mapping[str, Any]) -> bytes:
    """Return the ``zarr.json`` of a node."""
    text = json.dumps(metadata)
    if _FLOAT in text:
        text = json.dumps(restored(metadata))
    return text.encode()


def group_metadata(attributes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the metadata of a new group; its attributes are those of :func:`checked_attributes`."""
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes or {})}


def checked_attributes(what: str, attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return attributes as metadata keeps them.

    Raises
    ------
    SchemaError
        Naming `what` they are of, if they are no mapping or cannot be written as JSON.
    """
    if attributes is not None and not isinstance(attributes, Mapping):
        raise SchemaError(f"{what}: attributes are a mapping of names to JSON values, not {type(attributes).__name__}")
    kept: dict[str, Any] = storable(dict(attributes or {}))
    try:
        canonical_json(kept)
    except ValueError as error:
        raise SchemaError(f"{what}: the attributes {error}") from error
    return kept


def readable_attributes(attributes: Mapping[str, Any], dtype: np.dtype[Any]) -> dict[str, Any]:
    """Return the attributes of an array for people to look at: a ``_FillValue`` as the number that xarray keeps in base64.

    xarray writes that of floats as the base64 of a little-endian double, that of complex numbers as two of these, and that of
    bytes as theirs. What is no such text stays as it is.
    """
    shown = dict(attributes)
    try:
        if dtype.kind == "f":
            shown["_FillValue"] = _double(shown["_FillValue"])
        elif dtype.kind == "c":
            real, imaginary = shown["_FillValue"]
            shown["_FillValue"] = complex(_double(real), _double(imaginary))
        elif dtype.kind == "S":
            shown["_FillValue"] = base64.b64decode(shown["_FillValue"], validate=True)
    except (KeyError, ValueError, TypeError, struct.error):
        pass
    return shown


def _double(text: str) -> float:
    value: float = struct.unpack("<d", base64.b64decode(text, validate=True))[0]
    return value
