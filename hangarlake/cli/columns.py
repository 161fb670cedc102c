"""``hangarlake column``: what columns there are, and making, renaming and removing them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hangarlake.cli.commands import add_group
from hangarlake.cli.failures import UsageFailure
from hangarlake.cli.invocation import invocation_of
from hangarlake.cli.options import Branch, DryRun, Json, RevOption, Staged, Yes
from hangarlake.cli.output import confirm, note_writer, print_json, print_table, say, size, text_of

if TYPE_CHECKING:
    from hangarlake.checkout import Checkout
    from hangarlake.columns.column import Column
    from hangarlake.staged import StagedCheckout

__all__ = ["register"]


class Kind(StrEnum):
    """Kinds of columns."""

    NDARRAY = "ndarray"
    STR = "str"
    BYTES = "bytes"
    JSON = "json"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    about = "List, add, rename and remove columns."
    add_group(app, "Data", "column", about, add=add, ls=ls, info=info, rename=rename, remove=remove)


def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the column.", show_default=False)],
    kind: Annotated[Kind, typer.Option(help="What its samples are.")] = Kind.NDARRAY,
    dtype: Annotated[
        str | None, typer.Option(help="NumPy dtype of the arrays: uint8, float32, datetime64[ns] …", show_default=False)
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            help="Shape of every array, like 28,28; empty for scalars. With --variable-shape the maximum, * for unbounded.",
            show_default=False,
        ),
    ] = None,
    variable_shape: Annotated[
        bool, typer.Option("--variable-shape", help="Samples may differ in shape, not in rank.")
    ] = False,
    nested: Annotated[
        bool, typer.Option("--nested", help="Every sample holds several values, under keys of their own.")
    ] = False,
    compressor: Annotated[str | None, typer.Option(help="zstd, blosc, gzip or none.", show_default=False)] = None,
    level: Annotated[int | None, typer.Option(help="How hard to compress.", show_default=False)] = None,
    branch: Branch = None,
) -> None:
    """Stage a new column."""
    encoding = _encoding(compressor, level)
    with invocation_of(ctx).writer(branch) as writer:
        if kind is Kind.NDARRAY:
            if dtype is None or shape is None:
                raise UsageFailure("a column of arrays needs --dtype and --shape (or --kind str, bytes or json)")
            writer.add_ndarray_column(
                name,
                shape=_shape(shape, variable_shape),
                dtype=_dtype(dtype),
                variable_shape=variable_shape,
                nested=nested,
                encoding=encoding,
            )
        else:
            if dtype is not None or shape is not None or variable_shape:
                raise UsageFailure(f"--dtype, --shape and --variable-shape are for arrays, not for --kind {kind.value}")
            adders = {
                Kind.STR: writer.add_str_column,
                Kind.BYTES: writer.add_bytes_column,
                Kind.JSON: writer.add_json_column,
            }
            adders[kind](name, nested=nested, encoding=encoding)
    say(f"Staged the new column {name}.")


def ls(
    ctx: typer.Context, rev: RevOption = None, branch: Branch = None, staged: Staged = False, as_json: Json = False
) -> None:
    """List the columns of a revision."""
    with _view(ctx, rev, branch, staged) as view:
        described = [_describe(name, column) for name, column in view.columns.items()]
    if as_json:
        print_json(described)
        return
    print_table(
        ("column", "kind", "dtype", "shape", "samples", "size"),
        [
            (
                each["name"] + (" (nested)" if each["nested"] else ""),
                each["kind"],
                each["dtype"] or "",
                _shape_text(each),
                f"{each['samples']:,}",
                size(each["bytes"]),
            )
            for each in described
        ],
        right=("samples", "size"),
    )


def info(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the column.", show_default=False)],
    rev: RevOption = None,
    branch: Branch = None,
    staged: Staged = False,
    as_json: Json = False,
) -> None:
    """Describe one column."""
    with _view(ctx, rev, branch, staged) as view:
        described = _describe(name, view.columns[name])
    if as_json:
        print_json(described)
        return
    say(f"{name}: {text_of(described['samples'], 'sample')}, {size(described['bytes'])}")
    say(f"kind      {described['kind']}{', nested' if described['nested'] else ''}")
    if described["kind"] == Kind.NDARRAY.value:
        say(f"dtype     {described['dtype']}")
        say(f"shape     {_shape_text(described)}{' at most' if described['variable_shape'] else ''}")


def rename(
    ctx: typer.Context,
    old: Annotated[str, typer.Argument(help="Its name now.", show_default=False)],
    new: Annotated[str, typer.Argument(help="Its new name.", show_default=False)],
    branch: Branch = None,
) -> None:
    """Stage another name for a column."""
    with invocation_of(ctx).writer(branch) as writer:
        writer.rename(old, new)
    say(f"Staged: {old} becomes {new}.")


def remove(
    ctx: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Columns to remove.", show_default=False)],
    branch: Branch = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Stage the removal of columns. Earlier commits keep them."""
    with invocation_of(ctx).writer(branch) as writer:
        # All are looked up before any is removed.
        counts = {name: len(writer.columns[name]) for name in names}
        listed = ", ".join(f"{name} ({text_of(count, 'sample')})" for name, count in counts.items())
        if dry_run:
            say(f"Would remove {listed}.")
            return
        confirm(f"Remove {listed}?", yes=yes)
        for name in counts:
            writer.remove(name)
    say(f"Staged the removal of {listed}.")


@contextmanager
def _view(ctx: typer.Context, rev: str | None, branch: str | None, staged: bool) -> Iterator[Checkout | StagedCheckout]:
    if rev is not None and (staged or branch is not None):
        raise UsageFailure("--rev shows a commit as it is; --staged and --branch show what is about to be one")
    repo = invocation_of(ctx).open()
    if staged:
        with repo.staged(branch) as looked_at:
            note_writer(looked_at.writer, looked_at.branch)
            yield looked_at
        return
    with repo.checkout(rev or branch) as view:
        yield view


def _describe(name: str, column: Column) -> dict[str, Any]:
    return {
        "name": name,
        "kind": column.kind,
        "dtype": None if column.dtype is None else str(column.dtype),
        "shape": None if column.shape is None else list(column.shape),
        "variable_shape": column.variable_shape,
        "nested": column.nested,
        "samples": len(column),
        "bytes": column.nbytes,
    }


def _shape_text(described: dict[str, Any]) -> str:
    if described["shape"] is None:
        return ""
    dims = ", ".join("*" if length is None else str(length) for length in described["shape"])
    return f"({dims}{',' if len(described['shape']) == 1 else ''})"


def _shape(text: str, variable: bool) -> tuple[int | None, ...]:
    parts = [part.strip() for part in text.strip("() ").split(",") if part.strip()]
    if not all(part.isdecimal() or (variable and part == "*") for part in parts):
        raise UsageFailure(
            f"--shape {text!r} has to be whole numbers with commas between them" + (", or *" if variable else "")
        )
    return tuple(None if part == "*" else int(part) for part in parts)


def _dtype(text: str) -> Any:
    import numpy as np

    try:
        return np.dtype(text)
    except TypeError as error:
        raise UsageFailure(f"--dtype {text!r} is none that NumPy knows") from error


def _encoding(compressor: str | None, level: int | None) -> dict[str, Any] | None:
    encoding: dict[str, Any] = {}
    if compressor is not None:
        encoding["compressor"] = None if compressor == "none" else compressor
    if level is not None:
        encoding["level"] = level
    return encoding or None
