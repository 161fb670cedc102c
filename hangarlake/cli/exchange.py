"""Commands that turn files into samples and samples into files: import, export."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from hangarlake.cli.commands import add_commands
from hangarlake.cli.failures import UsageFailure
from hangarlake.cli.invocation import invocation_of
from hangarlake.cli.keys import KEY_HELP, NEW_KEY_HELP, find_key, is_explicit, parse_key
from hangarlake.cli.options import Branch, DryRun, Json, RevOption, SubKey
from hangarlake.cli.output import print_json, progress, say, size, text_of
from hangarlake.cli.sources import Source, TableArguments, source_of

if TYPE_CHECKING:
    from hangarlake import Diff
    from hangarlake.columns.column import Column
    from hangarlake.formats import ExportResult, ImportResult

__all__ = ["register"]

FormatName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--format",
        "-f",
        help="npy, npz, png, jpeg, tiff, text, json, bytes, csv, tsv, or that of a plug-in.",
        show_default=False,
    ),
]


# Why something was not imported, as it is said of one and of many.
_SKIPPED = {
    "format": ("file of no known format", "files of no known format"),
    "other": ("file of another format", "files of another format"),
    "hidden": ("hidden file or folder", "hidden files and folders"),
    "repository": ("repository", "repositories"),
}


class KeyTypeName(StrEnum):
    """What whole numbers are as keys."""

    TEXT = "text"
    INT = "int"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    add_commands(app, "Data", import_=import_files, export=export_files)


def import_files(
    ctx: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH", help="Files, and folders to take whole; or one table (.csv, .tsv).", show_default=False
        ),
    ],
    column: Annotated[
        str | None,
        typer.Option(
            "--column",
            "-c",
            help="Into which column. An .npz file may go without: a column for each array in it.",
            show_default=False,
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Key of the sample, for a single file. " + NEW_KEY_HELP, show_default=False)
    ] = None,
    sub: SubKey = None,
    key_type: Annotated[
        KeyTypeName | None,
        typer.Option(
            help="What names that are whole numbers are as keys. Text if left out, and refused where the column has the integers.",
            show_default=False,
        ),
    ] = None,
    create: Annotated[
        bool,
        typer.Option(
            "--create",
            help="Make the column if it is not there, for values like the first; from a table int64, float64 or text, as all values allow.",
        ),
    ] = False,
    nested: Annotated[
        bool, typer.Option("--nested", help="With --create: a nested column; the last folder of a path is the sample.")
    ] = False,
    variable_shape: Annotated[
        bool, typer.Option("--variable-shape", help="With --create: samples may differ in shape, as pictures often do.")
    ] = False,
    split: Annotated[
        bool, typer.Option("--split", help="Cut arrays along the first axis into samples, numbered from 0.")
    ] = False,
    start: Annotated[int, typer.Option(min=0, help="With --split: number of the first sample.")] = 0,
    exported: Annotated[
        bool,
        typer.Option("--exported", help="The files come from `hangarlake export`: read their names as it wrote them."),
    ] = False,
    key_column: Annotated[
        str | None,
        typer.Option(
            help="Of a table: the column that has the keys, by its name in the first line.", show_default=False
        ),
    ] = None,
    value_column: Annotated[
        str | None,
        typer.Option(
            help="Of a table: the column that has the values. Without, the whole row goes into a column of JSON.",
            show_default=False,
        ),
    ] = None,
    per_key: Annotated[
        bool,
        typer.Option(
            "--per-key", help="Of a .json file that is one object: each member is a sample, named by its key."
        ),
    ] = False,
    strip_suffix: Annotated[
        bool,
        typer.Option(
            "--strip-suffix",
            help="Keys in the file are names of files: take them without suffix, as imported files are named.",
        ),
    ] = False,
    format: FormatName = None,
    branch: Branch = None,
    as_json: Json = False,
) -> None:
    """Stage files as samples; all of them, or none if anything is wrong with one.

    A file becomes the sample that is named like it, without the suffix; one in a folder takes its path in there as
    key: train/cat.png becomes train/cat. Commit with `hangarlake commit`.

    A table has a sample in each row: `hangarlake import labels.csv --key-column file --strip-suffix --value-column label
    --column labels --create`.
    """
    from hangarlake.formats import ImportOptions, UnclearKeysError

    _check_import(paths, column, key, sub)
    explicit = key is not None and is_explicit(key)
    options = ImportOptions(
        key=_key(key, sub, key_type),
        key_type="text" if explicit else None if key_type is None else key_type.value,
        split=split,
        start=start,
        exported=exported,
        create=create,
        nested=nested,
        variable_shape=variable_shape,
    )
    source = source_of(
        paths,
        column,
        options,
        format,
        TableArguments(key_column, value_column, per_key=per_key, strip_suffix=strip_suffix),
    )
    with invocation_of(ctx).writer(branch) as writer:
        before = writer.status()
        with progress("Importing") as advance:
            try:
                result = source.stage(writer, advance)
            except UnclearKeysError as error:
                raise UsageFailure(str(error)) from error
        after = writer.status()
        changed = sum(_count_changed(before, after, name) for name in result.columns) - result.added
    if as_json:
        counts = {"changed": changed, "unchanged": result.samples - result.added - changed, "files": source.files}
        told = {name: value for name, value in result.to_dict().items() if value is not None}
        print_json({**told, **counts, "skipped": [each.to_dict() for each in source.skipped]})
        return
    _report_import(result, changed, source)


def export_files(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write.", show_default=False)],
    column: Annotated[
        list[str] | None,
        typer.Option("--column", "-c", help="Which column; repeatable. All of them if left out.", show_default=False),
    ] = None,
    key: Annotated[
        list[str] | None, typer.Option(help="Only this sample; repeatable. " + KEY_HELP, show_default=False)
    ] = None,
    rev: RevOption = None,
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            help="npy, npz, png, jpeg, tiff, text, json, bytes, csv, tsv, or that of a plug-in. Arrays, pictures among them, are "
            "written as .npy if left out.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there already.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Write samples to files named after their keys.

    One column is written into FOLDER itself, several into a folder for each. Nothing is ever written outside FOLDER,
    and no file is replaced without --force. With --format csv or tsv a column of single values or text becomes one table,
    of keys and values.

    `hangarlake import --exported` reads the files back to the same keys. For that, and for file systems, some
    characters are escaped as in URLs: a file 12.png is the integer key 12, and the text "12" becomes %312.png (%31 is "1").
    """
    from hangarlake.formats import delimiter_of, export_column, export_table, format_named
    from hangarlake.formats.names import quote_part

    if key and (column is None or len(column) != 1):
        raise UsageFailure("--key needs one --column")
    is_table = format is not None and delimiter_of(folder, format) is not None
    chosen = format_named(format) if format and not is_table else None
    with invocation_of(ctx).open().checkout(rev) as view, progress("Exporting") as advance:
        names = list(dict.fromkeys(column or view.columns))
        columns = {name: view.columns[name] for name in names}

        def write(name: str, *, dry_run: bool) -> ExportResult:
            each = columns[name]
            place = folder if len(columns) == 1 else folder / quote_part(name)
            keys = None if not key else _keys(each, key)
            if is_table:
                return export_table(
                    name, each, place, format=str(format), keys=keys, force=force, dry_run=dry_run, progress=advance
                )
            return export_column(
                name, each, place, format=chosen, keys=keys, force=force, dry_run=dry_run, progress=advance
            )

        if len(columns) > 1:
            # Whatever can be seen to be wrong with one is seen before another is written.
            for name in columns:
                write(name, dry_run=True)
        results = [write(name, dry_run=dry_run) for name in columns]
    if as_json:
        print_json([result.to_dict() for result in results])
        return
    for result in results:
        what = f"{text_of(result.samples, 'sample')} of {result.column} as {text_of(result.files, 'file')} to {result.folder}"
        say(f"Would write {what}." if dry_run else f"Wrote {what}, {size(result.bytes)}.")
    if not results:
        say("There is no column to export.")


