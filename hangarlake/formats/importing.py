"""Files into columns: which file becomes which sample, and all of them or none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hangarlake.errors import CorruptionError, HangarlakeError, NodeNotFoundError, SchemaError, UnsupportedFormatError
from hangarlake.formats.base import Format, Member, format_for, formats
from hangarlake.formats.names import Key, key_of_name, nested_key_of_name, split_nested

if TYPE_CHECKING:
    from hangarlake.columns.column import Column
    from hangarlake.write_checkout import WriteCheckout

__all__ = ["ImportOptions", "ImportResult", "SourceFile", "find_files", "import_columns", "import_samples"]

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file to import.

    Attributes
    ----------
    path : Path
        Where it lies.
    base : str
        Its name as a key: the stem of a file that was named itself; of one found in a folder, the path relative to
        that folder without the suffix.
    found : bool
        Whether it was found in a folder.
    format : Format
        What reads it.
    """

    path: Path
    base: str
    found: bool
    format: Format


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
    """

    columns: tuple[str, ...]
    created: tuple[str, ...]
    samples: int
    added: int

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-ready values."""
        return {**asdict(self), "columns": list(self.columns), "created": list(self.created)}


def find_files(
    paths: Iterable[str | os.PathLike[str]], *, format: Format | None = None
) -> tuple[list[SourceFile], list[Path]]:
    """Find what there is to import.

    Parameters
    ----------
    paths : iterable of path-like
        Files, and folders to be searched with all that lies below them.
    format : Format, optional
        Read named files as this whatever their suffix, and take only files with its suffixes from folders.

    Returns
    -------
    files : list of SourceFile
        In the order given; those of a folder sorted by path.
    skipped : list of Path
        Files in folders that no format claims.

    Raises
    ------
    FileNotFoundError
        A path does not exist.
    UnsupportedFormatError
        No format reads a file that was named, or any of a folder.
    """
    files: list[SourceFile] = []
    skipped: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            if not path.exists():
                raise FileNotFoundError(f"{path} does not exist")
            chosen = format or format_for(path)
            if chosen is None:
                raise UnsupportedFormatError(
                    f"no format reads {path}; there are {', '.join(sorted(formats()))} (choose one with --format)"
                )
            files.append(SourceFile(path, _without_suffix(path.name, chosen), False, chosen))
            continue
        before = len(files)
        for file in _walk(path):
            chosen = format_for(file)
            if chosen is None or (format is not None and chosen.name != format.name):
                skipped.append(file)
            else:
                files.append(SourceFile(file, _without_suffix(file.relative_to(path).as_posix(), chosen), True, chosen))
        if len(files) == before:
            wanted = format.name if format else ", ".join(sorted(formats()))
            raise UnsupportedFormatError(f"the folder {path} holds no file of a known format ({wanted})")
    return files, skipped


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
    exported : bool
        Undo the escapes that ``export`` makes in file names; whole numbers become integer keys.
    create : bool
        Make a column that is not there, for values like the first one.
    nested, variable_shape : bool
        What kind of column to make.
    """

    key: Key | None = None
    split: bool = False
    start: int = 0
    exported: bool = False
    create: bool = False
    nested: bool = False
    variable_shape: bool = False


def import_samples(
    writer: WriteCheckout,
    files: Sequence[SourceFile],
    column: str,
    options: ImportOptions = ImportOptions(),  # it is immutable
    *,
    progress: Progress | None = None,
) -> ImportResult:
    """Stage the samples of files into one column; all of them, or none if anything is wrong with any.

    Parameters
    ----------
    writer : WriteCheckout
        Where to stage.
    files : sequence of SourceFile
        From :func:`find_files`.
    column : str
        Name of the column.
    options : ImportOptions
        Keys, splitting, and whether to make the column.
    progress : callable, optional
        Called with the number of samples read since the last call.

    Raises
    ------
    SchemaError
        Two files lead to one key, or a value does not fit the column. The message names the file.
    CorruptionError
        A file cannot be read as what its suffix says.
    NodeNotFoundError
        There is no such column, and ``options.create`` is not set.
    """
    _check_names(files, options)
    nested = writer.columns[column].nested if column in writer.columns else options.nested
    place = _Place()
    return _stage(writer, column, _samples(files, place, options, nested, progress), options, place)


def import_columns(
    writer: WriteCheckout,
    file: SourceFile,
    options: ImportOptions = ImportOptions(),  # it is immutable
    *,
    progress: Progress | None = None,
) -> ImportResult:
    """Stage an archive of named arrays with one column for each name.

    When splitting, each array's first axis are the samples; otherwise each array is one sample under the stem of the
    file. The archive is read twice: once to check everything, so that nothing is staged if anything is wrong.
    """
    place = _Place()
    columns: list[str] = []
    for name, value in _members(file, place):
        with place.named():
            _check_member(writer, str(name), np.asarray(value), options)
        columns.append(str(name))
    if len(set(columns)) != len(columns):
        raise SchemaError(f"{file.path} has two members of one name")
    results = []
    for name, value in _members(file, place):
        samples = _split(value, file.path, options.start) if options.split else iter([(file.base, value)])
        results.append(_stage(writer, str(name), _counted(samples, place, progress), options, place))
    return ImportResult(
        columns=tuple(columns),
        created=tuple(name for result in results for name in result.created),
        samples=place.samples,
        added=sum(result.added for result in results),
    )


class _Place:
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


def _stage(
    writer: WriteCheckout, name: str, samples: Iterator[tuple[Key, Any]], options: ImportOptions, place: _Place
) -> ImportResult:
    """Write samples into one column, which is made first where that is asked for; all or nothing."""
    before = place.samples
    created = name not in writer.columns
    if created:
        if not options.create:
            raise NodeNotFoundError(
                f"there is no column {name!r}; make one with `hangarlake column add {name}` or pass --create"
            )
        first = next(samples, None)
        if first is None:
            raise SchemaError("there is no sample to import, and so nothing to make a column from")
        with place.named():
            _create(writer, name, first[1], options)
        samples = chain([first], samples)
    column = writer.columns[name]
    length = _count(column)
    try:
        with place.named():
            column.update(samples)
    except BaseException:
        if created:
            writer.remove(name)
        raise
    return ImportResult((name,), (name,) if created else (), place.samples - before, _count(column) - length)


def _count(column: Column) -> int:
    """Return the number of values: in a nested column a sample holds several."""
    return sum(len(column[sample]) for sample in column) if column.nested else len(column)


def _members(file: SourceFile, place: _Place) -> Iterator[Member]:
    """Read a file; whatever its format raises becomes one error that names it."""
    place.path = file.path
    try:
        yield from file.format.read(file.path)
    except (HangarlakeError, ImportError, MemoryError, PermissionError):
        raise
    except Exception as error:
        detail = str(error) or type(error).__name__
        raise CorruptionError(f"cannot read {file.path} as {file.format.name}: {detail}") from error


def _samples(
    files: Sequence[SourceFile], place: _Place, options: ImportOptions, nested: bool, progress: Progress | None
) -> Iterator[tuple[Key, Any]]:
    """Yield keys and values of all files."""
    origin: dict[Key, Path] = {}
    number = options.start
    for file in files:
        for member, value in _members(file, place):
            if options.split:
                yield from _counted(_split(value, file.path, number), place, progress)
                number += len(value)
                continue
            key = _key(file, member, options.exported, nested) if options.key is None else options.key
            if key in origin:
                raise SchemaError(f"{origin[key]} and {file.path} both stand for the key {key!r}")
            origin[key] = file.path
            yield from _counted([(key, value)], place, progress)


def _counted(samples: Iterable[tuple[Key, Any]], place: _Place, progress: Progress | None) -> Iterator[tuple[Key, Any]]:
    for sample in samples:
        place.samples += 1
        yield sample
        if progress is not None:
            progress(1)


def _split(value: Any, path: Path, start: int) -> Iterator[tuple[Key, Any]]:
    if not isinstance(value, np.ndarray) or value.ndim == 0:
        raise SchemaError(f"{path} holds no array with a first axis to split")
    return ((start + i, np.asarray(row)) for i, row in enumerate(value))


def _key(file: SourceFile, member: str | None, exported: bool, nested: bool) -> Key:
    parts = [] if member is not None and not file.found else [file.base]
    name = "/".join(parts if member is None else [*parts, member])
    if not nested:
        return key_of_name(name) if exported else name
    return nested_key_of_name(name) if exported else split_nested(name)


def _check_names(files: Sequence[SourceFile], options: ImportOptions) -> None:
    """Refuse what can be seen from the names alone, before any file is read."""
    if options.key is not None and (options.split or len(files) != 1 or files[0].format.holds_many):
        raise SchemaError("a key can be given for one file with one value only")
    if options.split:
        return
    seen: dict[str, Path] = {}
    for file in files:
        if not file.format.holds_many and seen.setdefault(file.base, file.path) is not file.path:
            raise SchemaError(f"{seen[file.base]} and {file.path} both stand for the key {file.base!r}")


def _check_member(writer: WriteCheckout, name: str, array: np.ndarray[Any, Any], options: ImportOptions) -> None:
    """See that an array of an archive fits the column of its name, without staging it."""
    if options.split and array.ndim == 0:
        raise SchemaError(f"its member {name!r} has no first axis to split")
    if name not in writer.columns:
        if not options.create:
            raise NodeNotFoundError(f"there is no column {name!r}; add it first, or pass --create")
        if options.split and len(array) == 0:
            raise SchemaError(f"its member {name!r} has no samples, and so nothing to make a column from")
        return
    column = writer.columns[name]
    if column.kind != "ndarray" or column.nested:
        raise SchemaError(f"its member {name!r} is an array, and the column of that name holds something else")
    shape = array.shape[1:] if options.split else array.shape
    fits = column.variable_shape or column.shape == shape
    if not fits or column.dtype != array.dtype.newbyteorder("="):
        raise SchemaError(
            f"its member {name!r} has samples of {array.dtype} and shape {shape}; "
            f"the column holds {column.dtype} of shape {column.shape}"
        )


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


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, sorted; not what is hidden, and not through links to folders."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in sorted(names) if not name.startswith("."))


def _without_suffix(name: str, format: Format) -> str:
    lower = name.lower()
    suffix = next((s for s in sorted(format.suffixes, key=len, reverse=True) if lower.endswith(s)), None)
    if suffix is None:
        return name.removesuffix(Path(name).suffix) or name
    return name[: len(name) - len(suffix)]
