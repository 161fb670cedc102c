"""NumPy's own files: ``.npy`` (one array) and ``.npz`` (named arrays)."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from hangarlake.errors import SchemaError
from hangarlake.formats.base import Member

__all__ = ["NPY", "NPZ", "NpyFormat", "NpzFormat"]

_NDARRAY = frozenset({"ndarray"})
# Fixed, so that equal columns export to equal archives.
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


class NpyFormat:
    """One array in a ``.npy`` file. Large ones are mapped, so that splitting them needs no memory for the whole."""

    name = "npy"
    suffixes: tuple[str, ...] = (".npy",)
    kinds = _NDARRAY
    holds_many = False

    def read(self, path: Path) -> Iterator[Member]:
        """Yield the array under no name."""
        with path.open("rb") as file:
            _, _, dtype = _header(file)
            payload = path.stat().st_size - file.tell()
        # An empty file cannot be mapped; np.load refuses pickles itself, and mapping refuses a file that is shorter than its header says.
        mapped = payload > 0 and not dtype.hasobject
        yield None, np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)

    def write(self, path: Path, members: Iterable[Member]) -> None:
        """Write the one array."""
        for _, value in members:
            with path.open("wb") as file:
                npy.write_array(file, _storable(value), allow_pickle=False)


class NpzFormat:
    """Named arrays in a ``.npz`` archive."""

    name = "npz"
    suffixes: tuple[str, ...] = (".npz",)
    kinds = _NDARRAY
    holds_many = True

    def read(self, path: Path) -> Iterator[Member]:
        """Yield the arrays in the order of the archive, one in memory at a time."""
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                name, dot, suffix = info.filename.rpartition(".")
                if not dot or suffix != "npy":
                    raise ValueError(f"its member {info.filename!r} is not an array")
                with archive.open(info) as file:
                    shape, count, dtype = _header(file)
                    # Checked before memory is taken: a header can claim any size.
                    if dtype.hasobject or count * dtype.itemsize > info.file_size:
                        raise ValueError(f"its member {info.filename!r} holds pickled objects or is cut short")
                with archive.open(info) as file:
                    array: np.ndarray[Any, Any] = npy.read_array(file, allow_pickle=False)
                    # Reading to the end is what makes zipfile compare the checksum.
                    if file.read(1) or array.shape != shape:
                        raise ValueError(f"its member {info.filename!r} is longer than its array")
                yield name, array

    def write(self, path: Path, members: Iterable[Member]) -> None:
        """Write an uncompressed archive; equal arrays in equal order give equal bytes."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, value in members:
                info = zipfile.ZipInfo(f"{name}.npy", _ZIP_EPOCH)
                with archive.open(info, "w", force_zip64=True) as file:
                    npy.write_array(file, _storable(value), allow_pickle=False)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], int, np.dtype[Any]]:
    """Read a ``.npy`` header: shape, number of elements, dtype."""
    version = npy.read_magic(file)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError(
            f"version {version[0]}.{version[1]} of the npy format is for structured dtypes, which columns cannot hold"
        )
    shape, _, dtype = readers[version](file)
    count = 1
    for length in shape:
        if length < 0:
            raise ValueError(f"its header has the impossible shape {shape}")
        count *= length
    return shape, count, dtype


def _storable(value: Any) -> np.ndarray[Any, Any]:
    array = np.asarray(value)
    if array.dtype.hasobject:
        raise SchemaError(
            "NumPy files hold arrays of numbers, times and fixed-width strings, not objects; export this column in another format"
        )
    return array


NPY = NpyFormat()
NPZ = NpzFormat()
