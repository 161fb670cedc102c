"""What a file format must offer, and where formats are found.

A format turns one file into values and back. Those that ship are listed in :func:`builtin_formats`; other packages add theirs
through the entry-point group ``hangarlake.formats``::

    [project.entry-points."hangarlake.formats"]
    nifti = "my_package:NiftiFormat"

The entry point names an instance, or a class or function that returns one when it is called without arguments.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias, runtime_checkable

from hangarlake.errors import UnsupportedFormatError

__all__ = ["ENTRY_POINT_GROUP", "Format", "Member", "builtin_formats", "format_for", "format_named", "formats"]

ENTRY_POINT_GROUP = "hangarlake.formats"

_log = logging.getLogger(__name__)

# One value of a file, under its name in there; ``None`` where the file is one value and has no names.
Member: TypeAlias = tuple[str | None, Any]


@runtime_checkable
class Format(Protocol):
    """A file format.

    Attributes
    ----------
    name : str
        What ``--format`` takes: short, lower case.
    suffixes : tuple of str
        File name endings that mean this format, lower case with the dot. Export writes the first.
    kinds : frozenset of str
        Kinds of columns whose values it can hold: ``"ndarray"``, ``"str"``, ``"bytes"``, ``"json"``.
    holds_many : bool
        Whether a file holds any number of named values (an archive) rather than exactly one.
    """

    # Read-only to whoever holds a Format, so that plain attributes, class attributes and frozen dataclasses all do.
    @property
    def name(self) -> str: ...

    @property
    def suffixes(self) -> tuple[str, ...]: ...

    @property
    def kinds(self) -> frozenset[str]: ...

    @property
    def holds_many(self) -> bool: ...

    def read(self, path: Path) -> Iterator[Member]:
        """Yield the values of a file. Raise anything on a file that is damaged: the caller names the file.

        The file is not to be trusted: nothing in it may be unpickled or evaluated.
        """
        ...

    def write(self, path: Path, members: Iterable[Member]) -> None:
        """Write a new file. Raise ``SchemaError`` for a value that the format cannot hold exactly.

        Without :attr:`holds_many` there is one member, and its name is ``None``.
        """
        ...


def builtin_formats() -> tuple[Format, ...]:
    """Return the formats that ship with Hangarlake."""
    from hangarlake.formats.images import JPEG, PNG, TIFF
    from hangarlake.formats.numpy_files import NPY, NPZ
    from hangarlake.formats.plain import BYTES, JSON, TEXT

    return (NPY, NPZ, PNG, JPEG, TIFF, TEXT, JSON, BYTES)


@cache
def formats() -> Mapping[str, Format]:
    """Return every format by name, those of other packages included.

    What ships comes first: a plug-in can add names and suffixes, and cannot take over existing ones. One that fails to load is
    logged and left out, for it must not keep the others from working.
    """
    found: dict[str, Format] = {format.name: format for format in builtin_formats()}
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        try:
            loaded = point.load()
            plugin = loaded() if isinstance(loaded, type) or not isinstance(loaded, Format) else loaded
        except Exception as error:
            _log.warning("the format plug-in %s does not load: %s", point.name, error)
            continue
        if not isinstance(plugin, Format):
            _log.warning("the format plug-in %s is not a hangarlake.formats.Format", point.name)
        elif plugin.name in found:
            _log.warning("the format plug-in %s is left out: there is a format %r already", point.name, plugin.name)
        else:
            found[plugin.name] = plugin
    return MappingProxyType(found)


def format_named(name: str) -> Format:
    """Return the format of a name.

    Raises
    ------
    UnsupportedFormatError
        There is none.
    """
    try:
        return formats()[name]
    except KeyError:
        raise UnsupportedFormatError(
            f"there is no file format {name!r}; there are {', '.join(sorted(formats()))}"
        ) from None


def format_for(path: Path) -> Format | None:
    """Return the format that a file's name stands for, or ``None``."""
    name = path.name.lower()
    for format in formats().values():
        if any(name.endswith(suffix) and len(name) > len(suffix) for suffix in format.suffixes):
            return format
    return None
