"""``hangarlake array``: the Zarr hierarchy: listing, making, bringing in and taking out arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hangarlake.cli.commands import add_group
from hangarlake.cli.failures import Failure, UsageFailure
from hangarlake.cli.hierarchy import hierarchy_lines, numbers_text
from hangarlake.cli.invocation import invocation_of
from hangarlake.cli.options import Branch, DryRun, Json, RevOption, Yes
from hangarlake.cli.output import confirm, print_json, print_table, say, size, text_of

if TYPE_CHECKING:
    from hangarlake.arrays.array import Array
    from hangarlake.write_checkout import WriteCheckout

__all__ = ["register"]

_SUFFIXES = (".npy", ".zarr", ".nc")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    about = "List, create, rename, remove, import and export Zarr arrays."
    commands: dict[str, Callable[..., None]]
    commands = {"ls": ls, "info": info, "create": create, "rename": rename, "remove": remove}
    add_group(app, "Data", "array", about, **commands, import_=import_, export=export)


def ls(ctx: typer.Context, rev: RevOption = None, as_json: Json = False) -> None:
    """List the arrays of a revision."""
    with invocation_of(ctx).open().checkout(rev) as view:
        described = [_describe(array) for array in view.arrays.values()]
    if as_json:
        print_json(described)
        return
    print_table(
        ("array", "dtype", "shape", "chunks", "size", "stored"),
        [
            (
                each["path"] or "/",
                each["dtype"],
                numbers_text(each["shape"]),
                numbers_text(each["shards"] or each["chunks"]),
                size(each["nbytes"]),
                size(each["nbytes_stored"]),
            )
            for each in described
        ],
        right=("size", "stored"),
    )


def info(
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(help="Path of an array or group.", show_default=False)],
    rev: RevOption = None,
    as_json: Json = False,
) -> None:
    """Describe an array, or list what a group holds."""
    from hangarlake.arrays.metadata import storable
    from hangarlake.cli.values import json_ready

    with invocation_of(ctx).open().checkout(rev) as view:
        name = path.strip("/") or "/"
        if name in view.arrays:
            array = view.arrays[name]
            if as_json:
                facts = {"fill_value": json_ready(array.fill_value), "attributes": storable(dict(array.attrs))}
                print_json({**_describe(array), **facts})
                return
            for label, value in {**_describe(array), "path": name, "fill_value": array.fill_value}.items():
                if value is not None:
                    say(f"{label + ':':<16} {numbers_text(value) if isinstance(value, list) else value}")
            for key, value in array.attrs.items():
                say(f"  {key} = {_attribute_text(array, key, value)}")
            return
        lines = hierarchy_lines(view, "" if name == "/" else name)
        if not lines:
            view.arrays[name]  # raises, telling which there are
        if as_json:
            below = [each for each in view.arrays if name == "/" or each.startswith(name + "/")]
            print_json({"path": "" if name == "/" else name, "arrays": below})
            return
        say("\n".join(lines))


def create(
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(help="Path of the new array.", show_default=False)],
    shape: Annotated[str, typer.Option(help="Like 720,1440.", show_default=False)],
    dtype: Annotated[str, typer.Option(help="NumPy dtype: float32, int16, datetime64[ns] …", show_default=False)],
    chunks: Annotated[
        str | None, typer.Option(help="Shape of the chunks; chosen by zarr if left out.", show_default=False)
    ] = None,
    shards: Annotated[str | None, typer.Option(help="Shape of the shards, if any.", show_default=False)] = None,
    fill_value: Annotated[str, typer.Option(help="The value of what is not stored.")] = "0",
    dimensions: Annotated[str | None, typer.Option(help="Names, like time,lat,lon.", show_default=False)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is at the path.")] = False,
    branch: Branch = None,
    yes: Yes = False,
) -> None:
    """Stage a new array; groups above it are made as needed."""
    import numpy as np

    try:
        kind = np.dtype(dtype)
        fill = np.array(fill_value).astype(kind)[()] if kind.kind not in "US" or fill_value != "0" else kind.type()
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageFailure(f"--dtype {dtype} with --fill-value {fill_value}: {error}") from error
    target = path.strip("/")
    if overwrite and not target:
        raise UsageFailure("--overwrite replaces what is at a path: give one")
    with invocation_of(ctx).writer(branch) as writer:
        if overwrite and _is_there(writer, target):
            confirm(f"Replace everything at {target}?", yes=yes)
        writer.create_array(
            path,
            shape=_shape("--shape", shape),
            dtype=kind,
            chunks=None if chunks is None else _shape("--chunks", chunks),
            shards=None if shards is None else _shape("--shards", shards),
            fill_value=fill,
            dimension_names=None if dimensions is None else dimensions.split(","),
            overwrite=overwrite,
        )
    say(f"Staged the new array {path or '/'}.")


def import_(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(help="A .npy or .nc file, or a .zarr folder.", show_default=False)],
    path: Annotated[
        str | None,
        typer.Argument(
            help="Path of the array (.npy) or group (.nc, .zarr); else the file's name.", show_default=False
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is at the path.")] = False,
    branch: Branch = None,
    yes: Yes = False,
) -> None:
    """Stage the arrays of a file: .npy as one array, .nc and .zarr as a group; all of them, or none if anything is wrong."""
    from hangarlake.cli.array_files import opened, stage

    target = (path if path is not None else source.stem).strip("/")
    if overwrite and not target:
        raise UsageFailure("--overwrite replaces what is at a path: give one")
    with opened(source, _suffix(source)) as data, invocation_of(ctx).writer(branch) as writer:
        if overwrite and (target in writer or any(each.startswith(f"{target}/") for each in writer)):
            confirm(f"Replace everything at {target}?", yes=yes)
        stage(data, writer, target, overwrite=overwrite)
    say(f"Staged {target or '/'}.")


def export(
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(help="Path of an array (.npy) or group (.nc, .zarr).", show_default=False)],
    target: Annotated[Path, typer.Argument(help="A .npy or .nc file, or a .zarr folder.", show_default=False)],
    rev: RevOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
) -> None:
    """Write an array or group to a file, which appears whole or not at all."""
    from hangarlake.cli.array_files import write

    suffix = _suffix(target)
    if target.exists() and not overwrite:
        raise Failure(f"{target} is there already; choose another name, or pass --overwrite")
    with invocation_of(ctx).open().checkout(rev) as view:
        write(view, path.strip("/"), target, suffix)
    say(f"Wrote {target}.")


def _attribute_text(array: Array, name: str, value: Any) -> str:
    """Return an attribute as text; a fill value that xarray wrote for floating-point numbers as the number."""
    import base64
    import struct

    import numpy as np

    if name == "_FillValue" and isinstance(value, str) and array.dtype.kind == "f":
        try:
            (number,) = struct.unpack("<d", base64.b64decode(value, validate=True))
        except (ValueError, struct.error):
            return repr(value)
        return str(number)
    return str(value) if isinstance(value, np.generic) else repr(value)


def rename(
    ctx: typer.Context,
    old: Annotated[str, typer.Argument(help="Its path now.", show_default=False)],
    new: Annotated[str, typer.Argument(help="Its new path.", show_default=False)],
    branch: Branch = None,
) -> None:
    """Stage another path for an array, or for a group with everything in it."""
    source, target = old.strip("/"), new.strip("/")
    with invocation_of(ctx).writer(branch) as writer:
        _arrays_at(writer, source)
        writer.rename(source, target)
    say(f"Staged: {source} becomes {target}.")


def remove(
    ctx: typer.Context,
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", help="Arrays to remove, and groups with all in them.", show_default=False),
    ],
    branch: Branch = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Stage the removal of arrays and groups. Earlier commits keep them."""
    with invocation_of(ctx).writer(branch) as writer:
        # All are looked up before any is removed.
        found = {path: _arrays_at(writer, path) for path in dict.fromkeys(path.strip("/") for path in paths)}
        listed = ", ".join(
            path if arrays == [path] else f"{path} ({text_of(len(arrays), 'array')})" for path, arrays in found.items()
        )
        if dry_run:
            say(f"Would remove {listed}.")
            return
        confirm(f"Remove {listed}?", yes=yes)
        for path in found:
            if _is_there(writer, path):  # not gone with a group above it
                writer.remove(path)
    say(f"Staged the removal of {listed}.")


def _is_there(writer: WriteCheckout, path: str) -> bool:
    table = writer.node_table
    return path in table or path in table.children


def _arrays_at(writer: WriteCheckout, path: str) -> list[str]:
    """Return the arrays at a path and below it; a column of that name is none of this command's."""
    if not _is_there(writer, path) or path in writer.columns:
        writer.arrays[path]  # raises, telling which there are
    return [name for name in writer.arrays if name == path or name.startswith(f"{path}/")]


def _describe(array: Array) -> dict[str, Any]:
    return {
        "path": array.path,
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "chunks": list(array.chunks) if array.chunks is not None else None,
        "shards": list(array.shards) if array.shards is not None else None,
        "dimension_names": list(array.dimension_names) if array.dimension_names is not None else None,
        "nbytes": array.nbytes,
        "nbytes_stored": array.nbytes_stored,
        "nchunks": array.nchunks_initialized,
    }


def _shape(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UsageFailure(f"{option} is numbers with commas between them, like 720,1440, not {text!r}") from None


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise UsageFailure(f"{path} is none of {', '.join(_SUFFIXES)}")
    return suffix
