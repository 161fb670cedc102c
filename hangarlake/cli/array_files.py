"""Files of arrays, in and out: ``.npy`` (one array), ``.nc`` and ``.zarr`` (groups)."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hangarlake.cli.failures import Failure
from hangarlake.errors import HangarlakeError, NodeNotFoundError

if TYPE_CHECKING:
    from hangarlake.checkout import Checkout
    from hangarlake.write_checkout import WriteCheckout

__all__ = ["opened", "stage", "write"]


# ---- in -----------------------------------------------------------------------------------------------------------------


@contextmanager
def opened(source: Path, suffix: str) -> Iterator[Any]:
    """Open a file to be staged: a NumPy array, a Zarr array or group, or an xarray dataset."""
    if not source.exists():
        raise Failure(f"there is no {source}")
    try:
        data = _open(source, suffix)
    except (Failure, ImportError, MemoryError):
        raise
    except Exception as error:
        raise Failure(f"cannot read {source} as {suffix}: {error}") from error
    try:
        yield data
    finally:
        if hasattr(data, "close"):
            data.close()


def _open(source: Path, suffix: str) -> Any:
    if suffix == ".npy":
        from hangarlake.formats.numpy_files import NPY

        ((_, data),) = NPY.read(source)
        return data
    if suffix == ".zarr":
        import zarr

        return zarr.open(store=str(source), mode="r")
    xarray = _xarray()
    try:
        return xarray.open_dataset(source)
    except ValueError as error:
        # xarray lists its backends, of which none took the file.
        if "xarray's" not in str(error):
            raise
        raise Failure(
            f"{source} cannot be read as NetCDF; for NetCDF 4 install netcdf4 or h5netcdf (pip install netcdf4), or the file is damaged"
        ) from error


def stage(data: Any, writer: WriteCheckout, target: str, *, overwrite: bool) -> None:
    """Stage what :func:`opened` returned at a path. If it fails, what was staged there is dropped."""
    present = _at(writer, target)
    try:
        if overwrite and present:
            writer.remove(target)
        _stage(data, writer, target)
    except BaseException:
        if overwrite or not present:
            for name in {*present, *_at(writer, target)}:
                with suppress(NodeNotFoundError):
                    writer.reset(name)
        raise


def _at(writer: WriteCheckout, target: str) -> list[str]:
    return [name for name in writer if name == target or name.startswith(f"{target}/")]


def _stage(data: Any, writer: WriteCheckout, target: str) -> None:
    import numpy as np

    if isinstance(data, np.ndarray):
        writer.create_array(target, shape=data.shape, dtype=data.dtype.newbyteorder("="))[...] = data
    elif hasattr(data, "to_zarr"):
        data.to_zarr(writer.store, group=target, mode="w-", zarr_format=3, consolidated=False)
    else:
        _copy(data, writer, target)


def _copy(source: Any, writer: WriteCheckout, target: str) -> None:
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
        _copy(member, writer, f"{target}/{name}" if target else name)


def _copy_data(source: Any, target: Any) -> None:
    """Copy row of chunks by row of chunks, so that memory stays small."""
    if not source.shape:
        target[...] = source[...]
        return
    step = (source.shards or source.chunks)[0]
    for start in range(0, source.shape[0], step):
        target[start : start + step] = source[start : start + step]


# ---- out ----------------------------------------------------------------------------------------------------------------


def write(view: Checkout, name: str, target: Path, suffix: str) -> None:
    """Write an array or group of a checkout to a file, replacing one that is there when the new one is complete."""
    if suffix == ".npy":
        array = view.arrays[name or "/"]
    elif name and name not in view.node_table and name not in view.node_table.children:
        view.arrays[name]  # raises, telling which there are
    elif suffix == ".nc" and (name or "/") in view.arrays:
        raise Failure(f"{name or '/'} is an array, and .nc takes a group; write it as .npy or .zarr")
    with _beside(target) as part:
        if suffix == ".npy":
            _write_npy(array, part)
        elif suffix == ".zarr":
            _write_zarr(view, name, part)
        else:
            _write_netcdf(view, name, part)


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """Give a place beside a file to write to; it takes the file's place at the end, unless something fails."""
    part = target.with_name(f".hangarlake-{secrets.token_hex(8)}{target.suffix}")
    try:
        yield part
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        elif part.is_dir():
            target.unlink(missing_ok=True)
        part.replace(target)
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


def _write_npy(array: Any, part: Path) -> None:
    import numpy as np

    with part.open("xb") as stream:
        np.save(stream, array[...], allow_pickle=False)


def _write_netcdf(view: Checkout, name: str, part: Path) -> None:
    xarray = _xarray()
    try:
        xarray.open_zarr(view.store, group=name or None, consolidated=False, chunks=None).to_netcdf(part)
    except (HangarlakeError, OSError, MemoryError):
        raise
    except Exception as error:
        detail = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise Failure(f"{name or 'this group'} cannot be written as .nc: {detail}; .zarr takes every group") from error


def _write_zarr(view: Checkout, name: str, part: Path) -> None:
    import asyncio

    from zarr.core.buffer import default_buffer_prototype
    from zarr.storage import LocalStore

    base = f"{name}/" if name else ""
    store, copied = view.store, LocalStore(part)

    async def copy() -> None:
        prototype = default_buffer_prototype()
        async for key in store.list_prefix(base):
            value = await store.get(key, prototype)
            if any(part in ("", ".", "..") for part in key.split("/")):
                raise Failure(f"key {key!r} would be written outside of the folder; nothing was written")
            if value is not None:
                await copied.set(key[len(base) :], value)

    asyncio.run(copy())


def _xarray() -> Any:
    from hangarlake.integrations import load

    load("xarray")
    import xarray

    return xarray
