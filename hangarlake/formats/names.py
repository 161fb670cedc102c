"""Sample keys as file names, and back.

Keys are chosen by whoever wrote the repository, so they are hostile until shown otherwise: ``../../etc/passwd``,
``/etc/passwd``, ``CON``, ``a`` beside ``A`` and ``1`` beside ``"1"`` are all valid keys. :func:`file_names` gives every
key a relative path that stays in its folder, exists on every common file system and collides with no other;
:func:`key_of_name` reads the key back from it.

The rules, for a reader who meets such a folder without this program:

- A whole number without superfluous zeros is an integer key; a string key that looks like one has its first character
  escaped (``%31`` for ``"1"``).
- ``/`` separates folders. ``%XX`` is one byte of UTF-8, as in URLs; a ``%`` itself is ``%25``.
- A part that ends in a lone ``%`` continues in the next one: names are longer than file systems allow.
- In nested columns the last part is the key within the sample, and everything before it the sample.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from hangarlake.errors import SchemaError

__all__ = ["Key", "SampleKey", "file_names", "key_of_name", "nested_key_of_name", "quote_part"]

SampleKey: TypeAlias = str | int
# Flat columns have one part, nested columns two.
Key: TypeAlias = SampleKey | tuple[SampleKey, SampleKey]

_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]*")
_FORBIDDEN = re.compile(r"""[%\\:*?"<>|\x00-\x1f\x7f]""")
_NOT_PLAIN = re.compile(r"[^a-z0-9._\-]")
_DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{name}{i}" for name in ("com", "lpt") for i in "0123456789¹²³")})
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
# Bytes of UTF-8 in one part: file systems stop at 255, and a suffix has to fit in as well.
_PART_BYTES = 200


def file_names(keys: Iterable[Key], suffix: str = "") -> dict[Key, str]:
    """Give every key a relative path.

    Parameters
    ----------
    keys : iterable of str, int or (sample, sub) pairs
        All keys of the export, because what collides depends on the others.
    suffix : str
        Ending of the files; appended.

    Returns
    -------
    dict
        Key → path with ``/`` between its parts. No two are equal, not even where case and Unicode normalisation do not count, and none
        is also the folder of another.
    """
    names = {key: _name(key, suffix, _readable) for key in keys}
    spelled: dict[str, str] = {}
    ambiguous: set[str] = set()
    for name in names.values():
        for path in _with_folders(name):
            folded = _folded(path)
            if spelled.setdefault(folded, path) != path:
                ambiguous.add(folded)
    if ambiguous:
        for key, name in names.items():
            if any(_folded(path) in ambiguous for path in _with_folders(name)):
                names[key] = _name(key, suffix, _plain)
    return names


def key_of_name(name: str) -> SampleKey:
    """Return the key that :func:`file_names` gave this name (without its suffix).

    Raises
    ------
    SchemaError
        It never gives such a name: the bytes are not UTF-8.
    """
    if _WHOLE_NUMBER.fullmatch(name) and -(2**63) <= int(name) < 2**63:
        return int(name)
    joined = re.sub(r"%/", "", name)
    raw = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), joined.encode("utf-8", "surrogateescape"))
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SchemaError(f"the file name {name!r} stands for no key: it is not UTF-8") from error


def nested_key_of_name(name: str) -> tuple[SampleKey, SampleKey]:
    """Return the (sample, sub) key of a name from a nested column: the last part is the sub key.

    Raises
    ------
    SchemaError
        There is one part only.
    """
    sample, sub = split_nested(name)
    return key_of_name(sample), key_of_name(sub)


def split_nested(name: str) -> tuple[str, str]:
    """Cut a path into sample and sub name; a part that continues (``%/``) is not cut."""
    cut = max((match.start() for match in re.finditer(r"(?<!%)/", name)), default=-1)
    if cut < 0:
        raise SchemaError(f"{name!r} has no folder to name its sample: in a nested column files lie one level down")
    return name[:cut], name[cut + 1 :]


def quote_part(text: str) -> str:
    """Escape a column's name, or any other text, to be one safe part of a path."""
    return _quote(text.replace("/", "\0"), "", _readable)


def _name(key: Key, suffix: str, escape: Callable[[str], str]) -> str:
    if isinstance(key, tuple):
        sample, sub = key
        return f"{_path(sample, suffix, escape, slash=True, last=False)}/{_path(sub, suffix, escape, slash=False, last=True)}{suffix}"
    return f"{_path(key, suffix, escape, slash=True, last=True)}{suffix}"


def _path(key: SampleKey, suffix: str, escape: Callable[[str], str], *, slash: bool, last: bool) -> str:
    """Return one key as a path. `slash`: its slashes make folders; `last`: its last part is a file, not a folder."""
    if isinstance(key, int):
        return str(key)
    if _WHOLE_NUMBER.fullmatch(key):
        return f"%{ord(key[0]):02X}{key[1:]}"
    parts = key.split("/")
    if not slash or "" in parts:
        parts = [key.replace("/", "\0")]
    folders = len(parts) - 1 if last else len(parts)
    return "/".join(_quote(part, suffix if i < folders else "", escape) for i, part in enumerate(parts))


def _quote(part: str, suffix: str, escape: Callable[[str], str]) -> str:
    """Escape one part. A NUL stands for a slash that is to make no folder: keys hold no NUL themselves.

    `suffix`: of the files beside a folder, whose name must not end like theirs.
    """
    text = _guarded(escape(part).replace("%00", "%2F"))
    if text[-1:] in (".", " "):
        text = text[:-1] + _escaped(text[-1])
    if suffix and text.lower().endswith(suffix):
        text = text[: -len(suffix)] + _escaped(text[-len(suffix)]) + text[1 - len(suffix) :]
    pieces = []
    while len(text.encode("utf-8")) > _PART_BYTES:
        cut = len(text.encode("utf-8")[:_PART_BYTES].decode("utf-8", "ignore"))
        # Not within an escape.
        cut -= next((back for back in (1, 2) if text[cut - back] == "%"), 0)
        pieces.append(text[:cut])
        text = _guarded(text[cut:])
    return "%/".join([*pieces, text])


def _guarded(text: str) -> str:
    """Escape the first character where it would make a hidden file, a way upwards, or the name of a device."""
    if text[:1] in (".", " ") or text.split(".")[0].rstrip(" ").lower() in _DEVICES:
        return _escaped(text[0]) + text[1:]
    return text


def _readable(part: str) -> str:
    """Escape what some file system refuses."""
    return _FORBIDDEN.sub(lambda match: _escaped(match[0]), part)


def _plain(part: str) -> str:
    """Escape everything but lower-case letters, digits and ``._-``: unambiguous whatever a file system makes of case."""
    return _NOT_PLAIN.sub(lambda match: _escaped(match[0]), part)


def _escaped(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8"))


def _with_folders(name: str) -> Iterator[str]:
    """Yield a path and every folder on the way to it."""
    yield name
    while (cut := name.rfind("/")) >= 0:
        name = name[:cut]
        yield name


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
