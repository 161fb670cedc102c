"""Whether encoded chunks are cached on this machine's disk, and how many bytes of them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from hangarlake.chunks.cache import DiskCache
from hangarlake.storage.base import ObjectStore

__all__ = ["DISK_CACHE_VARIABLE", "disk_cache_of", "parse_size"]

DISK_CACHE_VARIABLE: Final = "HANGARLAKE_DISK_CACHE"
_UNITS: Final = {
    "": 1,
    "B": 1,
    **{f"{prefix}B": 1000**power for power, prefix in enumerate("KMGT", 1)},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGT", 1)},
}
_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def parse_size(size: int | str, what: str) -> int:
    """Return a number of bytes that is given as a number, or as a text like ``"20 GB"`` or ``"512 MiB"``.

    Raises
    ------
    ValueError, TypeError
        If it is neither; the message begins with `what`.
    """
    if isinstance(size, bool) or not isinstance(size, int | str):
        raise TypeError(f"{what} is a number of bytes or a text like '20 GB', not {size!r}")
    if isinstance(size, int):
        if size < 0:
            raise ValueError(f"{what} is a number of bytes from 0 on, not {size}")
        return size
    found = _SIZE.fullmatch(size)
    units = {name.lower(): factor for name, factor in _UNITS.items()}
    if found is None or found[2].lower() not in units:
        raise ValueError(
            f"{what} is a number of bytes or a text like '20 GB' or '512 MiB' (units: {', '.join(filter(None, _UNITS))}), not {size!r}"
        )
    return int(float(found[1]) * units[found[2].lower()])


def disk_cache_of(asked: int | str | None, store: ObjectStore, folder: Path) -> DiskCache | None:
    """Return the cache of encoded chunks that a repository uses; ``None`` for no cache.

    All repositories share one below the folder for local files: chunks are named by their content.

    Parameters
    ----------
    asked : int or str or None
        How many bytes it may hold, 0 for none. ``None``: what ``HANGARLAKE_DISK_CACHE`` says, and no cache for a store that
        is on this machine anyway.
    store : ObjectStore
        What is read from.
    folder : Path
        The folder for local files.

    Raises
    ------
    ValueError, TypeError
        If the size makes no sense.
    """
    if asked is not None:
        size = parse_size(asked, "disk_cache")
    else:
        said = os.environ.get(DISK_CACHE_VARIABLE)
        size = parse_size(said, DISK_CACHE_VARIABLE) if said else 0
        if store.creates_atomically:
            return None
    return DiskCache(folder / "chunks", size) if size else None