def _check_import(paths: list[Path], column: str | None, key: str | None, sub: str | None) -> None:
    for path in paths:
        if not path.exists():
            raise UsageFailure(f"{path} does not exist")
    if key is not None and column is None:
        raise UsageFailure("--key needs --column")
    if sub is not None and key is None:
        raise UsageFailure("--sub needs --key")


def _key(key: str | None, sub: str | None, key_type: KeyTypeName | None) -> Any:
    from hangarlake.formats.samples import typed_key

    if key is None:
        return None
    sample = typed_key(key, key_type.value) if key_type is not None and not is_explicit(key) else parse_key(key)
    return sample if sub is None else (sample, parse_key(sub))


def _keys(column: Column, texts: list[str]) -> list[Any]:
    keys = [find_key(column, text) for text in texts]
    return keys if not column.nested else [(key, sub) for key in keys for sub in column[key]]


def _count_changed(before: Diff, after: Diff, column: str) -> int:
    """Count the samples of a column that two states of what is staged have differently."""
    now = after.columns.get(column)
    if column not in before.columns:
        return sum(now.counts) if now is not None else 0
    old, new = _staged(before, column), _staged(after, column)
    return sum(old.get(key) != new.get(key) for key in old.keys() | new.keys())


def _staged(diff: Diff, column: str) -> dict[Any, tuple[str | None]]:
    change = diff.columns.get(column)
    entries = change.entries() if change is not None else ()
    return {entry.key: (entry.new.digest if entry.new is not None else None,) for entry in entries}


def _kind(result: ImportResult, name: str) -> str:
    return result.kinds[name] + (f": {result.text_reason}" if result.text_reason else "")


def _report_import(result: ImportResult, changed: int, source: Source) -> None:
    into = ", ".join(
        name + (f" (new, {_kind(result, name)})" if name in result.created else "") for name in result.columns
    )
    what = f"{text_of(result.samples, 'sample')} from {text_of(source.files, 'file')}"
    staged = result.added + changed
    counts = [(result.added, "added"), (changed, "changed"), (result.samples - staged, "unchanged")]
    note = ", ".join(f"{count:,} {state}" for count, state in counts if count)
    hint = ""
    if result.suffixed is not None:
        hint = f"; none of these keys is in {result.suffixed!r}, with --strip-suffix all would be"
    if result.samples and not staged:
        say(f"Nothing to stage: {into} has {what} already, with the same values.")
    elif result.added == result.samples:
        say(f"Staged {what} into {into}{hint}.")
    else:
        say(f"Staged {what} into {into}: {note}{hint}.")
    for reason, (one, many) in _SKIPPED.items():
        skipped = [each.path for each in source.skipped if each.reason == reason]
        if skipped:
            shown = ", ".join(map(str, skipped[:3])) + (", …" if len(skipped) > 3 else "")
            say(f"Skipped {text_of(len(skipped), one, many)}: {shown}")
