"""What ``hangarlake import`` is given: files and folders of samples, a table, or a JSON object with a sample in each member."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hangarlake.cli.failures import UsageFailure, interruptible

if TYPE_CHECKING:
    from hangarlake import WriteCheckout
    from hangarlake.formats import ImportOptions, ImportResult, SkippedFile, SourceFile, TableColumns

__all__ = ["Source", "TableArguments", "source_of"]

_INTERRUPTED = "Interrupted; nothing was staged."


@dataclass(frozen=True, slots=True)
class TableArguments:
    """The options for files that hold many samples.

    Attributes
    ----------
    key, value : str or None
        Names of columns of a table.
    per_key : bool
        Whether each member of a JSON object is a sample.
    strip_suffix : bool
        Whether keys lose the suffix of a file's name.
    """

    key: str | None
    value: str | None
    per_key: bool
    strip_suffix: bool


class Source(Protocol):
    """What is to be staged."""

    @property
    def files(self) -> int:
        """How many files it is."""
        ...

    @property
    def skipped(self) -> list[SkippedFile]:
        """What was found and is not taken."""
        ...

    def stage(self, writer: WriteCheckout, progress: Callable[[int], None]) -> ImportResult:
        """Stage everything, or nothing."""
        ...


def source_of(
    paths: list[Path], column: str | None, options: ImportOptions, format: str | None, table: TableArguments
) -> Source:
    """Return what paths and options mean.

    Raises
    ------
    UsageFailure
        They do not go together.
    """
    from hangarlake.formats import delimiter_of

    tables = [path for path in paths if not path.is_dir() and delimiter_of(path, format) is not None]
    if table.per_key or tables:
        what = "--per-key" if table.per_key else f"the table {tables[0]}"
        if len(paths) != 1 or paths[0].is_dir():
            raise UsageFailure(f"{what} is imported by itself: give one file")
        if column is None:
            raise UsageFailure("say with --column where the samples go")
        if options.key is not None or options.split or options.exported or options.variable_shape:
            raise UsageFailure(f"--key, --split, --exported and --variable-shape do not go with {what}")
    if table.per_key:
        if table.key is not None or table.value is not None or paths[0].suffix.lower() != ".json":
            raise UsageFailure("--per-key is for a .json file, and --key-column and --value-column for a table")
        return _Members(paths[0], str(column), options, table.strip_suffix)
    if tables:
        return _table(tables[0], str(column), options, format, table)
    if table.key is not None or table.value is not None or table.strip_suffix:
        raise UsageFailure(
            "--key-column, --value-column and --strip-suffix are for tables (.csv, .tsv), --strip-suffix for --per-key as well"
        )
    return _files(paths, column, options, format)


@dataclass(frozen=True, slots=True)
class _Files:
    column: str | None
    found: list[SourceFile]
    options: ImportOptions
    skipped: list[SkippedFile]

    @property
    def files(self) -> int:
        return len(self.found)

    def stage(self, writer: WriteCheckout, progress: Callable[[int], None]) -> ImportResult:
        from hangarlake.formats import import_columns, import_samples

        if self.column is None:
            return import_columns(writer, self.found[0], self.options, progress=progress)
        with interruptible(_INTERRUPTED):
            return import_samples(writer, self.found, self.column, self.options, progress=progress)


def _files(paths: list[Path], column: str | None, options: ImportOptions, format: str | None) -> _Files:
    from hangarlake.formats import find_files, format_named

    found, skipped = find_files(paths, format=format_named(format) if format else None)
    if column is None and (len(found) != 1 or not found[0].format.holds_many):
        raise UsageFailure("say with --column where the samples go; only a single .npz file can go without")
    if options.key is not None and (options.split or len(found) != 1 or found[0].format.holds_many):
        raise UsageFailure("--key is for one file with one value")
    return _Files(column, found, options, skipped)


@dataclass(frozen=True, slots=True)
class _Members:
    path: Path
    column: str
    options: ImportOptions
    strip_suffix: bool
    files: int = 1
    skipped: list[SkippedFile] = field(default_factory=list)

    def stage(self, writer: WriteCheckout, progress: Callable[[int], None]) -> ImportResult:
        from hangarlake.formats import import_members

        with interruptible(_INTERRUPTED):
            return import_members(
                writer, self.path, self.column, self.options, strip_suffix=self.strip_suffix, progress=progress
            )


@dataclass(frozen=True, slots=True)
class _Table:
    path: Path
    column: str
    options: ImportOptions
    columns: TableColumns
    strip_suffix: bool
    files: int = 1
    skipped: list[SkippedFile] = field(default_factory=list)

    def stage(self, writer: WriteCheckout, progress: Callable[[int], None]) -> ImportResult:
        from hangarlake.formats import import_table

        with interruptible(_INTERRUPTED):
            return import_table(
                writer,
                self.path,
                self.column,
                self.columns,
                self.options,
                strip_suffix=self.strip_suffix,
                progress=progress,
            )


def _table(path: Path, column: str, options: ImportOptions, format: str | None, table: TableArguments) -> _Table:
    from hangarlake.formats import TableColumns, delimiter_of, table_header

    delimiter = delimiter_of(path, format) or ","
    if table.key is None:
        raise UsageFailure(
            f"{path} is a table: say with --key-column which of its columns has the keys ({', '.join(table_header(path, delimiter))})"
        )
    return _Table(
        path, column, options, TableColumns(key=table.key, value=table.value, delimiter=delimiter), table.strip_suffix
    )
