"""Samples into one column: all of them, or none if anything is wrong with any."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hangarlake.errors import NodeNotFoundError, SchemaError
from hangarlake.formats.names import Key, SampleKey

if TYPE_CHECKING:
    from hangarlake.columns.column import Column
    from hangarlake.write_checkout import WriteCheckout

__all__ = [
    "DEFAULTS",
    "Clashes",
    "ImportOptions",
    "ImportResult",
    "KeyType",
    "Place",
    "Progress",
    "UnclearKeysError",
    "counted",
    "no_column",
    "stage_samples",
    "typed_key",
]

Progress = Callable[[int], None]
KeyType = Literal["text", "int"]
_WHOLE_NUMBER = re.compile(r"-?[0-9]+")
# Keys that a message names.
_NAMED = 3


class UnclearKeysError(ValueError):
    """Keys look like others that the column holds, of the other type: integers, and the same numbers as text."""


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import has staged.

    Attributes
    ----------
    columns : tuple of str
        Columns that it wrote to.
    created : tuple of str
        Those of them that are new.
    samples : int
        Samples read, over all columns.
    added : int
        Samples whose keys were not there before; the others had a value already, this one or another.
    kinds : dict of str to str
        What the new columns hold: ``"int64"``, ``"uint8 of shape (28, 28)"``, ``"text"``, ``"bytes"``, ``"JSON"``.
    text_reason : str or None
        Which cell of a table it was that made a new column one of text, where the table begins with numbers or that cell is empty.
    suffixed : str or None
        Another column, that has the first keys of a table or JSON object without their suffix, where no column has them as they are:
        they are names of files, and ``strip_suffix`` was left out.
    """

    columns: tuple[str, ...]
    created: tuple[str, ...]
    samples: int
    added: int
    kinds: dict[str, str] = field(default_factory=dict, hash=False)
    text_reason: str | None = None
    suffixed: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-ready values."""
        return {**asdict(self), "columns": list(self.columns), "created": list(self.created)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """How files become samples.

    Attributes
    ----------
    key : str, int or pair, optional
        Key of the one sample that there is.
    split : bool
        Cut every array along its first axis into samples, numbered through all files from `start`.
    start : int
        Number of the first sample when splitting.
    key_type : "text" or "int", optional
        What names that are whole numbers are as keys. Left out: text, unless the column holds such integers, which is refused.
    exported : bool
        Undo the escapes that ``export`` makes in file names; whole numbers become integer keys.
    create : bool
        Make a column that is not there, for values like the first one.
    nested, variable_shape : bool
        What kind of column to make.
    """

    key: Key | None = None
    key_type: KeyType | None = None
    split: bool = False
    start: int = 0
    exported: bool = False
    create: bool = False
    nested: bool = False
    variable_shape: bool = False


#: Nothing is split, and no column made.
DEFAULTS = ImportOptions()


class Place:
    """Where in the files an import has come to, so that an error can say it."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.samples = 0

    @contextmanager
    def named(self) -> Iterator[None]:
        """Put the name of the present file in front of errors about its values."""
        try:
            yield
        except SchemaError as error:
            if self.path is None or str(self.path) in str(error):
                raise
            raise SchemaError(f"{self.path}: {error}") from error


def stage_samples(
    writer: WriteCheckout, name: str, samples: Iterator[tuple[Key, Any]], options: ImportOptions, place: Place
) -> ImportResult:
    """Write samples into one column, which is made first where that is asked for; all or nothing."""
    before = place.samples
    created = name not in writer.columns
    if created:
        if not options.create:
            raise no_column(name)
        first = next(samples, None)
        if first is None:
            raise SchemaError("there is no sample to import, and so nothing to make a column from")
        with place.named():
            _create(writer, name, first[1], options)
        samples = chain([first], samples)
    column = writer.columns[name]
    length = _count(column)
    sizes = _Sizes(column) if created and not options.variable_shape else None
    try:
        with place.named():
            column.update(samples if sizes is None else sizes.watch(samples))
    except BaseException as error:
        if created:
            writer.remove(name)
        # Where the error itself names the remedy, it is not said twice.
        unsaid = sizes is not None and sizes.vary and "variable_shape" not in str(error)
        if isinstance(error, SchemaError) and unsaid:
            raise SchemaError(f"{error}; for samples of several sizes pass --variable-shape") from error
        raise
    kinds = {name: _kind_text(column)} if created else {}
    return ImportResult((name,), tuple(kinds), place.samples - before, _count(column) - length, kinds)


def _kind_text(column: Column) -> str:
    if column.kind != "ndarray":
        return {"str": "text", "json": "JSON"}.get(column.kind, column.kind)
    if not column.shape:
        return str(column.dtype)
    dims = ", ".join("*" if length is None else str(length) for length in column.shape)
    return f"{column.dtype} of shape ({dims}{',' if len(column.shape) == 1 else ''})"


