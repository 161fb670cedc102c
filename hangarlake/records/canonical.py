"""Canonical and sealed JSON, ids, times and names: the small conventions of docs/format.md §1."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from blake3 import blake3
from pydantic_core import from_json

from hangarlake.errors import CorruptionError

__all__ = [
    "canonical_json",
    "check_id",
    "digest",
    "format_time",
    "is_id",
    "object_key",
    "parse_json_object",
    "parse_time",
    "quote_name",
    "seal",
    "unquote_name",
    "unseal",
    "utc_now",
]

#: The largest sealed object that is looked at. Movements carry at most a small catalog and some tree nodes.
SEALED_LIMIT = 64 * 2**20
#: The longest percent-encoded name: with ``.json`` behind it, it must be a file name on every file system.
NAME_LIMIT = 240

_SEAL_LENGTH = len(',"seal":""}') + 64
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_QUOTED = re.compile(r"(?:[A-Za-z0-9._-]|%[0-9A-F]{2})+")
_HEX = {length: re.compile(f"[0-9a-f]{{{length}}}") for length in (32, 40, 64)}


def digest(data: bytes) -> str:
    """Return the BLAKE3-256 of `data` in hexadecimal."""
    return blake3(data).hexdigest()


# ---- JSON ------------------------------------------------------------------------------------------------------------


def canonical_json(obj: object) -> bytes:
    """Serialise to canonical JSON: sorted members, no white space, UTF-8, no NaN.

    Raises
    ------
    ValueError
        For what JSON cannot say exactly: member names that are not strings, NaN and infinities, lone
        surrogates, cycles, and objects of other types.
    """
    try:
        _refuse_odd_names(obj, "$")
        text = json.dumps(obj, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except RecursionError:
        raise ValueError("cannot be written as JSON: it is nested too deeply, or contains itself") from None
    except TypeError as error:
        raise ValueError(f"cannot be written as JSON: {error}") from error
    except ValueError as error:
        if str(error).startswith("cannot be"):
            raise
        raise ValueError(
            f"cannot be written as canonical JSON: {error} (NaN and infinities have no place in it)"
        ) from error
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            "cannot be written as JSON: a string holds a lone surrogate "
            f"(U+{ord(text[error.start]):04X}), which UTF-8 does not have"
        ) from error


def _refuse_odd_names(obj: object, where: str) -> None:
    # json.dumps would turn 1, True and None into "1", "true" and "null": different values, one name.
    if isinstance(obj, dict):
        for name, value in obj.items():
            if not isinstance(name, str):
                raise ValueError(f"cannot be written as JSON: member name {name!r} of {where} is not a string")
            if isinstance(value, (dict, list, tuple)):
                _refuse_odd_names(value, f"{where}.{name}")
    elif isinstance(obj, (list, tuple)):
        for place, value in enumerate(obj):
            if isinstance(value, (dict, list, tuple)):
                _refuse_odd_names(value, f"{where}[{place}]")


def parse_json_object(data: bytes | str, what: str) -> dict[str, Any]:
    """Parse the text of one JSON object that came from a bucket.

    Raises
    ------
    CorruptionError
        Naming `what`, if it is anything else.
    """
    try:
        # Three times as fast as json.loads, which matters when a walk reads ten thousand commits.
        obj = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise CorruptionError(f"{what} is not the JSON it should be: {error}") from error
    if not isinstance(obj, dict):
        raise CorruptionError(f"{what} is not a JSON object")
    return obj


def seal(obj: dict[str, Any]) -> bytes:
    """Return the canonical JSON of `obj` with a seal over it as its last member.

    Raises
    ------
    ValueError
        If `obj` is empty, has a member ``seal``, or is not canonical JSON material.
    """
    if not obj or "seal" in obj:
        raise ValueError("only a JSON object with members, none of them called 'seal', can be sealed")
    body = canonical_json(obj)[:-1]
    return body + b',"seal":"' + digest(body).encode("ascii") + b'"}'


def unseal(data: bytes, what: str, *, limit: int = SEALED_LIMIT) -> dict[str, Any]:
    """Check the seal and return the object without it.

    Parameters
    ----------
    what : str
        What `data` is, for messages: a key, usually.
    limit : int
        The largest size in bytes that is looked at.

    Raises
    ------
    CorruptionError
        If any byte is not what was sealed.
    """
    if len(data) > limit:
        raise CorruptionError(f"{what} is {len(data):,} bytes long, far more than such an object can be ({limit:,})")
    if len(data) <= _SEAL_LENGTH:
        raise CorruptionError(f"{what} is damaged: it is cut short ({len(data)} bytes)")
    data = bytes(data)
    body = data[:-_SEAL_LENGTH]
    # Comparing the whole tail, not only the 64 digits, leaves no byte of the object unchecked.
    if data[-_SEAL_LENGTH:] != b',"seal":"' + digest(body).encode("ascii") + b'"}':
        raise CorruptionError(f"{what} is damaged: its seal does not fit its content")
    obj = parse_json_object(body + b"}", what)
    obj.pop("seal", None)
    return obj


# ---- ids and times ---------------------------------------------------------------------------------------------------


def is_id(value: object, length: int = 64) -> bool:
    """Tell whether `value` is `length` lower-case hexadecimal digits (32, 40 or 64)."""
    return isinstance(value, str) and _HEX[length].fullmatch(value) is not None


def check_id(value: object, what: str = "id", length: int = 64) -> str:
    """Return `value` if it is a hexadecimal id. Ids become part of keys, so nothing else may pass.

    Raises
    ------
    ValueError
    """
    if not is_id(value, length):
        shown = repr(value)
        raise ValueError(f"{what} is not {length} lower-case hexadecimal digits: {shown[:80]}")
    return str(value)


def object_key(folder: str, object_id: str, suffix: str = "") -> str:
    """Return the key ``<folder>/<first 2 digits>/<id><suffix>`` of an object that is named by an id of 64 digits.

    Raises
    ------
    ValueError
        If it is not an id.
    """
    check_id(object_id, f"the id of an object in {folder}/")
    return f"{folder}/{object_id[:2]}/{object_id}{suffix}"


def utc_now() -> datetime:
    """Return the present time, aware, in UTC."""
    return datetime.now(UTC)


def format_time(time: datetime) -> str:
    """Write a time as RFC 3339 in UTC with microseconds.

    Raises
    ------
    ValueError
        If `time` is naive: it would mean another moment on another machine.
    """
    if time.tzinfo is None or time.utcoffset() is None:
        raise ValueError(f"{time!r} has no time zone; use datetime.now(timezone.utc) or .astimezone()")
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").zfill(27)


def parse_time(text: object) -> datetime:
    """Read what :func:`format_time` wrote.

    Raises
    ------
    ValueError
    """
    if not isinstance(text, str) or _TIME.fullmatch(text) is None:
        raise ValueError(f"{str(text)[:40]!r} is not a time like 2026-11-01T12:00:00.000000Z")
    return datetime.fromisoformat(text)


# ---- names in keys ---------------------------------------------------------------------------------------------------


def quote_name(name: str) -> str:
    """Percent-encode a branch or tag name as one part of a key.

    Raises
    ------
    ValueError
        If it is empty, a relative path part (``.`` or ``..``), not UTF-8, or too long to be a file name.
    """
    if name in ("", ".", ".."):
        raise ValueError(f"{name!r} cannot be a name")
    try:
        quoted = quote(name, safe="", errors="strict").replace("~", "%7E")
    except UnicodeEncodeError as error:
        raise ValueError(f"{name!r} cannot be a name: it holds a lone surrogate, which UTF-8 does not have") from error
    if len(quoted) > NAME_LIMIT:
        raise ValueError(
            f"the name {name[:40]!r}… is too long: {len(quoted)} bytes when percent-encoded, {NAME_LIMIT} at most"
        )
    return quoted


def unquote_name(quoted: str) -> str:
    """Undo :func:`quote_name`, accepting exactly what it writes, so that no two keys mean one name.

    Raises
    ------
    ValueError
    """
    if _QUOTED.fullmatch(quoted) is None:
        raise ValueError(f"{quoted[:80]!r} is not a percent-encoded name")
    name = unquote_to_bytes(quoted).decode("utf-8")
    if quote_name(name) != quoted:
        raise ValueError(f"{quoted[:80]!r} is not how a name is percent-encoded")
    return name
