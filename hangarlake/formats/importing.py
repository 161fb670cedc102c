"""Files into columns: which file becomes which sample, and all of them or none."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hangarlake.errors import CorruptionError, HangarlakeError, SchemaError, UnsupportedFormatError
from hangarlake.formats.base import Format, Member, format_for, formats
from hangarlake.formats.names import Key, key_of_name, nested_key_of_name, split_nested
from hangarlake.formats.samples import (
    DEFAULTS,
    Clashes,
    ImportOptions,
    ImportResult,
    Place,
    Progress,
    counted,
    no_column,
    stage_samples,
    typed_key,
)
from hangarlake.records.marker import MARKER_KEY

if TYPE_CHECKING:
    from hangarlake.write_checkout import WriteCheckout

__all__ = ["SkippedFile", "SourceFile", "find_files", "import_columns", "import_samples", "without_suffix"]


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
class SkippedFile:
    """A file or folder that is not imported.

    Attributes
    ----------
    path : Path
    reason : str
        ``"format"``: no format claims it; ``"other"``: another format than was asked for; ``"hidden"``: its name begins with a dot;
        ``"repository"``: a folder that is one.
    """

    path: Path
    reason: str

    def to_dict(self) -> dict[str, str]:
        """Return everything, JSON-ready."""
        return {"path": str(self.path), "reason": self.reason}


def find_files(
    paths: Iterable[str | os.PathLike[str]], *, format: Format | None = None
) -> tuple[list[SourceFile], list[SkippedFile]]:
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
    skipped : list of SkippedFile
        What is in folders and is not taken.

    Raises
    ------
    FileNotFoundError
        A path does not exist.
    UnsupportedFormatError
        No format reads a file that was named, or any of a folder; or a folder is a repository.
    """
    files: list[SourceFile] = []
    skipped: list[SkippedFile] = []
    for path in map(Path, paths):
        if not path.is_dir():
            if not path.exists():
                raise FileNotFoundError(f"{path} does not exist")
            chosen = format or format_for(path)
            if chosen is None:
                raise UnsupportedFormatError(
                    f"no format reads {path}; there are {', '.join(sorted(formats()))} (choose one with --format)"
                )
            files.append(SourceFile(path, without_suffix(path.name, chosen), False, chosen))
            continue
        if _is_repository(path):
            raise UnsupportedFormatError(
                f"{path} is a repository, not a folder of files; take samples out of it with export"
            )
        before = len(files)
        for file in _walk(path, skipped):
            chosen = format_for(file)
            if chosen is None or (format is not None and chosen.name != format.name):
                skipped.append(SkippedFile(file, "format" if chosen is None else "other"))
            else:
                files.append(SourceFile(file, without_suffix(file.relative_to(path).as_posix(), chosen), True, chosen))
        if len(files) == before:
            wanted = format.name if format else ", ".join(sorted(formats()))
            raise UnsupportedFormatError(f"the folder {path} holds no file of a known format ({wanted})")
    return files, skipped


def import_samples(
    writer: WriteCheckout,
    files: Sequence[SourceFile],
    column: str,
    options: ImportOptions = DEFAULTS,
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
    target = writer.columns.get(column)
    nested = target.nested if target is not None else options.nested
    clashes = Clashes(column, None if options.exported or options.key_type is not None else target)
    _check_names(files, options, nested, clashes)
    place = Place()
    samples = _samples(files, place, options, nested, progress)
    if any(file.format.holds_many for file in files) and not options.split:
        samples = clashes.watch(samples)
    return stage_samples(writer, column, samples, options, place)


def import_columns(
    writer: WriteCheckout,
    file: SourceFile,
    options: ImportOptions = DEFAULTS,
    *,
    progress: Progress | None = None,
) -> ImportResult:
    """Stage an archive of named arrays with one column for each name.

    When splitting, each array's first axis are the samples; otherwise each array is one sample under the stem of the
    file. The archive is read twice: once to check everything, so that nothing is staged if anything is wrong.
    """
    place = Place()
    columns: list[str] = []
    for name, value in _members(file, place):
        with place.named():
            _check_member(writer, str(name), np.asarray(value), options)
            if options.key_type is None:
                clashes = Clashes(str(name), writer.columns.get(str(name)))
                clashes.note(_number(options.start, options) if options.split else file.base)
                clashes.refuse()
        columns.append(str(name))
    if len(set(columns)) != len(columns):
        raise SchemaError(f"{file.path} has two members of one name")
    results = []
    for name, value in _members(file, place):
        samples = (
            _split(value, file.path, options.start, options)
            if options.split
            else iter([(typed_key(file.base, options.key_type), value)])
        )
        results.append(stage_samples(writer, str(name), counted(samples, place, progress), options, place))
    return ImportResult(
        columns=tuple(columns),
        created=tuple(name for result in results for name in result.created),
        kinds={name: kind for result in results for name, kind in result.kinds.items()},
        samples=place.samples,
        added=sum(result.added for result in results),
    )


def _members(file: SourceFile, place: Place) -> Iterator[Member]:
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
    files: Sequence[SourceFile], place: Place, options: ImportOptions, nested: bool, progress: Progress | None
) -> Iterator[tuple[Key, Any]]:
    """Yield keys and values of all files."""
    origin: dict[Key, Path] = {}
    number = options.start
    for file in files:
        for member, value in _members(file, place):
            if options.split:
                yield from counted(_split(value, file.path, number, options), place, progress)
                number += len(value)
                continue
            key = _key(file, member, options, nested) if options.key is None else options.key
            if key in origin:
                raise SchemaError(f"{origin[key]} and {file.path} both stand for the key {key!r}")
            origin[key] = file.path
            yield from counted([(key, value)], place, progress)


