"""``hangarlake array``: the Zarr hierarchy: listing, making, bringing in and taking out arrays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hangarlake.cli.failures import Failure, UsageFailure
from hangarlake.cli.invocation import invocation_of
from hangarlake.cli.output import Json, Yes, confirm, print_json, print_table, say, size

if TYPE_CHECKING:
    from hangarlake.arrays.array import Array
    from hangarlake.checkout import BaseCheckout
    from hangarlake.write_checkout import WriteCheckout

__all__ = ["hierarchy_lines", "region_text", "register"]

_PANEL = "Data"
_SUFFIXES = (".npy", ".zarr", ".nc")

Branch = Annotated[
    str | None, typer.Option("--branch", "-b", help="Which branch; the default branch if left out.", show_default=False)
]
Rev = Annotated[
    str | None, typer.Option("--rev", help="Branch, tag or commit; the default branch if left out.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = typer.Typer(no_args_is_help=True, help="List, make, import and export Zarr arrays.")
    for name, command in (("ls", ls), ("info", info), ("create", create), ("import", import_), ("export", export)):
        group.command(name)(command)
    app.add_typer(group, name="array", rich_help_panel=_PANEL)


def ls(ctx: typer.Context, rev: Rev = None, as_json: Json = False) -> None:
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
                _numbers(each["shape"]),
                _numbers(each["shards"] or each["chunks"]),
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
    rev: Rev = None,
    as_json: Json = False,
) -> None:
    """Show what is known of an array, or what a group holds."""
    with invocation_of(ctx).open().checkout(rev) as view:
        name = path.strip("/") or "/"
        if name in view.arrays:
            array = view.arrays[name]
            described = {**_describe(array), "fill_value": repr(array.fill_value), "attributes": dict(array.attrs)}
            if as_json:
                print_json({**described, "attributes": _json_ready(described["attributes"])})
                return
            for label, value in described.items():
                if value is not None and label != "attributes":
                    say(f"{label + ':':<16} {_numbers(value) if isinstance(value, list) else value}")
            for key, value in described["attributes"].items():
                say(f"  {key} = {value!r}")
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
        str | None, typer.Option(help="Shape of the chunks; what zarr finds good if left out.", show_default=False)
    ] = None,
    shards: Annotated[str | None, typer.Option(help="Shape of the shards, if any.", show_default=False)] = None,
    fill_value: Annotated[str, typer.Option(help="The value of what is not stored.")] = "0",
    dimensions: Annotated[str | None, typer.Option(help="Names, like time,lat,lon.", show_default=False)] = None,
    branch: Branch = None,
) -> None:
    """Stage a new array; groups above it are made as needed."""
    import numpy as np

    try:
        kind = np.dtype(dtype)
        fill = np.array(fill_value).astype(kind)[()] if kind.kind not in "US" or fill_value != "0" else kind.type()
    except (TypeError, ValueError) as error:
        raise UsageFailure(f"--dtype {dtype} with --fill-value {fill_value}: {error}") from error
    with _writer(ctx, branch) as writer:
        writer.create_array(
            path,
            shape=_shape("--shape", shape),
            dtype=kind,
            chunks=None if chunks is None else _shape("--chunks", chunks),
            shards=None if shards is None else _shape("--shards", shards),
            fill_value=fill,
            dimension_names=None if dimensions is None else dimensions.split(","),
        )
    say(f"Staged the new array {path}.")


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
    """Stage the arrays of a file: .npy as one array, .nc and .zarr as a group."""
    suffix = _suffix(source)
    if not source.exists():
        raise Failure(f"there is no {source}")
    target = (path if path is not None else source.stem).strip("/")
    with _writer(ctx, branch) as writer:
        taken = target in writer or any(each.startswith(target + "/") for each in writer)
        if taken and overwrite:
            confirm(f"Replace everything at {target}?", yes=yes)
            writer.remove(target)
        if suffix == ".npy":
            import numpy as np

            data = np.load(source, mmap_mode="r", allow_pickle=False)
            writer.create_array(target, shape=data.shape, dtype=data.dtype.newbyteorder("="))[...] = data
        elif suffix == ".zarr":
            _copy_group(_open_zarr(source), writer, target)
        else:
            with _xarray().open_dataset(source) as dataset:
                dataset.to_zarr(writer.store, group=target, mode="w-", zarr_format=3, consolidated=False)
    say(f"Staged {target}.")


def export(
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(help="Path of an array (.npy) or group (.nc, .zarr).", show_default=False)],
    target: Annotated[Path, typer.Argument(help="A .npy or .nc file, or a .zarr folder.", show_default=False)],
    rev: Rev = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
) -> None:
    """Write an array or group to a file."""
    suffix = _suffix(target)
    if target.exists() and not overwrite:
        raise Failure(f"{target} is there already; choose another name, or pass --overwrite")
    name = path.strip("/")
    with invocation_of(ctx).open().checkout(rev) as view:
        if suffix == ".npy":
            import numpy as np

            data = view.arrays[name or "/"][...]
            with target.open("wb") as stream:
                np.save(stream, data, allow_pickle=False)
        elif suffix == ".nc":
            dataset = _xarray().open_zarr(view.store, group=name or None, consolidated=False, chunks=None)
            dataset.to_netcdf(target)
        else:
            _export_zarr(view, name, target, overwrite=overwrite)
    say(f"Wrote {target}.")


# ---- trees and regions --------------------------------------------------------------------------------------------------


def hierarchy_lines(view: BaseCheckout, path: str = "") -> list[str]:
    """Return the hierarchy at a path as the lines of a tree: arrays with data type, shape and size."""
    table = view.node_table
    if path and path not in table and path not in table.children:
        return []
    lines: list[str] = []
    if not path and "/" in view.arrays:
        return [f"/  {_summary(view.arrays['/'])}"]

    def walk(above: str, indent: str) -> None:
        names = sorted(table.children.get(above, ()))
        for name in names:
            below = f"{above}/{name}" if above else name
            last = name == names[-1]
            text = f"{name}  {_summary(view.arrays[below])}" if below in view.arrays else f"{name}/"
            lines.append(f"{indent}{'└── ' if last else '├── '}{text}")
            walk(below, indent + ("    " if last else "│   "))

    walk(path, "")
    if not lines and not path:
        return []
    return [f"{path}/" if path else "/", *lines]


def region_text(region: tuple[slice, ...]) -> str:
    """Write a region as one types it: ``0:4, 8:16``."""
    return ", ".join(f"{part.start}:{part.stop}" for part in region) or "()"


def _summary(array: Array) -> str:
    return f"{array.dtype} ({_numbers(list(array.shape))})  {size(array.nbytes_stored)}"


# ---- details ------------------------------------------------------------------------------------------------------------


def _writer(ctx: typer.Context, branch: str | None) -> WriteCheckout:
    repo = invocation_of(ctx).open()
    return repo.checkout(branch or repo.default_branch, write=True)


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


def _json_ready(attributes: Any) -> Any:
    from hangarlake.arrays.metadata import storable

    return storable(attributes)


def _numbers(numbers: Any) -> str:
    return "" if numbers is None else ", ".join("·" if n is None else str(n) for n in numbers)


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


def _xarray() -> Any:
    from hangarlake.integrations import load

    load("xarray")
    import xarray

    return xarray


def _open_zarr(source: Path) -> Any:
    import zarr

    return zarr.open(store=str(source), mode="r")


def _copy_group(source: Any, writer: WriteCheckout, target: str) -> None:
    """Copy an array or group of zarr, of format 2 or 3, into the hierarchy."""
    import zarr

    if isinstance(source, zarr.Array):
        made = writer.create_array(
            target,
            shape=source.shape,
            dtype=source.dtype,
            chunks=source.chunks,
            shards=source.shards,
            fill_value=source.fill_value if source.fill_value is not None else 0,
            dimension_names=getattr(source.metadata, "dimension_names", None),
            attributes=dict(source.attrs),
        )
        _copy_data(source, made)
        return
    writer.create_group(target, attributes=dict(source.attrs))
    for name, member in source.members():
        _copy_group(member, writer, f"{target}/{name}" if target else name)


def _copy_data(source: Any, target: Any) -> None:
    """Copy row of chunks by row of chunks, so that memory stays small."""
    if not source.shape:
        target[...] = source[...]
        return
    step = (source.shards or source.chunks)[0]
    for start in range(0, source.shape[0], step):
        target[start : start + step] = source[start : start + step]


def _export_zarr(view: BaseCheckout, name: str, target: Path, *, overwrite: bool) -> None:
    import asyncio
    import shutil

    from zarr.core.buffer import default_buffer_prototype
    from zarr.storage import LocalStore

    if name and name not in view.node_table:
        view.arrays[name]  # raises, telling which there are
    if target.exists() and overwrite:
        shutil.rmtree(target)
    base = f"{name}/" if name else ""
    store, copied = view.store, LocalStore(target)

    async def copy() -> None:
        prototype = default_buffer_prototype()
        async for key in store.list_prefix(base):
            value = await store.get(key, prototype)
            if any(part in ("", ".", "..") for part in key.split("/")):
                raise Failure(f"key {key!r} would be written outside of {target}; nothing more was written")
            if value is not None:
                await copied.set(key[len(base) :], value)

    asyncio.run(copy())
