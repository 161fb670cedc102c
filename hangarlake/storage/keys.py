"""Object keys: what a key may look like, checked before any engine turns it into a path or a request."""

from __future__ import annotations

import re

from hangarlake.errors import StorageError

__all__ = ["check_folder", "check_key", "check_prefix", "next_parts"]

_KEY = re.compile(r"[A-Za-z0-9._%-]+(?:/[A-Za-z0-9._%-]+)*")
_PREFIX = re.compile(r"(?:[A-Za-z0-9._%-]+/)*[A-Za-z0-9._%-]*")
_DOTS = re.compile(r"(?:^|/)\.\.?(?:/|$)")


def check_key(key: str) -> str:
    """Return `key` if it is a valid object key.

    Raises
    ------
    StorageError
        Empty, absolute, with empty, ``.`` or ``..`` parts (which could leave the root), or with other characters.
    """
    # "." is only dangerous as a whole part; the plain test keeps the common key at one regular expression.
    if _KEY.fullmatch(key) is None or ("." in key and _DOTS.search(key) is not None):
        raise StorageError(
            f"{key!r} is not an object key: keys are relative paths of A-Z a-z 0-9 . _ - % between single slashes, "
            "without '.' and '..' parts. Percent-encode names before they become part of a key."
        )
    return key


def check_prefix(prefix: str) -> str:
    """Return `prefix` if some valid key could start with it; raise ``StorageError`` otherwise."""
    if _PREFIX.fullmatch(prefix) is None or ("./" in prefix and _DOTS.search(prefix[: prefix.rfind("/")]) is not None):
        raise StorageError(f"{prefix!r} is not a prefix of object keys: no key can start with it.")
    return prefix


def check_folder(prefix: str) -> str:
    """Return `prefix` if it is one whose next path parts can be listed: empty, or whole parts up to a slash.

    Raises
    ------
    StorageError
        It ends within a part, or no key can start with it.
    """
    if prefix and not prefix.endswith("/"):
        raise StorageError(f"{prefix!r} must end in a slash to list the level below it.")
    return check_prefix(prefix)


def next_parts(keys: list[str], prefix: str) -> list[str]:
    """Return the distinct path parts that follow `prefix` in `keys`, sorted."""
    return sorted({key[len(prefix) :].partition("/")[0] for key in keys if key.startswith(prefix)})