def _split(value: Any, path: Path, start: int, options: ImportOptions) -> Iterator[tuple[Key, Any]]:
    if not isinstance(value, np.ndarray) or value.ndim == 0:
        raise SchemaError(f"{path} holds no array with a first axis to split")
    return ((_number(start + i, options), np.asarray(row)) for i, row in enumerate(value))


def _number(number: int, options: ImportOptions) -> Key:
    return str(number) if options.key_type == "text" else number


def _key(file: SourceFile, member: str | None, options: ImportOptions, nested: bool) -> Key:
    parts = [] if member is not None and not file.found else [file.base]
    name = "/".join(parts if member is None else [*parts, member])
    if options.exported:
        return nested_key_of_name(name) if nested else key_of_name(name)
    if not nested:
        return typed_key(name, options.key_type)
    sample, sub = split_nested(name)
    return typed_key(str(sample), options.key_type), sub


def _check_names(files: Sequence[SourceFile], options: ImportOptions, nested: bool, clashes: Clashes) -> None:
    """Refuse what can be seen from the names alone, before any file is read."""
    if options.key is not None and (options.split or len(files) != 1 or files[0].format.holds_many):
        raise SchemaError("a key can be given for one file with one value only")
    if options.split:
        clashes.note(_number(options.start, options))
    elif options.key is not None:
        clashes.note(options.key)
    else:
        seen: dict[Key, Path] = {}
        for file in files:
            if file.format.holds_many:
                continue
            key = _key(file, None, options, nested)
            if seen.setdefault(key, file.path) is not file.path:
                raise SchemaError(f"{seen[key]} and {file.path} both stand for the key {key!r}")
            clashes.note(key)
    clashes.refuse()


def _check_member(writer: WriteCheckout, name: str, array: np.ndarray[Any, Any], options: ImportOptions) -> None:
    """See that an array of an archive fits the column of its name, without staging it."""
    if options.split and array.ndim == 0:
        raise SchemaError(f"its member {name!r} has no first axis to split")
    if name not in writer.columns:
        if not options.create:
            raise no_column(name)
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


def _walk(folder: Path, skipped: list[SkippedFile]) -> Iterator[Path]:
    """Yield the files below a folder, sorted; not what is hidden, not through links to folders, and nothing of repositories."""
    for root, folders, names in os.walk(folder):
        entered = []
        for name in sorted(folders):
            reason = "hidden" if name.startswith(".") else "repository" if _is_repository(Path(root, name)) else None
            if reason is None:
                entered.append(name)
            else:
                skipped.append(SkippedFile(Path(root, name), reason))
        folders[:] = entered
        skipped.extend(SkippedFile(Path(root, name), "hidden") for name in sorted(names) if name.startswith("."))
        yield from (Path(root, name) for name in sorted(names) if not name.startswith("."))


def _is_repository(folder: Path) -> bool:
    return (folder / MARKER_KEY).is_file()


def without_suffix(name: str, format: Format | None) -> str:
    """Return a file's name without the suffix by which its format is known, else without what stands behind the last dot."""
    lower = name.lower()
    suffixes = format.suffixes if format is not None else ()
    suffix = next((s for s in sorted(suffixes, key=len, reverse=True) if lower.endswith(s)), None)
    if suffix is None:
        return name.removesuffix(Path(name).suffix) or name
    return name[: len(name) - len(suffix)]
