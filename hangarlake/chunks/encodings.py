"""How a chunk is read: a layout and a Zarr v3 codec list, as chunk tables and packs keep it (``docs/format.md`` §5)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from hangarlake.errors import CorruptionError, UnsupportedFormatError

__all__ = ["RAW", "Codec", "Encoding", "Layout", "parse_encodings"]

Layout: TypeAlias = Literal["rows", "run", "grid", "raw"]
Codec: TypeAlias = dict[str, Any]
"""One codec of a list: ``{"name": ..., "configuration": {...}}``. Never to be changed in place."""

_LAYOUTS: Final = frozenset(get_args(Layout))
_MAX_TEXT: Final = 1 << 14
_MAX_LIST: Final = 1 << 20
_MAX_CODECS: Final = 16
_MAX_DIMENSIONS: Final = 64


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _checked_codec(value: Any) -> Codec:
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str) or not value["name"]:
        raise ValueError(f"a codec is an object with a name, not {value!r:.80}")
    configuration = value.get("configuration", {})
    if not isinstance(configuration, Mapping):
        raise ValueError(f"the configuration of codec {value['name']!r:.80} is not an object")
    if unknown := set(value) - {"name", "configuration", "must_understand"}:
        raise ValueError(f"codec {value['name']!r:.80} has unknown members {sorted(map(str, unknown))!r:.80}")
    codec: Codec = {"name": value["name"]}
    if configuration:
        codec["configuration"] = configuration
    return codec


def _checked_shape(layout: str, value: Any) -> tuple[int, ...] | None:
    if (value is not None) != (layout == "grid"):
        raise ValueError('a chunk_shape belongs to the layout "grid" and to no other')
    if value is None:
        return None
    shape = tuple(value) if isinstance(value, list | tuple) else ()
    if not 0 < len(shape) <= _MAX_DIMENSIONS or any(type(n) is not int or not 0 < n < 1 << 63 for n in shape):
        raise ValueError(f"chunk_shape {value!r:.80} is not a list of positive integers")
    return shape


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Encoding:
    """A layout and a codec list; equal and hashable by their canonical JSON.

    Parameters
    ----------
    layout : {"rows", "run", "grid", "raw"}
        What the decoded array holds, see ``docs/format.md`` §5.
    codecs : iterable of dict or str
        Zarr v3 codec JSON, as in ``zarr.json``.
    chunk_shape : tuple of int, optional
        With ``"grid"`` only: the regular grid that a sample is cut on.

    Raises
    ------
    ValueError
        Parts that do not fit together. (What comes from a bucket goes through :meth:`from_json`.)
    """

    text: str
    layout: Layout = field(compare=False)
    codecs: tuple[Codec, ...] = field(compare=False)
    chunk_shape: tuple[int, ...] | None = field(compare=False)

    def __init__(
        self, layout: Layout, codecs: Iterable[Codec | str], chunk_shape: tuple[int, ...] | None = None
    ) -> None:
        if layout not in _LAYOUTS:
            raise ValueError(f"unknown layout {layout!r:.40}; layouts are {', '.join(get_args(Layout))}")
        shape = _checked_shape(layout, chunk_shape)
        checked = tuple(_checked_codec(codec) for codec in codecs)
        if not 0 < len(checked) <= _MAX_CODECS:
            raise ValueError(f"an encoding has 1 to {_MAX_CODECS} codecs, not {len(checked)}")
        members: dict[str, Any] = {"codecs": checked, "layout": layout}
        if shape is not None:
            members["chunk_shape"] = shape
        try:
            text = _canonical(members)
            text.encode()
        except (TypeError, RecursionError, UnicodeEncodeError) as error:
            raise ValueError(f"the codecs cannot be written as JSON: {error}") from error
        # The codecs are read back, so that nobody holds a reference into them.
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "layout", layout)
        object.__setattr__(self, "codecs", tuple(json.loads(text)["codecs"]))
        object.__setattr__(self, "chunk_shape", shape)

    def __repr__(self) -> str:
        return f"Encoding({self.text})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Encoding.from_json, (self.text,)

    def to_json(self) -> str:
        """Return the canonical JSON of ``docs/format.md`` §5."""
        return self.text

    @staticmethod
    def from_json(text: str) -> Encoding:
        """Return the encoding of a JSON text from a bucket; equal texts give one object.

        Raises
        ------
        UnsupportedFormatError
            A layout that this version does not know.
        CorruptionError
            Anything else that is no encoding.
        """
        return _parse(text)


@lru_cache(maxsize=1024)
def _parse(text: str) -> Encoding:
    if len(text) > _MAX_TEXT:
        raise CorruptionError(f"an encoding of {len(text):,} characters; the most is {_MAX_TEXT:,}")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptionError(f"an encoding that is not JSON: {error}") from error
    return _from_value(value)


def _from_value(value: Any) -> Encoding:
    if not isinstance(value, dict) or not isinstance(value.get("codecs"), list):
        raise CorruptionError(f"not an encoding: {value!r:.80}")
    layout = value.get("layout")
    if isinstance(layout, str) and layout not in _LAYOUTS:
        raise UnsupportedFormatError(f"chunks of layout {layout!r:.40}; upgrade hangarlake to read them")
    if unknown := set(value) - {"codecs", "layout", "chunk_shape"}:
        raise CorruptionError(f"an encoding with unknown members {sorted(unknown)!r:.80}")
    try:
        return Encoding(cast("Layout", layout), value["codecs"], value.get("chunk_shape"))
    except (ValueError, TypeError) as error:
        raise CorruptionError(f"a damaged encoding: {error}") from error


def parse_encodings(text: bytes) -> tuple[Encoding, ...]:
    """Return the encodings of a JSON list, the ``E`` of packs and leaves; equal texts give one object.

    Parameters
    ----------
    text : bytes
        UTF-8, at most 1 MiB, 256 encodings.

    Raises
    ------
    CorruptionError, UnsupportedFormatError
        As :meth:`Encoding.from_json`.
    """
    if len(text) > _MAX_LIST:
        raise CorruptionError(f"a list of encodings of {len(text):,} bytes; the most is {_MAX_LIST:,}")
    # Only what a repository really has (a few hundred bytes) is remembered.
    return _parse_list(text) if len(text) <= 4096 else _parse_list.__wrapped__(text)


@lru_cache(maxsize=1024)
def _parse_list(text: bytes) -> tuple[Encoding, ...]:
    try:
        values = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise CorruptionError(f"a list of encodings that is not JSON: {error}") from error
    if not isinstance(values, list) or len(values) > 256:
        raise CorruptionError("a list of encodings that is not a list of at most 256")
    try:
        return tuple(Encoding.from_json(_canonical(value)) for value in values)
    except (ValueError, RecursionError) as error:
        raise CorruptionError(f"a damaged list of encodings: {error}") from error


RAW: Final = Encoding("raw", [{"name": "bytes"}])
"""The encoding of a Zarr array's chunks: the stored bytes are the value, their codecs stand in its ``zarr.json``."""
