"""Files that hold a sample in each row or member, beside its key: tables (CSV, TSV), and JSON objects.

They are no :class:`~hangarlake.formats.base.Format`, whose files are values: here the file says which sample is meant, and what a
value is depends on the column that it goes into.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from hangarlake.errors import CorruptionError, SampleNotFoundError, SchemaError
from hangarlake.formats.base import Member, format_for
from hangarlake.formats.cells import Parser, cell_text, kind_of, parser_of
from hangarlake.formats.exporting import ExportResult, check_targets, key_count, values_of, write_file
from hangarlake.formats.importing import without_suffix
from hangarlake.formats.names import Key, quote_part, split_nested
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

if TYPE_CHECKING:
    from hangarlake.columns.column import Column
    from hangarlake.write_checkout import WriteCheckout

__all__ = ["TableColumns", "delimiter_of", "export_table", "import_members", "import_table", "table_header"]

# Characters of a cell that a message quotes.
_SHOWN = 40
# Keys that are looked up in other columns.
_COMPARED = 5
_DELIMITERS = {"csv": ",", "tsv": "\t"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TableColumns:
    """What of a table is used.

    Attributes
    ----------
    key : str
        Name of the column that has the keys.
    value : str, optional
        Name of the column that has the values. Without, the whole row is the value: an object of texts, for columns of JSON.
    delimiter : str
        Between the cells of a row.
    """

    key: str
    value: str | None = None
    delimiter: str = ","


def delimiter_of(path: Path, format: str | None = None) -> str | None:
    """Return what separates the cells of a table, by the format that is asked for or else the file's suffix; ``None``: it is no table."""
    return _DELIMITERS.get(format if format is not None else path.suffix.lower().removeprefix("."))


def table_header(path: Path, delimiter: str) -> list[str]:
    """Return the names in the first row of a table.

    Raises
    ------
    CorruptionError
        The file is no table, or has no header.
    """
    with _rows(path, delimiter) as (header, _):
        return header


def import_table(
    writer: WriteCheckout,
    path: Path,
    column: str,
    table: TableColumns,
    options: ImportOptions = DEFAULTS,
    *,
    strip_suffix: bool = False,
    progress: Progress | None = None,
) -> ImportResult:
    """Stage a sample for each row of a table, which is read as a stream; all of them, or none if anything is wrong with any.

    Parameters
    ----------
    writer : WriteCheckout
    path : Path
        UTF-8, with a header.
    column : str
        Of kind ``ndarray`` with shape ``()``, ``str`` or ``json``. With ``options.create`` it is made where it is not there: of dtype
        int64 if all values are whole numbers, else float64 if they are numbers, else of text; of JSON without a value column.
    table : TableColumns
    options : ImportOptions
        `key_type`, `create` and `nested` count.
    strip_suffix : bool
        Take keys without the suffix of a file's name, as imported files have them.
    progress : callable, optional
        Called with the number of rows read since the last call.

    Raises
    ------
    SchemaError
        A value does not parse, a key comes twice, a column of the table is missing. The message has the number of the line.
    CorruptionError
        The file is no table.
    UnclearKeysError, NodeNotFoundError
    """
    place = Place()
    place.path = path
    with place.named():
        _check_header(path, table)
        target = writer.columns.get(column)
        parse: Parser | None
        reason = None
        if target is not None:
            parse = parser_of(column, target, whole=table.value is None)
            options = replace(options, nested=target.nested)
        elif not options.create:
            raise no_column(column)
        else:
            parse = None
            if table.value is not None:
                values = _Values(path, table)
                parse = kind_of(values)
                reason = values.reason if parse is str else None
        first: list[Key] = []
        samples = _noting_first(_samples(path, table, parse, options, strip_suffix=strip_suffix), first)
        clashes = Clashes(column, None if options.key_type is not None else target)
        result = stage_samples(writer, column, clashes.watch(counted(samples, place, progress)), options, place)
        suffixed = None if strip_suffix else _column_of_stripped(writer, column, first)
        return replace(result, text_reason=reason, suffixed=suffixed)