class _Sizes:
    """Notices arrays that differ from their column in nothing but size."""

    def __init__(self, column: Column) -> None:
        self._column = column
        self.vary = False

    def watch(self, samples: Iterable[tuple[Key, Any]]) -> Iterator[tuple[Key, Any]]:
        shape, dtype = self._column.shape, self._column.dtype
        for key, value in samples:
            if isinstance(value, np.ndarray) and shape is not None and value.shape != shape:
                self.vary |= value.ndim == len(shape) and value.dtype == dtype
            yield key, value


class Clashes:
    """Keys that would make a second sample beside the one that is meant: text of a whole number where the column holds the integer,
    and the other way round.

    Parameters
    ----------
    name : str
        Of the column, for the message.
    column : Column or None
        ``None``: it is yet to be made, and nothing clashes.
    """

    def __init__(self, name: str, column: Column | None) -> None:
        self._name = name
        self._column = column
        # Integers come first in key order.
        self._integers = column is not None and isinstance(next(iter(column), None), int)
        self._found: list[SampleKey] = []
        self._count = 0

    def watch(self, samples: Iterable[tuple[Key, Any]]) -> Iterator[tuple[Key, Any]]:
        """Yield samples; after the last one refuse if keys clashed."""
        for key, value in samples:
            self.note(key)
            yield key, value
        self.refuse()

    def note(self, key: Key) -> None:
        """Remember a key if it clashes."""
        sample = key[0] if isinstance(key, tuple) else key
        other = _other_reading(sample) if self._column is not None else None
        if self._column is None or other is None or (isinstance(other, int) and not self._integers):
            return
        if other in self._column and sample not in self._column:
            self._count += 1
            if len(self._found) < _NAMED and sample not in self._found:
                self._found.append(sample)

    def refuse(self) -> None:
        """Raise ``UnclearKeysError`` if keys clashed."""
        if not self._found:
            return
        other = _other_reading(self._found[0])
        if self._count == 1 and isinstance(other, int):
            raise UnclearKeysError(
                f"{self._found[0]!r} is text, and {self._name} has the integer {other}: say --key int:{other} "
                f"(or --key str:{self._found[0]} for a sample of its own)"
            )
        listed = ", ".join(map(repr, self._found)) + (
            f" … ({self._count:,} keys)" if self._count > len(self._found) else ""
        )
        are = "is" if self._count == 1 else "are"
        if isinstance(other, int):
            raise UnclearKeysError(
                f"{listed} {are} text, and {self._name} has these as integers: pass --key-type int to mean those, "
                "or --key-type text for samples of their own"
            )
        raise UnclearKeysError(
            f"{listed} {are} of integers, and {self._name} has these as text: pass --key-type text to mean those, "
            "or --key-type int for samples of their own"
        )


def typed_key(name: str, key_type: KeyType | None) -> SampleKey:
    """Return a name as a key.

    Raises
    ------
    SchemaError
        Integers are asked for, and this is none.
    """
    if key_type != "int":
        return name
    if not _WHOLE_NUMBER.fullmatch(name):
        raise SchemaError(f"{name!r} is no whole number, and --key-type int makes keys of these only")
    return int(name)


def no_column(name: str) -> NodeNotFoundError:
    """Return the error for a column that is not there and not to be made."""
    return NodeNotFoundError(
        f"there is no column {name!r}; make one with `hangarlake column add {name}` or pass --create"
    )


def _other_reading(key: SampleKey) -> SampleKey | None:
    if isinstance(key, int):
        return str(key)
    # Longer numbers are no keys: those have 64 bits.
    return int(key) if _WHOLE_NUMBER.fullmatch(key) and len(key) < 20 and -(2**63) <= int(key) < 2**63 else None


def _count(column: Column) -> int:
    """Return the number of values: in a nested column a sample holds several."""
    return sum(len(column[sample]) for sample in column) if column.nested else len(column)


def counted(samples: Iterable[tuple[Key, Any]], place: Place, progress: Progress | None) -> Iterator[tuple[Key, Any]]:
    """Yield samples, and count them."""
    for sample in samples:
        place.samples += 1
        yield sample
        if progress is not None:
            progress(1)


def _create(writer: WriteCheckout, name: str, value: Any, options: ImportOptions) -> None:
    """Make a column for values like this one."""
    if isinstance(value, str):
        writer.add_str_column(name, nested=options.nested)
    elif isinstance(value, bytes):
        writer.add_bytes_column(name, nested=options.nested)
    elif isinstance(value, np.ndarray):
        writer.add_ndarray_column(
            name,
            shape=(None,) * value.ndim if options.variable_shape else value.shape,
            dtype=value.dtype.newbyteorder("="),
            variable_shape=options.variable_shape,
            nested=options.nested,
        )
    else:
        writer.add_json_column(name, nested=options.nested)
