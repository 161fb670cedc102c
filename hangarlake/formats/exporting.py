"""Columns into files: never outside the folder, never over a file that is there already."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hangarlake.errors import HangarlakeError, SampleNotFoundError, SchemaError
from hangarlake.formats.base import Format, Member, format_named
from hangarlake.formats.names import Key, file_names, quote_part

if TYPE_CHECKING:
    from hangarlake.columns.column import Column

__all__ = ["ExportResult", "check_targets", "default_format", "export_column", "key_count", "values_of", "write_file"]

Progress = Callable[[int], None]
_BATCH = 256


class Writer(Protocol):
    """What of a format is needed to write a file."""

    def write(self, path: Path, members: Iterable[Member]) -> None:
        """Write a new file."""
        ...


_DEFAULTS = {"ndarray": "npy", "str": "text", "json": "json", "bytes": "bytes"}


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What an export has written, or would write.

    Attributes
    ----------
    column : str
        Which column.
    folder : str
        Where to.
    samples : int
        Samples in the files.
    files : int
        Number of files.
    bytes : int
        Their size together; 0 in a dry run.
    """

    column: str
    folder: str
    samples: int
    files: int
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-ready values."""
        return asdict(self)


def default_format(kind: str) -> Format:
    """Return the format in which columns of a kind are exported unless one is asked for."""
    try:
        return format_named(_DEFAULTS[kind])
    except KeyError:
        raise SchemaError(
            f"columns of kind {kind!r} have no file format of their own; choose one with --format"
        ) from None


def export_column(
    name: str,
    column: Column,
    folder: str | os.PathLike[str],
    *,
    format: Format | None = None,
    keys: Sequence[Key] | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> ExportResult:
    """Write the samples of a column to files below a folder.

    Every sample becomes a file named after its key (:mod:`hangarlake.formats.names` says how), or a member of one
    archive ``<column>.npz`` where the format holds many. All names are checked before the first file is written, and
    each file appears whole or not at all.

    Raises
    ------
    FileExistsError
        A file is there already, and `force` was not asked for.
    SchemaError
        The format cannot hold a value exactly, or the way to a file leads through a link.
    SampleNotFoundError
        One of `keys` is not in the column.
    """
    root = Path(folder)
    chosen = format or default_format(column.kind)
    if column.kind not in chosen.kinds:
        raise SchemaError(
            f"the format {chosen.name} holds {' and '.join(sorted(chosen.kinds))} values, "
            f"and the column {name!r} holds {column.kind} values"
        )
    wanted = list(_all_keys(column)) if keys is None else list(dict.fromkeys(keys))
    if keys is not None:
        for key in wanted:
            if key not in column:
                raise SampleNotFoundError(f"the column {name!r} has no sample {key!r}")
    suffix = chosen.suffixes[0]
    names = file_names(wanted, suffix)
    targets = [f"{quote_part(name)}{suffix}"] if chosen.holds_many else list(names.values())
    check_targets(root, targets, force=force)
    if dry_run:
        return ExportResult(name, str(root), len(wanted), len(targets), 0)
    root.mkdir(parents=True, exist_ok=True)
    written = 0
    if chosen.holds_many:
        members = (
            (names[key].removesuffix(suffix), value) for key, value in _counted(_values(column, wanted), progress)
        )
        written = write_file(root, targets[0], chosen, members, force=force)
    else:
        for key, value in _counted(_values(column, wanted), progress):
            written += write_file(root, names[key], chosen, [(None, value)], force=force)
    return ExportResult(name, str(root), len(wanted), len(targets), written)


def key_count(column: Column, keys: Sequence[Key] | None) -> int:
    """Return how many samples an export has: those of `keys`, else all."""
    return len(column) if keys is None else len(keys)


def values_of(column: Column, keys: Sequence[Key] | None, progress: Progress | None) -> Iterator[tuple[Key, Any]]:
    """Yield keys with their values, by default of a whole column, read in batches."""
    return _counted(_values(column, _all_keys(column) if keys is None else keys), progress)


def _all_keys(column: Column) -> Iterator[Key]:
    for key in column:
        if column.nested:
            yield from ((key, sub) for sub in column[key])
        else:
            yield key


def _values(column: Column, keys: Iterable[Key]) -> Iterator[tuple[Key, Any]]:
    """Yield every key with its value, read in batches."""
    rest = iter(keys)
    while batch := list(islice(rest, _BATCH)):
        yield from zip(batch, column.batch(batch), strict=True)


def _counted(pairs: Iterable[tuple[Key, Any]], progress: Progress | None) -> Iterator[tuple[Key, Any]]:
    for pair in pairs:
        yield pair
        if progress is not None:
            progress(1)


def check_targets(root: Path, targets: Iterable[str], *, force: bool) -> None:
    """See before anything is written that no file is in the way and that no link leads out of the folder.

    Raises
    ------
    FileExistsError, SchemaError
    """
    if root.exists() and not root.is_dir():
        raise FileExistsError(f"{root} is a file; give a folder to write to")
    checked: set[Path] = set()
    for target in targets:
        path = root / target
        for folder in list(path.relative_to(root).parents)[:-1]:
            if folder not in checked:
                checked.add(folder)
                _check_folder(root / folder)
        if os.path.lexists(path):
            if not force:
                raise FileExistsError(f"{path} exists already; pass --force to replace files")
            if path.is_dir() and not path.is_symlink():
                raise FileExistsError(
                    f"{path} is a folder, and a file of that name is to be written; choose another place"
                )


def _check_folder(folder: Path) -> None:
    if folder.is_symlink():
        raise SchemaError(
            f"{folder} is a link, and files are written below the folder itself only; remove it or choose another place"
        )
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file, and a folder of that name is needed; choose another place")


def write_file(root: Path, target: str, format: Writer, members: Iterable[Member], *, force: bool) -> int:
    """Write one file beside its place and move it there when it is complete. Return its size."""
    path = root / target
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.parent / f".hangarlake-{secrets.token_hex(8)}.part"
    try:
        format.write(part, members)
        size = part.stat().st_size
        if force:
            part.replace(path)
        else:
            _place(part, path)
    except HangarlakeError as error:
        if isinstance(error, SchemaError) and target not in str(error):
            raise SchemaError(f"{path}: {error}") from error
        raise
    finally:
        with suppress(FileNotFoundError):
            part.unlink()
    return size


def _place(part: Path, path: Path) -> None:
    """Move a file to where there is none; a file that appeared meanwhile is not replaced."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise FileExistsError(f"{path} exists already; pass --force to replace files") from None
    except OSError:
        # A file system without hard links: look once more, and move.
        if os.path.lexists(path):
            raise FileExistsError(f"{path} exists already; pass --force to replace files") from None
        part.replace(path)