def import_members(
    writer: WriteCheckout,
    path: Path,
    column: str,
    options: ImportOptions = DEFAULTS,
    *,
    strip_suffix: bool = False,
    progress: Progress | None = None,
) -> ImportResult:
    """Stage a sample for each member of the one object in a JSON file; all of them, or none if anything is wrong with any.

    The file is read whole. A column that is made is one of JSON; else numbers and texts are taken by columns of these, too.

    Raises
    ------
    SchemaError
        A value does not fit the column, or two names lead to one key. The message has the name.
    CorruptionError
        The file is not JSON, or no object.
    UnclearKeysError, NodeNotFoundError
    """
    place = Place()
    place.path = path
    members = _object(path)
    with place.named():
        target = writer.columns.get(column)
        # None: as they are, for a column of JSON.
        parse = None if target is None or target.kind == "json" else parser_of(column, target, whole=False)
        if target is not None:
            options = replace(options, nested=target.nested)
        elif not options.create:
            raise no_column(column)
        first: list[Key] = []
        samples = _noting_first(_member_samples(members, parse, options, strip_suffix=strip_suffix), first)
        clashes = Clashes(column, None if options.key_type is not None else target)
        result = stage_samples(writer, column, clashes.watch(counted(samples, place, progress)), options, place)
        return replace(result, suffixed=None if strip_suffix else _column_of_stripped(writer, column, first))


def export_table(
    name: str,
    column: Column,
    folder: Path,
    *,
    format: str = "csv",
    keys: Sequence[Key] | None = None,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> ExportResult:
    """Write a column of single values or text as one table, ``<column>.csv``, with the columns ``key`` and ``value``.

    The file appears whole or not at all.

    Raises
    ------
    SchemaError
        A table cannot hold the column, or has one name for two keys (1 and ``"1"``).
    FileExistsError, SampleNotFoundError
        As :func:`~hangarlake.formats.exporting.export_column` does.
    """
    single = column.kind == "str" or (column.kind == "ndarray" and column.shape == () and not column.variable_shape)
    if not single or column.nested:
        what = (
            "nested"
            if column.nested
            else f"of {column.kind} values" + (f" of shape {column.shape}" if column.shape else "")
        )
        raise SchemaError(
            f"a table holds single values and text, and the column {name!r} is {what}; export it in another format"
        )
    wanted: Sequence[Key] | None = None if keys is None else list(dict.fromkeys(keys))
    for key in wanted or ():
        if key not in column:
            raise SampleNotFoundError(f"the column {name!r} has no sample {key!r}")
    target = f"{quote_part(name)}.{format}"
    check_targets(folder, [target], force=force)
    count = key_count(column, wanted)
    if dry_run:
        return ExportResult(name, str(folder), count, 1, 0)
    folder.mkdir(parents=True, exist_ok=True)
    rows = ((None, pair) for pair in values_of(column, wanted, progress))
    written = write_file(folder, target, _TableWriter(name, _DELIMITERS[format]), rows, force=force)
    return ExportResult(name, str(folder), count, 1, written)


class _TableWriter:
    """Writes keys and values as the rows of a table."""

    def __init__(self, column: str, delimiter: str) -> None:
        self._column = column
        self._delimiter = delimiter

    def write(self, path: Path, members: Iterable[Member]) -> None:
        integers: set[str] = set()
        with path.open("x", encoding="utf-8", newline="") as file:
            # With both characters of a line end in its terminator, the module quotes values that hold either.
            rows = csv.writer(file, delimiter=self._delimiter, lineterminator="\r\n")
            rows.writerow(("key", "value"))
            for _, (key, value) in members:
                text = str(key)
                if isinstance(key, int):
                    integers.add(text)
                elif text in integers:
                    raise SchemaError(
                        f"the column {self._column!r} has the integer key {text} and the text {text!r}, which a table writes alike; "
                        "export it in another format"
                    )
                rows.writerow((text, cell_text(value)))


# ---- reading tables -----------------------------------------------------------------------------------------------------


@contextmanager
def _rows(path: Path, delimiter: str) -> Iterator[tuple[list[str], Iterator[tuple[int, list[str]]]]]:
    """Open a table: its header, and its rows with the numbers of their lines."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = _numbered(file, path, delimiter)
        _, header = next(rows, (0, []))
        if not any(name.strip() for name in header):
            raise CorruptionError(f"{path} has no header: its first line names the columns")
        yield header, rows


def _numbered(file: IO[str], path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except (csv.Error, UnicodeDecodeError) as error:
        raise CorruptionError(f"cannot read {path} as a table: line {reader.line_num + 1}: {error}") from error


def _check_header(path: Path, table: TableColumns) -> None:
    header = table_header(path, table.delimiter)
    for name in (table.key, table.value):
        if name is not None and header.count(name) != 1:
            twice = "twice a column" if name in header else "no column"
            raise SchemaError(f"the table has {twice} {name!r}; its first line has: {', '.join(header)}")
    if table.value is None and len(set(header)) != len(header):
        raise SchemaError(
            f"the table has two columns of one name, so a row is no object; its first line has: {', '.join(header)}"
        )


class _Values:
    """The texts of the value column, and what is to be said of the last one taken: the one that is no number."""

    def __init__(self, path: Path, table: TableColumns) -> None:
        self._path = path
        self._table = table
        self.reason: str | None = None

    def __iter__(self) -> Iterator[str]:
        with _rows(self._path, self._table.delimiter) as (header, rows):
            at = header.index(str(self._table.value))
            for number, (line, row) in enumerate(rows):
                _check_width(line, row, header)
                text = row[at]
                if not text.strip():
                    self.reason = f"line {line} has an empty value"
                else:
                    # A table that begins with text is one of text, without further reason.
                    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
                    self.reason = f"line {line} has {shown!r}" if number else None
                yield text


def _samples(
    path: Path, table: TableColumns, parse: Parser | None, options: ImportOptions, *, strip_suffix: bool
) -> Iterator[tuple[Key, Any]]:
    seen: dict[Key, int] = {}
    with _rows(path, table.delimiter) as (header, rows):
        key_at = header.index(table.key)
        value_at = None if table.value is None else header.index(table.value)
        for line, row in rows:
            _check_width(line, row, header)
            try:
                key = _key(row[key_at], options, strip_suffix=strip_suffix)
                value = dict(zip(header, row, strict=True)) if value_at is None else row[value_at]
                value = value if parse is None or value_at is None else parse(row[value_at])
            except SchemaError as error:
                raise SchemaError(f"{path}: line {line}: {error}") from error
            if key in seen:
                raise SchemaError(f"{path}: lines {seen[key]} and {line} both have the key {key!r}")
            seen[key] = line
            yield key, value


def _check_width(line: int, row: list[str], header: list[str]) -> None:
    if len(row) != len(header):
        raise SchemaError(f"line {line} has {len(row)} cells, and the header {len(header)}")


def _key(text: str, options: ImportOptions, *, strip_suffix: bool) -> Key:
    name = without_suffix(text, format_for(Path(text))) if strip_suffix else text
    if not name:
        raise SchemaError("the key is empty")
    if not options.nested:
        return typed_key(name, options.key_type)
    sample, sub = split_nested(name)
    return typed_key(sample, options.key_type), sub


def _noting_first(samples: Iterator[tuple[Key, Any]], first: list[Key]) -> Iterator[tuple[Key, Any]]:
    for key, value in samples:
        if len(first) < _COMPARED:
            first.append(key)
        yield key, value


def _column_of_stripped(writer: WriteCheckout, column: str, keys: Sequence[Key]) -> str | None:
    """Return another column that has all these keys without their suffix, where no other column has any of them as it is."""
    texts = [key for key in keys if isinstance(key, str)]
    stripped = [without_suffix(text, format_for(Path(text))) for text in texts]
    if not texts or len(texts) < len(keys) or any(short == text for short, text in zip(stripped, texts, strict=True)):
        return None
    found = None
    for name, other in writer.columns.items():
        if name == column:
            continue
        if any(text in other for text in texts):
            return None
        if found is None and all(short in other for short in stripped):
            found = name
    return found


# ---- reading JSON objects -----------------------------------------------------------------------------------------------


def _object(path: Path) -> dict[str, Any]:
    from hangarlake.formats.plain import refuse_constant

    try:
        found = json.loads(
            path.read_bytes().decode("utf-8-sig"), parse_constant=refuse_constant, object_pairs_hook=_unique
        )
    except (ValueError, RecursionError) as error:
        raise CorruptionError(f"cannot read {path} as json: {error}") from error
    if not isinstance(found, dict):
        raise CorruptionError(f"{path} holds no object, of which each member would be a sample")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"an object has the member {next(n for n in names if names.count(n) > 1)!r} twice")
    return members


def _member_samples(
    members: dict[str, Any], parse: Parser | None, options: ImportOptions, *, strip_suffix: bool
) -> Iterator[tuple[Key, Any]]:
    seen: dict[Key, str] = {}
    for name, value in members.items():
        try:
            key = _key(name, options, strip_suffix=strip_suffix)
            sample = value if parse is None else parse(_scalar_text(value))
        except SchemaError as error:
            raise SchemaError(f"member {name!r}: {error}") from error
        if key in seen:
            raise SchemaError(f"the members {seen[key]!r} and {name!r} both stand for the key {key!r}")
        seen[key] = name
        yield key, sample


def _scalar_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise SchemaError("it is no single value; a column of JSON takes it")
